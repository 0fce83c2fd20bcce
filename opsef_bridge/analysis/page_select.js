// Selecting.
const GALLERY = 60;
let chosen = 0;
function chosenCount() {
  return chosen;
}
const chosenOnes = () => {
  const found = new Uint32Array(chosen);
  for (let i = 0, k = 0; i < count; i++) if (selected[i]) found[k++] = i;
  return found;
};
function select(wanted, how = "new") {
  if (how === "new") selected.fill(0);
  for (const i of wanted) selected[i] = how === "take" ? 0 : 1;
  selectionChanged();
}
function selectionChanged() {
  chosen = selected.reduce((sum, one) => sum + one, 0);
  paintSoon();
  paintChosen();
  later();
}
const howOf = (event) => (event.altKey ? "take" : event.shiftKey ? "add" : "new");
function outlineOf({ mode, path }) {
  if (mode === "lasso") return path;
  const [[x0, y0], [x1, y1]] = [path[0], path.at(-1)];
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}
function within(outline) {
  const edges = outline.map(([x, y]) => placeOf(x, y));
  const us = edges.map(([u]) => u), vs = edges.map(([, v]) => v);
  const low = [Math.min(...us), Math.min(...vs)], high = [Math.max(...us), Math.max(...vs)];
  const found = [];
  for (let i = 0; i < count; i++) {
    const u = axes.x.values[i], v = axes.y.values[i];
    if (!shown[i] || u < low[0] || u > high[0] || v < low[1] || v > high[1]) continue;
    let inside = false;
    for (let k = 0, j = edges.length - 1; k < edges.length; j = k++) {
      if (vs[k] > v !== vs[j] > v &&
          u < ((us[j] - us[k]) * (v - vs[k])) / (vs[j] - vs[k]) + us[k]) inside = !inside;
    }
    if (inside) found.push(i);
  }
  return found;
}
const inView = () => {
  const found = [];
  for (let i = 0; i < count; i++) {
    const u = axes.x.values[i] - view.x, v = axes.y.values[i] - view.y;
    if (shown[i] && u >= 0 && v >= 0 && u <= view.w && v <= view.h) found.push(i);
  }
  return found;
};

// By hand.
const spot = (event) => {
  const box = marks.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
marks.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 && event.button !== 1) return;
  const picked = document.querySelector("[name=mode]:checked").value;
  drag = { mode: event.button === 1 ? "pan" : picked, path: [spot(event)], moved: false };
  marks.setPointerCapture(event.pointerId);
  marks.focus({ preventScroll: true });
  event.preventDefault();
});
marks.addEventListener("pointermove", (event) => {
  const [x, y] = spot(event);
  if (!drag) {
    tell(nearest(x, y));
    return;
  }
  const [fromX, fromY] = drag.path[0];
  const [lastX, lastY] = drag.path.at(-1);
  drag.moved ||= Math.hypot(x - fromX, y - fromY) > 4;
  if (!drag.moved) return;
  tell(-1);
  drag.path.push([x, y]);
  const box = inner();
  if (drag.mode === "pan") move((lastX - x) / box.width, (y - lastY) / box.height);
  else paintMarks();
});
marks.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const done = drag;
  drag = null;
  if (done.moved && done.mode !== "pan") select(within(outlineOf(done)), howOf(event));
  else if (!done.moved) {
    const i = nearest(...spot(event));
    select(i < 0 ? [] : [i], i >= 0 && event.shiftKey && selected[i] ? "take" : howOf(event));
  }
  paintMarks();
});
marks.addEventListener("pointercancel", () => { drag = null; paintMarks(); });
marks.addEventListener("pointerleave", () => { if (!drag) tell(-1); });
marks.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(Math.max(-300, Math.min(300, event.deltaY)) * 0.002), ...spot(event));
  tell(-1);
}, { passive: false });

// By keys.
function step(by) {
  const row = inView().sort((a, b) => axes.x.values[a] - axes.x.values[b] || a - b);
  if (!row.length) return;
  const place = row.indexOf(current);
  const next = place < 0 ? (by > 0 ? 0 : row.length - 1) : (place + by + row.length) % row.length;
  tell(row[next], true);
}
const KEYS = {
  ArrowLeft: () => move(-0.1, 0), ArrowRight: () => move(0.1, 0),
  ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1),
  "+": () => zoom(0.8), "=": () => zoom(0.8), "-": () => zoom(1.25), Home: home,
  n: () => step(1), p: () => step(-1), Escape: () => { drag = null; tell(-1); paintMarks(); },
  " ": () => { if (current >= 0) select([current], selected[current] ? "take" : "add"); },
};
marks.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
  else if (/^[0-9]$/.test(event.key)) give(Number(event.key));
  else return;
  event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key !== "z" || event.target.matches("input")) return;
  undo();
  event.preventDefault();
});

// What is selected, in words, pictures and medians.
function paintChosen() {
  const images = new Set();
  for (let i = 0; i < count; i++) if (selected[i]) images.add(words("image")[i]);
  const plural = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
  at("chosen").textContent = chosen
    ? `${plural(chosen, "object")} of ${plural(images.size, "image")}`
    : "Nothing is selected.";
  for (const id of ["set", "unset", "clear"]) at(id).disabled = !chosen;
}
// Pictures and medians may wait until the plot has been drawn.
let awaited = 0;
function later() {
  const mine = ++awaited;
  setTimeout(() => {
    if (mine !== awaited) return;
    paintGallery();
    paintMedians();
  }, 30);
}
function paintGallery() {
  const ones = chosenOnes();
  at("gallery-said").textContent = !chosen
    ? "Pictures of the selected objects are shown here."
    : `${chosen > GALLERY ? `The first ${GALLERY} of ${chosen.toLocaleString("en")}. ` : ""}`
      + "Click one to take it out of the selection.";
  at("gallery").replaceChildren(...Array.from(ones.slice(0, GALLERY), (i) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const name = `${wordOf("image", i)}, object ${labels[i]}`;
    button.title = name;
    button.setAttribute("aria-label", `${name}: take it out of the selection`);
    const canvas = document.createElement("canvas");
    if (places[2 * i] < 0) button.textContent = labels[i];
    button.append(canvas);
    drawThumbnail(canvas, i);
    button.addEventListener("click", () => {
      const next = button.nextElementSibling ?? button.previousElementSibling;
      button.remove();
      next?.focus();
      selected[i] = 0;
      selectionChanged();
    });
    button.addEventListener("pointerenter", () => { current = i; paintMarks(); });
    return button;
  }));
}
function medianOf(column, mask) {
  const values = new Float32Array(count);
  let k = 0;
  for (let i = 0; i < count; i++) {
    if ((!mask || mask[i]) && Number.isFinite(column[i])) values[k++] = column[i];
  }
  if (!k) return NaN;
  const sorted = values.subarray(0, k).sort();
  return (sorted[Math.floor((k - 1) / 2)] + sorted[Math.floor(k / 2)]) / 2;
}
const medianOfAll = kept((name) => medianOf(numbers(name), null));
function paintMedians() {
  const cell = (text, kind = "") =>
    Object.assign(document.createElement("td"), { textContent: text, className: kind });
  at("medians").replaceChildren(...Object.keys(data.numbers).map((name) => {
    const row = document.createElement("tr");
    const head = Object.assign(document.createElement("th"), { textContent: name, scope: "row" });
    const own = chosen ? told(medianOf(numbers(name), selected)) : "";
    row.append(head, cell(data.units[name]), cell(own, "number"),
               cell(told(medianOfAll(name)), "number"));
    return row;
  }));
}

