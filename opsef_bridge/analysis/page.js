"use strict";
const at = (id) => document.getElementById(id);
const data = JSON.parse(at("data").textContent);
at("data").remove(); // what was read needs no second place in memory

const say = (() => {
  let timer;
  return (text) => {
    at("said").textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => { at("said").textContent = ""; }, 6000);
  };
})();

// The table.
const unpack = (text, Kind) => {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
  return new Kind(bytes.buffer);
};
const kept = (make) => {
  const known = new Map();
  return (name) => {
    if (!known.has(name)) known.set(name, make(name));
    return known.get(name);
  };
};
const { count } = data;
const numbers = kept((name) => unpack(data.numbers[name], Float32Array));
const words = kept((name) => unpack(data.words[name].codes, Uint16Array));
const labels = unpack(data.labels, Int32Array);
const classes = unpack(data.classes, Uint8Array);
const places = unpack(data.places, Int32Array);
const selected = new Uint8Array(count);
const wordOf = (name, i) => data.words[name].names[words(name)[i]];
const classNames = new Map(Object.entries(data.classNames).map(([k, name]) => [Number(k), name]));
const classText = (number) =>
  number ? [number, classNames.get(number)].filter(Boolean).join(" ") : "none";
const told = (value) =>
  Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "missing";
const titled = (name) => (data.units[name] ? `${name} (${data.units[name]})` : name);

// What is seen: places of points go from 0 to 1 along both axes; `view` is the part that is shown.
const MARGIN = { left: 66, right: 12, top: 12, bottom: 46 };
const CELLS = 128; // of the grid that finds points, along an axis
const axes = { x: null, y: null };
const view = { x: 0, y: 0, w: 1, h: 1 };
const size = { width: 0, height: 0, ratio: 1 };
const shown = new Uint8Array(count);
let grid = { starts: new Uint32Array(CELLS * CELLS + 1), items: new Uint32Array(0) };
let colours = null;
let current = -1; // the point that the card tells about
let drag = null;

function scaled(name, log) {
  const column = numbers(name);
  const values = new Float64Array(count);
  let low = Infinity, high = -Infinity;
  for (let i = 0; i < count; i++) {
    const value = log ? Math.log10(column[i]) : column[i];
    values[i] = value;
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) [low, high] = [0, 1];
  const rim = (high - low || Math.abs(low) || 1) * 0.03;
  [low, high] = [low - rim, high + rim];
  for (let i = 0; i < count; i++) values[i] = (values[i] - low) / (high - low);
  return { name, log, low, high, values };
}

function coloured(name) {
  const hidden = new Set();
  if (name === "class") {
    const names = Array.from({ length: 256 }, (_, number) => classText(number));
    return { name, kinds: names, codes: classes, palette: data.classColours, hidden };
  }
  if (name in data.words) {
    const { names } = data.words[name];
    let next = 0;
    const palette = names.map((one) =>
      one === "" ? data.classColours[0] : data.kindColours[next++ % data.kindColours.length]);
    return { name, kinds: names.map((one) => one || "(none)"), codes: words(name), palette, hidden };
  }
  // Numbers: from the 2 to the 98 percentile, so that single values do not take all colours.
  const column = numbers(name);
  const sorted = column.filter(Number.isFinite).sort();
  const low = sorted[Math.floor(sorted.length * 0.02)] ?? 0;
  const high = sorted[Math.ceil(sorted.length * 0.98) - 1] ?? 1;
  const codes = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    const share = (column[i] - low) / (high - low || 1);
    codes[i] = Number.isFinite(share) ? Math.round(255 * Math.min(1, Math.max(0, share))) : 256;
  }
  return { name, codes, palette: [...data.scale, data.classColours[0]], hidden, range: [low, high] };
}

// Which points are shown, and the grid of those: the points of a cell lie side by side.
function arrange() {
  const [u, v] = [axes.x.values, axes.y.values];
  const cells = new Int32Array(count).fill(-1);
  const starts = new Uint32Array(CELLS * CELLS + 1);
  let lacking = 0;
  for (let i = 0; i < count; i++) {
    const there = Number.isFinite(u[i]) && Number.isFinite(v[i]);
    lacking += !there;
    shown[i] = there && !colours.hidden.has(colours.codes[i]) ? 1 : 0;
    if (!shown[i]) continue;
    cells[i] = Math.floor(v[i] * CELLS) * CELLS + Math.floor(u[i] * CELLS);
    starts[cells[i] + 1]++;
  }
  for (let k = 0; k < CELLS * CELLS; k++) starts[k + 1] += starts[k];
  const next = starts.slice();
  const items = new Uint32Array(starts[CELLS * CELLS]);
  for (let i = 0; i < count; i++) if (cells[i] >= 0) items[next[cells[i]]++] = i;
  grid = { starts, items };
  at("missing").textContent = lacking
    ? `${lacking} objects are not shown: they have no ${axes.x.name} or no ${axes.y.name}`
      + `${axes.x.log || axes.y.log ? ", or none above 0 for a logarithm." : "."}`
    : "";
}

const inner = () => ({
  left: MARGIN.left, top: MARGIN.top,
  width: Math.max(1, size.width - MARGIN.left - MARGIN.right),
  height: Math.max(1, size.height - MARGIN.top - MARGIN.bottom),
});
function pixelOf(u, v) {
  const box = inner();
  return [box.left + ((u - view.x) / view.w) * box.width,
          box.top + (1 - (v - view.y) / view.h) * box.height];
}
function placeOf(x, y) {
  const box = inner();
  return [view.x + ((x - box.left) / box.width) * view.w,
          view.y + (1 - (y - box.top) / box.height) * view.h];
}
function nearest(x, y, reach = 10) {
  const box = inner();
  const [u, v] = placeOf(x, y);
  const [du, dv] = [(reach / box.width) * view.w, (reach / box.height) * view.h];
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));
  let found = -1, best = reach * reach;
  for (let row = cell(v - dv); row <= cell(v + dv); row++) {
    const end = grid.starts[row * CELLS + cell(u + du) + 1];
    for (let k = grid.starts[row * CELLS + cell(u - du)]; k < end; k++) {
      const i = grid.items[k];
      const right = ((axes.x.values[i] - u) / view.w) * box.width;
      const up = ((axes.y.values[i] - v) / view.h) * box.height;
      const far = right * right + up * up;
      if (far < best) [found, best] = [i, far];
    }
  }
  return found;
}

