'use strict';
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($('data').textContent);
  const queries = data.queries, base = data.database;
  const map = $('map'), ns = map.namespaceURI, frame = map.parentElement;
  const pins = [...map.querySelectorAll('.query')];
  const lines = [...$('lines').children];
  const list = $('answers'), items = [...list.children], buttons = items.map((item) => item.firstElementChild);
  const picture = (key) => (Object.hasOwn(data.pictures, key) ? `data:image/jpeg;base64,${data.pictures[key]}` : 'data:,');
  const degrees = (at) => `${at[0].toFixed(6)}, ${at[1].toFixed(6)}`;
  const metres = (m) => (m < 9.95 ? `${m.toFixed(1)} m` : m < 999.5 ? `${m.toFixed(0)} m` : `${(m / 1000).toFixed(2)} km`);
  const file = (key) => key.slice(key.lastIndexOf('/') + 1);
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  let chosen = -1;

  // Everything is set as text or as an attribute: no name of a file is ever read as HTML.
  function make(tag, attributes, ...children) {
    const element = tag[0] === '<' ? document.createElementNS(ns, tag.slice(1)) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // --- the view: a viewBox that is dragged and zoomed
  const [x0, y0, w0, h0] = map.getAttribute('viewBox').split(' ').map(Number);
  let view = { x: x0, y: y0, w: w0, h: h0 };
  let unit = 1; // metres per pixel

  function show(next) {
    const box = map.getBoundingClientRect();
    const least = Math.max(w0 / box.width, h0 / box.height); // metres per pixel that show the whole town
    unit = Math.min(Math.max(next.unit, 0.12), least);
    view = { w: unit * box.width, h: unit * box.height };
    view.x = within(next.cx, x0, w0, view.w) - view.w / 2;
    view.y = within(next.cy, y0, h0, view.h) - view.h / 2;
    map.setAttribute('viewBox', `${view.x} ${view.y} ${view.w} ${view.h}`);
    map.style.setProperty('--px', unit);
    furnish();
    tip(-1); // it would stay behind
  }
  const within = (centre, start, length, seen) =>
    seen >= length ? start + length / 2 : Math.min(Math.max(centre, start + seen / 2), start + length - seen / 2);
  const centre = () => ({ cx: view.x + view.w / 2, cy: view.y + view.h / 2, unit });
  const whole = () => show({ cx: x0 + w0 / 2, cy: y0 + h0 / 2, unit: Infinity });

  function zoom(factor, at) {
    const next = unit * factor, c = centre();
    if (!at) return show({ ...c, unit: next });
    const real = Math.max(next, 0.12) / unit; // keep the point under the pointer where it is
    show({ cx: at.x + (c.cx - at.x) * real, cy: at.y + (c.cy - at.y) * real, unit: next });
  }

  function furnish() { // scale bar and north arrow stay in their corners
    const most = 110 * unit, power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((step) => step * power <= most) * power;
    const scale = $('scale'), [plate, bar, text] = scale.firstElementChild.children;
    scale.setAttribute('transform', `translate(${view.x + 14 * unit} ${view.y + view.h - 16 * unit})`);
    plate.setAttribute('width', length / unit + 14);
    bar.setAttribute('d', `M0-4V2H${length / unit}V-4`);
    text.setAttribute('x', length / unit / 2);
    text.textContent = length < 1000 ? `${length} m` : `${length / 1000} km`;
    $('north').setAttribute('transform', `translate(${view.x + view.w - 26 * unit} ${view.y + 28 * unit})`);
  }

  function bring(points) { // into view, moving only when something is outside
    const pad = 30 * unit;
    if (points.every(([x, y]) => x > view.x + pad && x < view.x + view.w - pad && y > view.y + pad && y < view.y + view.h - pad)) return;
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const box = map.getBoundingClientRect();
    const need = Math.max((right - left) / (box.width - 90), (bottom - top) / (box.height - 90));
    show({ cx: (left + right) / 2, cy: (top + bottom) / 2, unit: Math.max(unit, need) });
  }

  const at = (event) => {
    const box = map.getBoundingClientRect();
    return { x: view.x + (event.clientX - box.left) * unit, y: view.y + (event.clientY - box.top) * unit };
  };
  const place = (q) => [queries[q].at[2], -queries[q].at[3]];
  const shown = (q) => !items[q].hidden;

  function nearest(event, reach) {
    const p = at(event);
    let best = -1, least = reach * unit;
    queries.forEach((_, q) => {
      const [x, y] = place(q), d = Math.hypot(x - p.x, y - p.y);
      if (d <= least && shown(q)) { best = q; least = d; }
    });
    return best;
  }

  // --- pointer: drag, pinch, hover, click
  const pointers = new Map();
  let moved = false;
  map.addEventListener('pointerdown', (event) => {
    if (!pointers.size) moved = false;
    pointers.set(event.pointerId, event);
  });
  map.addEventListener('pointermove', (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) { // hovering
      const q = event.pointerType === 'touch' ? -1 : nearest(event, 11);
      map.classList.toggle('over', q >= 0);
      return tip(q);
    }
    const dx = event.clientX - before.clientX, dy = event.clientY - before.clientY;
    if (!moved && Math.hypot(dx, dy) < 4) return;
    if (!moved) { moved = true; map.setPointerCapture(event.pointerId); map.classList.add('dragged'); tip(-1); }
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
  const lift = (event) => { pointers.delete(event.pointerId); if (!pointers.size) map.classList.remove('dragged'); };
  for (const kind of ['pointerup', 'pointercancel', 'pointerleave']) map.addEventListener(kind, (event) => {
    if (kind !== 'pointerleave' || !map.hasPointerCapture(event.pointerId)) lift(event);
    if (kind === 'pointerleave') tip(-1);
  });
  map.addEventListener('click', (event) => {
    if (moved) { moved = false; return; }
    const q = event.detail === 0 ? Number(event.target.closest('.query')?.dataset.q ?? -1) : nearest(event, 18);
    if (q >= 0) choose(q, 'map');
  });
  map.addEventListener('dblclick', (event) => { event.preventDefault(); zoom(0.5, at(event)); });
  map.addEventListener('wheel', (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the plain wheel scrolls the page
    event.preventDefault();
    zoom(Math.exp(Math.min(Math.max(event.deltaY, -60), 60) / 120), at(event));
  }, { passive: false });

  function tip(q) {
    const box = $('tip');
    box.hidden = q < 0;
    if (q < 0) return;
    const query = queries[q], [x, y] = place(q);
    box.firstElementChild.src = picture(query.key);
    box.lastElementChild.textContent = `${file(query.key)} · ${query.when} · ${query.matches[0].right ? '✓' : '✕'} ${metres(query.matches[0].off)} off`;
    const px = (x - view.x) / unit, py = (y - view.y) / unit;
    box.style.left = `${Math.max(4, px + 250 > frame.clientWidth ? px - 245 : px + 14)}px`;
    box.style.top = `${Math.min(Math.max(4, py - 44), frame.clientHeight - 96)}px`;
  }

  // --- keyboard on the map: arrows go to the nearest query that way
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  map.addEventListener('keydown', (event) => {
    const pin = event.target.closest('.query');
    if (event.key === '+' || event.key === '=') zoom(0.6);
    else if (event.key === '-') zoom(1 / 0.6);
    else if (event.key === '0') whole();
    else if (pin && (event.key === 'Enter' || event.key === ' ')) choose(Number(pin.dataset.q), 'map');
    else if (pin && ways[event.key]) step(Number(pin.dataset.q), ways[event.key]);
    else return;
    event.preventDefault();
  });
  function step(from, [wx, wy]) {
    const [x, y] = place(from);
    let best = -1, least = Infinity;
    queries.forEach((_, q) => {
      const dx = place(q)[0] - x, dy = place(q)[1] - y, ahead = dx * wx + dy * wy, aside = Math.abs(dx * wy) + Math.abs(dy * wx);
      const cost = ahead + 2 * aside;
      if (q !== from && shown(q) && ahead > aside * 0.5 && cost < least) { best = q; least = cost; }
    });
    if (best >= 0) { bring([place(best)]); reach(pins, best); }
  }
  function reach(group, q) { // one stop for the Tab key in each group
    for (const element of group) if (element.tabIndex === 0) element.tabIndex = -1;
    group[q].tabIndex = 0;
    group[q].focus({ preventScroll: group === pins });
  }
  map.addEventListener('focusin', (event) => {
    const pin = event.target.closest('.query');
    if (pin && pin.matches(':focus-visible')) tip(Number(pin.dataset.q));
  });
  map.addEventListener('focusout', () => tip(-1));

  // --- the panel
  function choose(q, from) {
    chosen = q;
    const query = queries[q], first = query.matches[0], truth = base[query.nearest];
    $('p-title').textContent = `${file(query.key)} · ${query.when}`;
    $('p-verdict').className = `verdict ${first.right ? 'right' : 'wrong'}`;
    $('p-verdict').textContent = first.right ? `placed ${metres(first.off)} from where it was taken` : `placed ${metres(first.off)} away: the wrong place`;
    picture_in('p-query', query.key, `The query, ${query.when}`);
    picture_in('p-first', base[first.row].key, 'The best match');
    picture_in('p-truth', truth.key, 'The database picture of the true place');
    const rank = query.matches.findIndex((match) => match.right);
    $('p-truth-text').textContent = first.row === query.nearest ? 'truly there: the same' : rank > 0 ? `truly there: match ${rank + 1}` : 'truly there: not found';
    $('p-taken').textContent = degrees(query.at);
    $('p-placed').textContent = degrees(base[first.row].at);
    $('p-matches').replaceChildren(...query.matches.map(match_item));
    mark(query);
    buttons.forEach((button, n) => (n === q ? button.setAttribute('aria-current', 'true') : button.removeAttribute('aria-current')));
    for (const group of [pins, buttons]) group.forEach((element, n) => { element.tabIndex = n === q ? 0 : -1; });
    if (from === 'start') return keep_in_list(q);
    history.replaceState(null, '', `#${encodeURIComponent(query.key)}`);
    if (from !== 'map') bring([place(q), spot(first.row)]);
    if (from !== 'list') keep_in_list(q);
    const box = $('panel').getBoundingClientRect();
    if (box.top > innerHeight - 160 || box.bottom < 160) $('panel').scrollIntoView({ behavior: calm.matches ? 'auto' : 'smooth', block: 'start' });
  }
  function picture_in(id, key, alt) {
    $(id).src = picture(key);
    $(id).alt = `${alt}: ${file(key)}`;
  }
  function match_item(match, n) {
    const photo = base[match.row];
    return make('li', {},
      make('span', { class: 'n' }, `${n + 1}`),
      make('img', { src: picture(photo.key), alt: `Match ${n + 1}: ${file(photo.key)}` }),
      make('span', {}, `score ${match.score.toFixed(3)}`, make('br', {}), make('small', {}, degrees(photo.at))),
      make('span', { class: `off ${match.right ? 'right' : 'wrong'}` }, metres(match.off)));
  }
  function keep_in_list(q) { // scroll the list alone, never the page
    const item = items[q], top = item.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 2;
  }
  const spot = (row) => [base[row].at[2], -base[row].at[3]];
  function mark(query) {
    map.classList.add('chosen');
    const [x, y] = [query.at[2], -query.at[3]], first = query.matches[0], [px, py] = spot(first.row);
    const d = `M${x} ${y}L${px} ${py}`;
    const ranks = query.matches.map((match, n) => {
      const [mx, my] = spot(match.row);
      const box = { x: -7, y: -22, width: 14, height: 14, rx: 3 };
      return make('<g', { class: n ? 'rank' : 'rank first', transform: `translate(${mx} ${my})` },
        make('<g', { class: 'pin' }, make('<path', { class: 'stem', d: 'M0-8V0' }), make('<rect', box), make('<text', { y: -11 }, `${n + 1}`)));
    }).reverse();
    $('chosen').replaceChildren(
      make('<path', { class: 'halo', d }), make('<path', { class: first.right ? 'right' : 'wrong', d }), ...ranks,
      make('<g', { transform: `translate(${x} ${y})` }, make('<g', { class: 'pin' }, make('<circle', { class: 'ring', r: 9.5 }))));
  }

  // --- the list
  list.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (button) choose(buttons.indexOf(button), 'list');
  });
  list.addEventListener('keydown', (event) => {
    const order = [...list.children].filter((item) => !item.hidden), here = order.findIndex((item) => item.contains(event.target));
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: order.length - 1 }[event.key];
    if (to === undefined || !order[to]) return;
    event.preventDefault();
    reach(buttons, items.indexOf(order[to]));
  });
  function filter() {
    const verdict = $('f-verdict').value, when = $('f-condition').value, sort = $('f-sort').value;
    const first = (q) => queries[q].matches[0];
    queries.forEach((query, q) => {
      const fits = (verdict === 'all' || (verdict === 'right') === first(q).right) && (when === 'all' || when === query.when);
      items[q].hidden = !fits;
      pins[q].classList.toggle('off-stage', !fits);
      lines[q].classList.toggle('off-stage', !fits);
    });
    const by = {
      name: (a, b) => a - b, worst: (a, b) => first(b).off - first(a).off,
      best: (a, b) => first(a).off - first(b).off, score: (a, b) => first(b).score - first(a).score,
    }[sort];
    list.append(...queries.map((_, q) => q).sort(by).map((q) => items[q]));
    const left = items.filter((item) => !item.hidden).length;
    $('count').textContent = left === queries.length ? `${left} queries` : `${left} of ${queries.length} queries`;
    const reachable = (group, ok) => { // the Tab key must always find one that is there
      if (group.some((element, q) => element.tabIndex === 0 && ok(q))) return;
      group.forEach((element) => { element.tabIndex = -1; });
      const q = items.indexOf([...list.children].find((item) => !item.hidden));
      if (q >= 0) group[q].tabIndex = 0;
    };
    reachable(buttons, shown);
    reachable(pins, shown);
    list.scrollTop = 0;
  }
  for (const id of ['f-verdict', 'f-condition', 'f-sort']) $(id).addEventListener('change', filter);
  for (const button of document.querySelectorAll('.presets button')) button.addEventListener('click', () => {
    const target = button.dataset.q === undefined ? Math.floor(Math.random() * queries.length) : Number(button.dataset.q);
    if (!shown(target)) { $('f-verdict').value = $('f-condition').value = 'all'; filter(); }
    choose(target, 'preset');
  });
  $('zoom-in').addEventListener('click', () => zoom(0.6));
  $('zoom-out').addEventListener('click', () => zoom(1 / 0.6));
  $('zoom-all').addEventListener('click', whole);
  new ResizeObserver(() => show(centre())).observe(map);

  queries.forEach((query, q) => buttons[q].prepend(make('img', { src: picture(query.key), alt: '', width: 40, height: 40, loading: 'lazy' })));
  whole();
  filter(); // a browser may have kept the choices of an earlier visit
  const asked = queries.findIndex((query) => `#${encodeURIComponent(query.key)}` === location.hash);
  choose(asked >= 0 ? asked : data.shown, 'start');
})();
