// What a person thinks of a variant on an image. A service, if one shows this page, takes it at
// once; else this browser keeps it, and a file brings it to `opsef verdicts import`.
(() => {
  const KEYS = { g: "good", o: "over", u: "under", m: "missed" };
  const NONE = "none";
  const { project, run, key } = document.body.dataset;
  const service = JSON.parse(document.querySelector("meta[name=opsef-service]")?.content ?? "null");
  const place = `opsef-verdicts ${key}`;
  const viewer = document.getElementById("viewer");
  const cells = all(".cell[data-variant]");
  const mine = new Map(); // by name of a cell: verdict, at, exported, out (if ever)
  let kept = true;
  let current = null;

  const nameOf = (cell) => JSON.stringify([cell.dataset.image, cell.dataset.variant]);
  const toldOf = (cell) => JSON.parse(cell.dataset.told ?? "[]"); // [author, verdict, at]
  const mineOf = (cell) => {
    const own = mine.get(nameOf(cell));
    return own && own.verdict !== NONE ? own.verdict : null;
  };
  const allOf = (cell) => {
    const told = toldOf(cell).filter(([author]) => !service || author !== service.author);
    return [...told.map(([, verdict]) => verdict), mineOf(cell)].filter(Boolean);
  };
  function tallied(verdicts) {
    const count = (name) => verdicts.filter((verdict) => verdict === name).length;
    return Object.values(KEYS).filter(count).map((name) => `${count(name)} ${name}`).join(", ");
  }

  // Showing.
  function paint(cell) {
    const verdicts = allOf(cell);
    const own = mineOf(cell);
    cell.parentElement.querySelector(".said").textContent =
      tallied(verdicts) + (own && verdicts.length > 1 ? ` (yours: ${own})` : "");
    if (cell === current) paintViewer();
  }
  function paintSums(group) {
    for (const place of all("[data-of]", group)) {
      const verdicts = all(`.cell[data-variant="${place.dataset.of}"]`, group).flatMap(allOf);
      place.textContent = tallied(verdicts);
      place.dataset.sort = 2 * verdicts.filter((one) => one === "good").length - verdicts.length;
    }
  }
  function paintViewer() {
    const bar = viewer.querySelector(".judge");
    bar.hidden = !current.dataset.variant;
    for (const button of all("button", bar)) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === mineOf(current)));
    }
    const told = bar.hidden ? "" : tallied(allOf(current));
    bar.querySelector(".told").textContent = told && `so far ${told}`;
  }
  function paintAll() {
    cells.forEach(paint);
    all(".group").forEach(paintSums);
    paintExport();
  }

  // Judging.
  function judge(cell, verdict) {
    const before = mine.get(nameOf(cell));
    const next = before?.verdict === verdict ? NONE : verdict;
    const at = new Date().toISOString().slice(0, 19) + "Z";
    const never = !service && next === NONE && !before.out; // nobody has seen it
    set(cell, never ? null : { verdict: next, at, exported: false, out: before?.out });
    const { image, variant } = cell.dataset;
    say(`${variant} on ${image}: ${next === NONE ? "no verdict" : next}`);
    if (service) send(cell, { image, variant, run, verdict: next }, before);
    else keep();
  }
  function set(cell, own) {
    if (own) mine.set(nameOf(cell), own);
    else mine.delete(nameOf(cell));
    paint(cell);
    paintSums(cell.closest(".group"));
    paintExport();
  }
  viewer.addEventListener("shown", (event) => {
    current = event.detail;
    paintViewer();
  });
  for (const button of all("[data-verdict]", viewer)) {
    button.addEventListener("click", () => judge(current, button.dataset.verdict));
  }
  document.addEventListener("keydown", (event) => {
    const cell = viewer.open ? current : event.target.closest?.(".cell");
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (!Object.hasOwn(KEYS, event.key) || !cell?.dataset.variant) return;
    judge(cell, KEYS[event.key]);
    event.preventDefault();
  });

  // By the service: one after the other, in the order of the clicks.
  let queue = Promise.resolve();
  const path = service && `/v1/projects/${service.project}/verdicts`;
  async function ask(method, query, body) {
    const headers = { Authorization: `Bearer ${service.key}` };
    if (body) {
      headers["Content-Type"] = "application/json";
      headers["X-Opsef-Request"] = crypto.randomUUID();
    }
    const sent = { method, headers, body: body && JSON.stringify(body), credentials: "omit" };
    const answer = await fetch(path + query, sent);
    if (answer.status === 401) throw new Error("this page was open for too long; open it again");
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error.message);
    return told;
  }
  function send(cell, wanted, before) {
    const given = mine.get(nameOf(cell));
    queue = queue.then(() => ask("POST", "", wanted)).catch((error) => {
      if (mine.get(nameOf(cell)) === given) set(cell, before);
      say(`Not saved: ${error.message}`);
    });
  }
  async function load() {
    const { verdicts } = await ask("GET", `?run=${encodeURIComponent(run)}`);
    const told = new Map();
    for (const { image, variant, author, verdict, at } of verdicts) {
      const name = JSON.stringify([image, variant]);
      told.set(name, [...(told.get(name) ?? []), [author, verdict, at]]);
    }
    for (const cell of cells) {
      const found = told.get(nameOf(cell)) ?? [];
      cell.dataset.told = JSON.stringify(found);
      const own = found.find(([author]) => author === service.author);
      // A click that was quicker than this answer stays.
      if (own && !mine.has(nameOf(cell))) mine.set(nameOf(cell), { verdict: own[1], at: own[2] });
    }
    paintAll();
  }

  // From disk: kept in this browser, where it allows that, and exported.
  const time = (text) => Date.parse(text);
  function restore() {
    let found = [];
    try {
      found = JSON.parse(localStorage.getItem(place) ?? "[]");
    } catch {
      kept = false;
    }
    const there = new Map(cells.map((cell) => [nameOf(cell), cell]));
    for (const [name, own] of found) {
      const cell = there.get(name);
      // What was imported since is in the page already.
      const same = ([, verdict, at]) => verdict === own.verdict && time(at) === time(own.at);
      if (cell && !(own.exported && toldOf(cell).some(same))) mine.set(name, own);
    }
    paintAll();
  }
  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify([...mine]));
    } catch {
      kept = false;
      say("This browser keeps nothing of a file: export the verdicts before you close the page");
    }
  }
  function paintExport() {
    for (const button of all(".export")) {
      button.hidden = Boolean(service);
      button.disabled = mine.size === 0;
      button.textContent = `Export verdicts (${mine.size})`;
    }
  }
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  function exportAll() {
    const rows = [["at", "image", "run", "variant", "verdict"]];
    for (const [name, own] of mine) {
      const [image, variant] = JSON.parse(name);
      rows.push([own.at, image, run, variant, own.verdict]);
      own.exported = own.out = true;
    }
    const text = rows.map((row) => row.map(quoted).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `verdicts-${project.replace(/[^\p{L}\p{N}_-]+/gu, "-")}-${run}.csv`;
    link.click();
    keep();
    say(`Exported ${mine.size}; opsef verdicts import takes the file`);
  }
  for (const button of all(".export")) button.addEventListener("click", exportAll);
  addEventListener("beforeunload", (event) => {
    const open = [...mine.values()].some((own) => !own.exported);
    if (!service && !kept && open) event.preventDefault();
  });

  for (const hint of all(".keeping")) {
    hint.textContent = service
      ? `Verdicts are saved at once, as those of ${service.author}.`
      : "Verdicts stay in this browser. To bring them into the project, export them, then: "
        + "opsef verdicts import FILE";
  }
  if (service) load().catch((error) => say(`The verdicts cannot be read: ${error.message}`));
  else restore();
})();
