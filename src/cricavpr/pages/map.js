'use strict';
// Brings every map of the document to life. Names are set as text or as attributes, never read as HTML.
(() => {
  const LEAST_UNIT = 0.02; // metres per pixel
  const MANY = 5000; // more dots than that are drawn on a canvas, because SVG becomes slow
  const make = (tag, attributes, ...children) => {
    const element = tag[0] === '<'
      ? document.createElementNS('http://www.w3.org/2000/svg', tag.slice(1)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  function start(root) {
    const svg = root.querySelector('svg'), frame = svg.parentElement, tip = root.querySelector('.cv-tip');
    const over = svg.querySelector('.cv-over'), lines = [...svg.querySelectorAll('[data-of]')];
    const [x0, y0, w0, h0] = svg.getAttribute('viewBox').split(' ').map(Number);
    const marks = []; // by number: place, name and photo
    let view = { x: x0, y: y0, w: w0, h: h0 };
    let unit = Number(root.dataset.unit); // metres per pixel
    let keep = () => true, current = null, chosen = null;

    // --- the marks: one path for each look; steps in pixels follow the place of each mark
    const data = JSON.parse(root.querySelector('script').textContent);
    const paths = [...svg.querySelectorAll('.cv-mark')].map((path, look) => {
      const { numbers, names = [], photos = {} } = data[look];
      const own = path.getAttribute('d').slice(1).split('M').map((part, place) => {
        const [, x, y, steps] = /^(\S+) (-?[\d.]+)(.*)$/.exec(part);
        const mark = {
          number: numbers[place], name: names[place] ?? '', photo: photos[place] ?? '', x: Number(x), y: Number(y),
          steps: steps === 'h 0.00' ? null : steps.split(/(-?[\d.]+)/).map((step, n) => (n % 2 ? Number(step) / unit : step)),
        };
        marks[mark.number] = mark;
        return mark;
      });
      return { path, own, scaled: own.some((mark) => mark.steps) };
    });
    const dots = paths.filter(({ own, scaled }) => own.length > MANY && !scaled);
    const canvas = dots.length ? make('canvas', {}) : null;
    if (canvas) {
      frame.prepend(canvas);
      for (const { path } of dots) path.setAttribute('d', ''); // it stays for its colour and width
    }
    function paint() {
      if (!canvas) return;
      const scale = devicePixelRatio, context = canvas.getContext('2d');
      canvas.width = frame.clientWidth * scale;
      canvas.height = frame.clientHeight * scale;
      for (const { path, own } of dots) {
        const style = getComputedStyle(path), size = parseFloat(style.strokeWidth) * scale;
        context.fillStyle = style.stroke;
        for (const m of own) {
          const x = ((m.x - view.x) / unit) * scale, y = ((m.y - view.y) / unit) * scale;
          if (x > 0 && y > 0 && x < canvas.width && y < canvas.height && keep(m.number)) context.fillRect(x - size / 2, y - size / 2, size, size);
        }
      }
    }
    const steps = (mark) => (mark.steps ? mark.steps.map((step, n) => (n % 2 ? ` ${(step * unit).toPrecision(4)}` : step)).join('') : 'h0');
    const stamp = (all) => {
      for (const { path, own, scaled } of paths) {
        if (scaled || (all && !dots.some((dot) => dot.path === path))) path.setAttribute('d', own.filter((m) => keep(m.number)).map((m) => `M${m.x} ${m.y}${steps(m)}`).join(''));
      }
    };

    // --- the view: a viewBox that is dragged and zoomed
    const whole = () => show({ cx: x0 + w0 / 2, cy: y0 + h0 / 2, unit: Infinity });
    const centre = () => ({ cx: view.x + view.w / 2, cy: view.y + view.h / 2, unit });
    const within = (middle, from, length, seen) =>
      seen >= length ? from + length / 2 : Math.min(Math.max(middle, from + seen / 2), from + length - seen / 2);
    function show(next) {
      const box = svg.getBoundingClientRect();
      if (!box.width || !box.height) return;
      const before = unit;
      unit = Math.min(Math.max(next.unit, LEAST_UNIT), Math.max(w0 / box.width, h0 / box.height));
      view = { w: unit * box.width, h: unit * box.height };
      view.x = within(next.cx, x0, w0, view.w) - view.w / 2;
      view.y = within(next.cy, y0, h0, view.h) - view.h / 2;
      svg.setAttribute('viewBox', `${view.x} ${view.y} ${view.w} ${view.h}`);
      if (unit !== before) stamp(false);
      paint();
      furnish();
      mark();
      hint(null); // it would stay behind
    }
    function zoom(factor, at) {
      const c = centre(), next = Math.max(unit * factor, LEAST_UNIT), real = next / unit;
      show(at ? { cx: at.x + (c.cx - at.x) * real, cy: at.y + (c.cy - at.y) * real, unit: next } : { ...c, unit: next });
    }
    function furnish() { // scale bar and north arrow stay in their corners
      const most = 110 * unit, power = 10 ** Math.floor(Math.log10(most));
      const length = [5, 2, 1].find((step) => step * power <= most) * power;
      const [scale, north] = [svg.querySelector('.cv-scale'), svg.querySelector('.cv-north')];
      const [plate, bar, text] = scale.children;
      scale.setAttribute('transform', `translate(${view.x + 14 * unit} ${view.y + view.h - 16 * unit}) scale(${unit})`);
      north.setAttribute('transform', `translate(${view.x + view.w - 26 * unit} ${view.y + 28 * unit}) scale(${unit})`);
      plate.setAttribute('width', length / unit + 14);
      bar.setAttribute('d', `M0-4V2H${length / unit}V-4`);
      text.setAttribute('x', length / unit / 2);
      text.textContent = length < 1000 ? `${Number(length.toPrecision(1))} m` : `${length / 1000} km`;
    }
    function bring(numbers) { // into view, moving only when something is outside
      const points = numbers.map((n) => marks[n]).filter(Boolean), pad = 30 * unit;
      if (!points.length || points.every((p) => p.x > view.x + pad && p.x < view.x + view.w - pad
        && p.y > view.y + pad && p.y < view.y + view.h - pad)) return;
      const xs = points.map((p) => p.x), ys = points.map((p) => p.y), box = svg.getBoundingClientRect();
      const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
      const need = Math.max((right - left) / Math.max(60, box.width - 90), (bottom - top) / Math.max(60, box.height - 90));
      show({ cx: (left + right) / 2, cy: (top + bottom) / 2, unit: Math.max(unit, need) });
    }

    // --- what is chosen, and where the keyboard is
    function mark() {
      const at = (m) => `translate(${m.x} ${m.y}) scale(${unit})`;
      const parts = [];
      if (chosen && marks[chosen.from]) {
        const from = marks[chosen.from], to = chosen.to.map((n) => marks[n]).filter(Boolean);
        if (to.length) {
          const d = `M${from.x} ${from.y}L${to[0].x} ${to[0].y}`;
          parts.push(make('<path', { class: 'cv-halo', d }), make('<path', { class: `cv-line cv-${chosen.look}`, d }));
        }
        to.map((m, n) => make('<g', { class: n ? 'cv-rank' : 'cv-rank cv-first', transform: at(m) },
          make('<path', { d: 'M0-8V0' }), make('<rect', { x: -7, y: -22, width: 14, height: 14, rx: 3 }),
          make('<text', { y: -11 }, `${n + 1}`))).reverse().forEach((rank) => parts.push(rank));
        parts.push(make('<circle', { class: 'cv-ring', r: 9.5, transform: at(from) }));
      }
      if (current) parts.push(make('<circle', { class: 'cv-cursor', r: 12, transform: at(current) }));
      over.replaceChildren(...parts);
    }
    function hint(mark) {
      tip.hidden = !mark || !(mark.name || mark.photo);
      if (tip.hidden) return;
      const photo = mark.photo || root.cricavpr.photo(mark.number);
      tip.replaceChildren(...(photo ? [make('img', { src: photo, alt: '' })] : []), make('span', {}, root.cricavpr.says(mark.number) ?? mark.name));
      const px = (mark.x - view.x) / unit, py = (mark.y - view.y) / unit;
      tip.style.left = `${Math.max(4, px + 250 > frame.clientWidth ? px - tip.offsetWidth - 14 : px + 14)}px`;
      tip.style.top = `${Math.min(Math.max(4, py - 44), Math.max(4, frame.clientHeight - tip.offsetHeight - 4))}px`;
    }
    function open(mark) {
      const event = new CustomEvent('cv-open', { detail: mark.number, cancelable: true });
      if (!root.dispatchEvent(event) || !mark.photo) return;
      const close = make('button', { type: 'button' }, 'Close');
      const dialog = make('dialog', { class: 'cv-photo' }, make('img', { src: mark.photo, alt: mark.name }), make('p', {}, mark.name), close);
      root.append(dialog);
      dialog.addEventListener('click', () => dialog.close());
      dialog.addEventListener('close', () => { dialog.remove(); svg.focus(); });
      dialog.showModal();
    }
    function nearest(p, reach) {
      let best = null, least = reach * unit;
      for (const m of marks) {
        if (!m || !(m.name || m.photo) || !keep(m.number)) continue;
        const d = Math.hypot(m.x - p.x, m.y - p.y);
        if (d <= least) { best = m; least = d; }
      }
      return best;
    }

    // --- pointer: drag, pinch, hover, click
    const at = (event) => {
      const box = svg.getBoundingClientRect();
      return { x: view.x + (event.clientX - box.left) * unit, y: view.y + (event.clientY - box.top) * unit };
    };
    const pointers = new Map();
    let moved = false;
    svg.addEventListener('pointerdown', (event) => {
      if (!pointers.size) moved = false;
      pointers.set(event.pointerId, event);
    });
    svg.addEventListener('pointermove', (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) { // hovering
        const m = event.pointerType === 'touch' ? null : nearest(at(event), 11);
        svg.classList.toggle('cv-hit', Boolean(m));
        return hint(m);
      }
      const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
      if (!moved && Math.hypot(dx, dy) < 4) return;
      if (!moved) { moved = true; svg.setPointerCapture(event.pointerId); svg.classList.add('cv-dragged'); }
      if (pointers.size === 2) {
        const other = [...pointers.values()].find((p) => p.pointerId !== event.pointerId);
        const span = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
        zoom(span(before) / span(event), at({ clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 }));
      } else {
        const c = centre();
        show({ ...c, cx: c.cx - dx * unit, cy: c.cy - dy * unit });
      }
      pointers.set(event.pointerId, event);
    });
    for (const kind of ['pointerup', 'pointercancel', 'pointerleave']) svg.addEventListener(kind, (event) => {
      if (kind === 'pointerleave') hint(null);
      if (kind === 'pointerleave' && svg.hasPointerCapture(event.pointerId)) return;
      pointers.delete(event.pointerId);
      if (!pointers.size) svg.classList.remove('cv-dragged');
    });
    svg.addEventListener('click', (event) => {
      const m = moved ? null : nearest(at(event), 18);
      moved = false;
      if (m) { current = m; mark(); open(m); }
    });
    svg.addEventListener('dblclick', (event) => { event.preventDefault(); zoom(0.5, at(event)); });
    svg.addEventListener('wheel', (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the plain wheel scrolls the page
      event.preventDefault();
      zoom(Math.exp(Math.min(Math.max(event.deltaY, -60), 60) / 120), at(event));
    }, { passive: false });

    // --- keyboard: arrows go to the nearest mark that way, with Shift they move the map
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    svg.addEventListener('keydown', (event) => {
      const way = ways[event.key], c = centre();
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === '+' || event.key === '=') zoom(0.6);
      else if (event.key === '-') zoom(1 / 0.6);
      else if (event.key === '0') whole();
      else if (way && event.shiftKey) show({ cx: c.cx + way[0] * view.w / 5, cy: c.cy + way[1] * view.h / 5, unit });
      else if (way) step(way);
      else if (current && (event.key === 'Enter' || event.key === ' ')) open(current);
      else return;
      event.preventDefault();
    });
    function step([wx, wy]) {
      const from = current ?? nearest({ x: view.x + view.w / 2, y: view.y + view.h / 2 }, Infinity);
      let best = current ? null : from, least = Infinity;
      if (current) for (const m of marks) {
        if (!m || m === from || !(m.name || m.photo) || !keep(m.number)) continue;
        const dx = m.x - from.x, dy = m.y - from.y, ahead = dx * wx + dy * wy, aside = Math.abs(dx * wy) + Math.abs(dy * wx);
        if (ahead > aside * 0.5 && ahead + 2 * aside < least) { best = m; least = ahead + 2 * aside; }
      }
      if (!best) return;
      current = best;
      bring([best.number]);
      mark();
      hint(best);
    }
    svg.addEventListener('blur', () => { current = null; mark(); hint(null); });

    const [closer, wider, all] = root.querySelectorAll('.cv-zoom button');
    closer.addEventListener('click', () => zoom(0.6));
    wider.addEventListener('click', () => zoom(1 / 0.6));
    all.addEventListener('click', whole);

    // For the script of a page: marks and lines are called by the number of the marker.
    root.cricavpr = {
      bring,
      keep(test) { keep = test; stamp(true); paint(); lines.forEach((line) => line.classList.toggle('cv-hidden', !test(Number(line.dataset.of)))); },
      choose(from, to, look) { chosen = { from, to, look }; svg.classList.add('cv-chosen'); mark(); },
      photo: () => '', // address of a picture that is not in the map itself
      says: () => null, // words instead of the name
    };
    root.dataset.live = '';
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);
    let first = true;
    new ResizeObserver(() => { if (first) whole(); else show(centre()); first = false; }).observe(svg);
  }

  for (const root of document.querySelectorAll('.cv-map:not([data-live])')) start(root);
})();
