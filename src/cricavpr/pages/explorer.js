'use strict';
// The explorer of photos. Names are set as text or as attributes, never read as HTML.
(() => {
  const root = document.querySelector('.explorer');
  if (!root) return;
  const STEP = 300; // items of the list made at a time
  const data = JSON.parse(document.getElementById('data').textContent);
  const { items, orders, pictures } = data;
  const [list, panel, more, count] = ['.items', '.panel', '.more', 'output'].map((selector) => root.querySelector(selector));
  const map = root.querySelector('.cv-map'), selects = [...root.querySelectorAll('[data-filter]')], order = root.querySelector('.order');
  const byMarker = new Map(items.flatMap((item, n) => (item.marker === null ? [] : [[item.marker, n]])));
  const buttons = new Map(); // of the items in the list
  let found = [], chosen = -1;

  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const metres = (m) => (m === null ? 'unknown' : m < 9.95 ? `${m.toFixed(1)} m` : m < 999.5 ? `${m.toFixed(0)} m` : `${(m / 1000).toFixed(2)} km`);
  const address = (key) => (Object.hasOwn(pictures, key) ? pictures[key] : '');
  const picture = (key, alt, attributes = {}) => (address(key)
    ? make('img', { src: address(key), alt, title: alt, ...attributes }) : make('span', { class: 'none', title: alt }, 'no picture'));
  const off = (m, right) => make('span', { class: `off ${right ? 'right' : 'wrong'}` }, metres(m));

  // --- the list
  function entry(n) {
    const item = items[n], first = item.matches[0];
    const thumbs = [picture(item.picture, '', { loading: 'lazy' }), ...(map || !first ? [] : [picture(first.picture, '', { loading: 'lazy' })])];
    const button = make('button', { type: 'button', tabindex: -1 }, make('span', { class: 'thumbs' }, ...thumbs),
      make('span', { class: 'name' }, item.name), make('span', { class: 'note' }, item.note), off(item.off_m, item.right));
    button.addEventListener('click', () => choose(n, 'list'));
    buttons.set(n, button);
    return make('li', {}, button);
  }
  function fill(least = STEP) {
    const from = list.children.length;
    list.append(...found.slice(from, Math.max(least, from + STEP)).map(entry));
    more.hidden = list.children.length >= found.length;
    reachable();
  }
  function filter() {
    const wanted = selects.map((select) => [select.dataset.filter, select.value]).filter(([, value]) => value);
    const { by, descending } = orders[Number(order.value)];
    const last = descending ? -Infinity : Infinity, number = (n) => items[n].numbers[by] ?? last;
    found = items.flatMap((item, n) => (wanted.every(([name, value]) => (item.groups[name] ?? []).includes(value)) ? [n] : []));
    if (by) found.sort((a, b) => (descending ? number(b) - number(a) : number(a) - number(b)) || a - b);
    list.replaceChildren();
    buttons.clear();
    fill();
    list.scrollTop = 0;
    const all = found.length === items.length ? '' : ` of ${items.length.toLocaleString('en')}`;
    count.textContent = `${found.length.toLocaleString('en')}${all} ${root.dataset.noun}`;
    const shown = new Set(found.map((n) => items[n].marker));
    map?.cricavpr.keep((marker) => !byMarker.has(marker) || shown.has(marker));
  }
  function reachable() { // one stop for the Tab key, and it is always there
    for (const [n, button] of buttons) {
      button.tabIndex = n === chosen ? 0 : -1;
      if (n === chosen) button.setAttribute('aria-current', 'true'); else button.removeAttribute('aria-current');
    }
    if (!buttons.has(chosen) && list.firstChild) list.firstChild.firstChild.tabIndex = 0;
  }
  function keep_in_list(n) { // scroll the list alone, never the page
    const place = found.indexOf(n);
    if (place >= list.children.length) fill(place + 1);
    const item = list.children[place];
    if (!item) return;
    const top = item.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + item.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 2;
  }
  list.addEventListener('keydown', (event) => {
    const here = [...list.children].findIndex((item) => item.contains(event.target));
    const to = { ArrowDown: here + 1, ArrowRight: here + 1, ArrowUp: here - 1, ArrowLeft: here - 1, Home: 0, End: list.children.length - 1 }[event.key];
    if (to === undefined || !list.children[to]) return;
    event.preventDefault();
    list.children[to].firstChild.focus();
  });

  // --- the panel
  function figure(key, alt, caption) {
    return make('figure', {}, picture(key, alt), make('figcaption', {}, caption));
  }
  function match_item(match, n) {
    return make('li', {}, make('span', { class: 'n' }, `${n + 1}`), picture(match.picture, match.name),
      make('span', {}, `score ${match.score.toFixed(3)}`, make('small', {}, match.note)), off(match.off_m, match.right));
  }
  function choose(n, from) {
    chosen = n;
    const item = items[n], [first] = item.matches;
    panel.querySelector('h3').textContent = item.note ? `${item.name} · ${item.note}` : item.name;
    const verdict = panel.querySelector('.verdict');
    verdict.className = `verdict ${item.right ? 'right' : 'wrong'}`;
    verdict.textContent = item.verdict;
    panel.querySelector('.details').replaceChildren(
      make('div', { class: 'pictures' }, figure(item.picture, `The photo ${item.name}`, 'the photo'),
        ...(first ? [figure(first.picture, `The best match ${first.name}`, 'best match')] : []),
        ...(item.truth ? [figure(item.truth[0], 'The true place', item.truth[1])] : [])),
      make('dl', { class: 'facts' }, ...item.facts.flatMap(([term, said]) => [make('dt', {}, term), make('dd', {}, said)])),
      ...(item.matches.length > 1 ? [make('h4', {}, `First ${item.matches.length} matches`)] : []),
      ...(item.matches.length > 1 ? [make('ol', { class: 'matches' }, ...item.matches.map(match_item))] : []));
    reachable();
    const markers = item.matches.map((match) => match.marker).filter((marker) => marker !== null);
    if (item.marker !== null) map?.cricavpr.choose(item.marker, markers, item.right ? 'right' : 'wrong');
    if (from !== 'list') keep_in_list(n);
    reachable();
    if (from === 'start') return;
    history.replaceState(null, '', `#${encodeURIComponent(item.picture)}`);
    if (from !== 'map' && item.marker !== null) map?.cricavpr.bring([item.marker, ...markers.slice(0, 1)]);
    const box = panel.getBoundingClientRect(), calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (box.top > innerHeight - 160 || box.bottom < 160) panel.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
  }

  for (const select of [...selects, order]) select.addEventListener('change', filter);
  more.addEventListener('click', () => fill());
  for (const button of root.querySelectorAll('.presets button')) button.addEventListener('click', () => {
    const n = button.dataset.item === 'any' ? found[Math.floor(Math.random() * found.length)] : Number(button.dataset.item);
    if (n === undefined) return;
    if (!found.includes(n)) {
      for (const select of selects) select.value = select.options[0].value ? items[n].groups[select.dataset.filter][0] : '';
      filter();
    }
    choose(n, 'preset');
  });
  if (map) {
    map.cricavpr.photo = (marker) => address(items[byMarker.get(marker)]?.picture);
    map.cricavpr.says = (marker) => {
      const item = items[byMarker.get(marker)];
      return item ? `${item.name} · ${item.note} · ${item.verdict}` : null;
    };
    map.addEventListener('cv-open', (event) => { if (byMarker.has(event.detail)) { event.preventDefault(); choose(byMarker.get(event.detail), 'map'); } });
  }
  filter(); // a browser may have kept the choices of an earlier visit
  const asked = items.findIndex((item) => `#${encodeURIComponent(item.picture)}` === location.hash);
  if (items.length) choose(asked >= 0 ? asked : data.first, 'start');
})();
