"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// What happened, for eyes and for screen readers; what lies behind an open dialog is silent.
const say = (() => {
  let timer;
  return (text) => {
    const viewer = document.getElementById("viewer");
    const place = viewer.open ? viewer.querySelector("[role=status]") : document.getElementById("said");
    place.textContent = text;
    clearTimeout(timer);
    timer = setTimeout(() => { place.textContent = ""; }, 4000);
  };
})();

(() => {
  const root = document.documentElement;
  const viewer = document.getElementById("viewer");
  const view = viewer.querySelector(".view");
  const layer = view.querySelector("img");
  let current = null;
  root.classList.add("js");

  // Groups: one at a time, chosen by the address, so that a link leads to a group.
  const groups = all(".group");
  const links = all("nav a");
  function choose() {
    const wanted = groups.find((group) => `#${group.id}` === location.hash) ?? groups[0];
    for (const group of groups) group.hidden = group !== wanted;
    for (const link of links) {
      if (link.hash === `#${wanted.id}`) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
  if (groups.length > 1) {
    addEventListener("hashchange", choose);
    choose();
  }

  // Contact sheet.
  for (const button of all(".all")) {
    button.addEventListener("click", () => {
      const table = button.closest("section").querySelector("table");
      const every = table.classList.toggle("every");
      button.dataset.text ??= button.textContent;
      button.textContent = every ? "Show fewer variants" : button.dataset.text;
    });
  }
  // One setting for the whole page: every group's slider shows it.
  function setting(name, property, unit) {
    for (const slider of all(`.${name}`)) {
      slider.value = parseFloat(getComputedStyle(root).getPropertyValue(property));
      slider.addEventListener("input", () => {
        root.style.setProperty(property, slider.value + unit);
        for (const other of all(`.${name}`)) other.value = slider.value;
      });
    }
  }
  setting("size", "--thumb", "px");
  setting("brightness", "--bright", "");
  function outlines(shown) {
    root.classList.toggle("no-outlines", !shown);
    for (const box of all("input.outlines")) box.checked = shown;
  }
  for (const box of all("input.outlines")) box.addEventListener("change", () => outlines(box.checked));

  // Support: the number of a colour tells it, so another palette shows it.
  let palette = (uri) => uri;
  function support(shown) {
    root.classList.toggle("supported", shown);
    for (const box of all("input.support")) {
      box.checked = shown;
      const { plain, coloured } = box.dataset;
      const [from, to] = shown ? [plain, coloured] : [coloured, plain];
      palette = (uri) => uri.replace(from, to);
    }
    for (const image of all(".cell img")) image.src = palette(image.src);
    if (current && viewer.open) show(current);
  }
  for (const box of all("input.support")) {
    box.addEventListener("change", () => support(box.checked));
  }

  // Enlarged view: the cells of a sheet, stepped through by row and column.
  function show(cell) {
    current = cell;
    const caption = cell.closest("tr").querySelector("th").dataset.caption ?? "bare image";
    const base = [...cell.classList].find((name) => /^p\d+-\d+$/.test(name));
    const source = cell.dataset.view ?? cell.querySelector("img")?.src;
    viewer.querySelector(".who").textContent = caption;
    viewer.querySelector(".what").textContent = `${cell.dataset.image} · ${cell.dataset.text}`;
    view.className = `view ${base ?? ""}`;
    view.setAttribute("aria-label", cell.getAttribute("aria-label"));
    layer.hidden = !source;
    if (source) layer.src = palette(source);
    if (!viewer.open) viewer.showModal();
    viewer.dispatchEvent(new CustomEvent("shown", { detail: cell }));
  }
  function step(down, right) {
    const row = current.closest("tr");
    const rows = all("tr", row.parentElement).filter((r) => r.offsetParent !== null);
    const cells = all("td", row);
    const y = rows.indexOf(row) + down;
    const x = cells.indexOf(current.closest("td")) + right;
    const next = rows[y] && all("td", rows[y])[x]?.querySelector(".cell");
    if (next) show(next);
  }
  for (const cell of all(".cell")) cell.addEventListener("click", () => show(cell));
  for (const button of all("[data-step]", viewer)) {
    button.addEventListener("click", () => step(...button.dataset.step.split(",").map(Number)));
  }
  viewer.querySelector(".toggle").addEventListener("click", () =>
    outlines(root.classList.contains("no-outlines")));
  const colours = viewer.querySelector(".colours");
  colours.hidden = !all("input.support").length;
  colours.addEventListener("click", () => support(!root.classList.contains("supported")));
  viewer.querySelector(".close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
  });
  viewer.addEventListener("close", () => {
    current.focus();
    current.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  viewer.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) step(...steps[event.key]);
    else if (event.key === " " && event.target.tagName !== "BUTTON")
      outlines(root.classList.contains("no-outlines"));
    else if (event.key === "s" && all("input.support").length)
      support(!root.classList.contains("supported"));
    else return;
    event.preventDefault();
  });

  // Sorting: numbers by value, words by name; a second click turns the order round.
  for (const head of all(".ranking thead th:has(button)")) {
    head.querySelector("button").addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of all("th", head.parentElement)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const body = head.closest("table").tBodies[0];
      const key = (row) => row.cells[head.cellIndex].dataset.sort;
      const word = (row) => row.cells[head.cellIndex].textContent;
      const compare = (a, b) =>
        key(a) === undefined
          ? word(a).localeCompare(word(b), "en", { numeric: true })
          : Number(key(a)) - Number(key(b));
      const rows = [...body.rows].sort((a, b) => (rising ? compare(a, b) : compare(b, a)));
      body.append(...rows);
    });
  }

  // Copying: what stands before the button. Without a clipboard the text is selected instead.
  for (const button of all(".copy")) {
    button.addEventListener("click", async () => {
      const source = button.previousElementSibling;
      try {
        await navigator.clipboard.writeText(source.textContent);
        say("Copied");
      } catch {
        getSelection().selectAllChildren(source);
        say("Selected: copy it with Ctrl+C");
      }
    });
  }
})();
