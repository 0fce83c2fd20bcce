// Colours: what they mean; kinds can be hidden.
const LISTED = 200;
function paintLegend() {
  const { kinds, palette, codes, range, hidden } = colours;
  at("legend-tools").hidden = !kinds;
  const swatch = (rgb) => {
    const mark = document.createElement("i");
    mark.style.background = `rgb(${rgb})`;
    return mark;
  };
  if (!kinds) {
    const bar = Object.assign(document.createElement("div"), { className: "scale" });
    bar.style.background = `linear-gradient(90deg, ${data.scale.map((one) => `rgb(${one})`)})`;
    const ends = Object.assign(document.createElement("p"), { className: "ends" });
    ends.append(...range.map((value) =>
      Object.assign(document.createElement("span"), { textContent: told(value) })));
    const what = Object.assign(document.createElement("p"), {
      className: "hint", textContent: "From the 2 to the 98 percentile; grey where it is missing.",
    });
    at("legend").replaceChildren(bar, ends, what);
    return;
  }
  const tally = new Uint32Array(kinds.length);
  for (const code of codes) tally[code]++;
  const there = [...kinds.keys()].filter((code) => tally[code]);
  const rows = there.slice(0, LISTED).map((code) => {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), {
      type: "checkbox", checked: !hidden.has(code),
    });
    box.dataset.code = code;
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(code);
      else hidden.add(code);
      hide();
    });
    const number = document.createElement("small");
    number.textContent = tally[code].toLocaleString("en");
    label.append(box, swatch(palette[code]), kinds[code], " ", number);
    return label;
  });
  if (there.length > LISTED) rows.push(`and ${there.length - LISTED} more`);
  at("legend").replaceChildren(...rows);
}
function hide() {
  tell(-1);
  arrange();
  // What is not seen must not get a class by mistake.
  for (let i = 0; i < count; i++) if (!shown[i]) selected[i] = 0;
  selectionChanged();
}
function hideAll(yes) {
  colours.hidden.clear();
  if (yes) colours.kinds.forEach((_, code) => colours.hidden.add(code));
  for (const box of at("legend").querySelectorAll("input")) box.checked = !yes;
  hide();
}

// Classes: given, taken back, kept in this browser, exported.
const started = classes.slice();
const history = [];
const named = new Map();
const place = `opsef-objects ${data.key}`;
let keeps = true;
let exported = true;
function changes() {
  const found = [];
  for (let i = 0; i < count; i++) if (classes[i] !== started[i]) found.push(i);
  return found;
}
function numberOf(text) {
  if (/^\d+$/.test(text)) return Number(text) <= 255 ? Number(text) : null;
  for (const [number, name] of classNames) if (name === text) return number;
  const used = new Set([...classNames.keys(), ...classes]);
  for (let number = 1; number <= 255; number++) {
    if (used.has(number)) continue;
    classNames.set(number, text);
    named.set(number, text);
    return number;
  }
  return null;
}
function give(number) {
  if (!chosen) {
    say("Nothing is selected");
    return;
  }
  const ones = chosenOnes();
  history.push({ ones, before: ones.map((i) => classes[i]) });
  for (const i of ones) classes[i] = number;
  classesChanged();
  say(`${ones.length.toLocaleString("en")} objects: class ${classText(number)}`);
}
function undo() {
  const last = history.pop();
  if (!last) return;
  last.ones.forEach((i, k) => { classes[i] = last.before[k]; });
  classesChanged();
  say(`Taken back: the class of ${last.ones.length.toLocaleString("en")} objects`);
}
function classesChanged() {
  exported = false;
  keep();
  paintClasses();
}
function paintClasses() {
  if (colours?.name === "class") {
    const { hidden } = colours;
    colours = coloured("class");
    for (const code of hidden) colours.hidden.add(code);
    arrange();
    paintLegend();
  }
  const changed = changes().length;
  paintSave(changed);
  at("export").disabled = !changed;
  at("export").textContent = `Export classes (${changed.toLocaleString("en")})`;
  at("undo").disabled = !history.length;
  at("class-names").replaceChildren(...[...classNames].map(([number, name]) =>
    Object.assign(document.createElement("option"), { value: name, label: `class ${number}` })));
  at("new-names").textContent = named.size
    ? "To keep new names, add to opsef.yaml: classes: {"
      + `${[...named].map(([number, name]) => `${number}: ${JSON.stringify(name)}`).join(", ")}}`
    : "";
  if (!card.hidden) {
    const i = current;
    tell(-1);
    tell(i);
  }
  paintSoon();
}
function keep() {
  if (service) return;
  try {
    const told = { changes: changes().map((i) => [i, classes[i]]), names: [...named] };
    localStorage.setItem(place, JSON.stringify(told));
  } catch {
    keeps = false;
  }
}
function restore() {
  if (service) return;
  try {
    const found = JSON.parse(localStorage.getItem(place) ?? "{}");
    for (const [number, name] of found.names ?? []) {
      if (classNames.has(number)) continue;
      classNames.set(number, name);
      named.set(number, name);
    }
    for (const [i, number] of found.changes ?? []) classes[i] = number;
  } catch {
    keeps = false;
  }
}
const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
function exportClasses() {
  const origin = ["revision", "run", "variant"];
  const rows = [["image", "label", ...origin, "class"]];
  for (const i of changes()) {
    const from = origin.map((name) => (name in data.words ? wordOf(name, i) : ""));
    rows.push([wordOf("image", i), labels[i], ...from, classes[i]]);
  }
  const text = rows.map((row) => row.map((one) => quoted(String(one))).join(",") + "\n").join("");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `classes-${data.project.replace(/[^\p{L}\p{N}_-]+/gu, "-")}.csv`;
  link.click();
  exported = true;
  say(`Exported ${rows.length - 1}; opsef classify --from takes the file`);
}
addEventListener("beforeunload", (event) => {
  if (service ? changes().length : !keeps && !exported) event.preventDefault();
});

// The controls.
function fill(id, names, value) {
  at(id).replaceChildren(...names.map((name) =>
    Object.assign(document.createElement("option"), { value: name, textContent: name })));
  at(id).value = value;
}
const columns = Object.keys(data.numbers);
fill("x", columns, data.x);
fill("y", columns, data.y);
fill("colour", ["class", ...Object.keys(data.words), ...columns], data.colour);
for (const id of ["x", "y", "log-x", "log-y"]) at(id).addEventListener("change", () => choose("axes"));
at("colour").addEventListener("change", () => choose("colour"));
const clicks = {
  in: () => zoom(0.7), out: () => zoom(1 / 0.7), home, undo, export: exportClasses, save,
  "in-view": () => select(inView()), clear: () => select([]), unset: () => give(0),
  invert: () => {
    for (let i = 0; i < count; i++) selected[i] = shown[i] && !selected[i] ? 1 : 0;
    selectionChanged();
  },
  "legend-all": () => hideAll(false), "legend-none": () => hideAll(true),
};
for (const [id, act] of Object.entries(clicks)) at(id).addEventListener("click", act);
at("outlines").addEventListener("change", () => { paintGallery(); tell(-1); });
at("class").addEventListener("input", () => at("class").setCustomValidity(""));
at("give").addEventListener("submit", (event) => {
  event.preventDefault();
  const number = numberOf(at("class").value.trim());
  if (number === null) {
    at("class").setCustomValidity("Classes are numbered 1 to 255; 0 is none.");
    at("class").reportValidity();
  } else give(number);
});
for (const wanted of ["(prefers-color-scheme: dark)", "print"]) {
  matchMedia(wanted).addEventListener("change", readTheme);
}
new ResizeObserver(([entry]) => {
  size.width = entry.contentRect.width;
  size.height = entry.contentRect.height;
  size.ratio = devicePixelRatio || 1;
  paintSoon();
}).observe(at("plot"));

restore();
startSaving();
readTheme();
if (columns.length) choose("all");
paintChosen();
paintClasses();
later();
requestAnimationFrame(() => setTimeout(() => { document.body.dataset.ready = performance.now(); }));
