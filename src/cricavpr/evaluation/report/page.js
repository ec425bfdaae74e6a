'use strict';
(() => {
  const $ = (id) => document.getElementById(id);
  const list = $('failures');
  if (!list) return;
  const data = JSON.parse($('data').textContent);
  const STEP = 60; // cards made at a time
  let shown = STEP;
  const last = Number.MAX_VALUE;
  const number = (value) => (value === null ? last : value);
  const orders = {
    order: (a, b) => a.index - b.index,
    far: (a, b) => (b.distance_m ?? -1) - (a.distance_m ?? -1),
    near: (a, b) => number(a.distance_m) - number(b.distance_m),
    score: (a, b) => (b.score ?? -last) - (a.score ?? -last),
    rank: (a, b) => number(a.first_right_rank) - number(b.first_right_rank),
    shared: (a, b) => b.shared - a.shared,
  };
  const metres = (m) => (m === null ? 'unknown' : m < 9.95 ? `${m.toFixed(1)} m` : m < 999.5 ? `${m.toFixed(0)} m` : `${(m / 1000).toFixed(2)} km`);
  const file = (name) => name.slice(name.lastIndexOf('/') + 1);

  // Everything is set as text or as an attribute: no name of a file is ever read as HTML.
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }
  function picture(key, name, caption) {
    const jpeg = Object.hasOwn(data.pictures, key) ? data.pictures[key] : null;
    const image = jpeg ? make('img', { src: jpeg, alt: name, title: name, loading: 'lazy' }) : make('div', { class: 'none', title: name }, 'no picture');
    return make('figure', {}, image, make('figcaption', {}, caption));
  }
  function card(failure) {
    const pair = make('div', { class: 'pair' },
      picture(`q:${failure.query}`, file(failure.query), `query ${failure.index + 1}${failure.condition ? `, ${failure.condition}` : ''}`),
      picture(`d:${failure.match}`, file(failure.match), 'first match'));
    const facts = [
      ['distance of the first match', metres(failure.distance_m)],
      ['score of the first match', failure.score === null ? 'none' : failure.score.toFixed(4)],
      ['rank of the first right photo', failure.first_right_rank === null ? 'none' : failure.first_right_rank.toLocaleString('en')],
      ['other wrong queries there', String(failure.shared)],
    ];
    const tags = failure.kinds.map((kind) => make('span', { class: 'tag' }, kind));
    return make('li', { class: 'card' }, pair, make('div', { class: 'tags' }, ...tags),
      make('dl', {}, ...facts.flatMap(([term, said]) => [make('dt', {}, term), make('dd', {}, said)])));
  }
  function chosen() {
    const run = data.runs[Number($('f-run').value)];
    const kind = $('f-kind').value, condition = $('f-condition').value;
    return run.failures
      .filter((f) => (kind === 'all' || f.kinds.includes(kind)) && (condition === 'all' || f.condition === condition))
      .sort((a, b) => orders[$('f-sort').value](a, b) || a.index - b.index);
  }
  function fill() {
    const found = chosen(), run = data.runs[Number($('f-run').value)];
    list.replaceChildren(...found.slice(0, shown).map(card));
    $('f-count').textContent = `${found.length.toLocaleString('en')} of ${run.failures.length.toLocaleString('en')} wrong queries`;
    $('f-more').hidden = found.length <= shown;
  }
  function conditions() {
    const select = $('f-condition'), run = data.runs[Number($('f-run').value)];
    const names = [...new Set(run.failures.map((f) => f.condition))].filter(Boolean).sort();
    select.replaceChildren(make('option', { value: 'all' }, 'at any time'), ...names.map((name) => make('option', { value: name }, name)));
  }
  for (const id of ['f-run', 'f-kind', 'f-condition', 'f-sort']) {
    $(id).addEventListener('change', () => { shown = STEP; if (id === 'f-run') conditions(); fill(); });
  }
  $('f-more').addEventListener('click', () => { shown += STEP; fill(); });
  conditions();
  fill();
})();
