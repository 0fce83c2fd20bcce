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
  const told = new Map(); // by name of a cell: [author, verdict, at] of each person
  let kept = true;
  let current = null;

  // Not every cell is in the page: the sheet has the first variants and images only.
  const nameFor = (image, variant) => JSON.stringify([image, variant]);
  const nameOf = (cell) => nameFor(cell.dataset.image, cell.dataset.variant);
  const mineOf = (name) => {
    const own = mine.get(name);
    return own && own.verdict !== NONE ? own.verdict : null;
  };
  const toldOf = (name) => told.get(name) ?? [];
  const allOf = (name) => {
    const others = toldOf(name).filter(([author]) => !service || author !== service.author);
    return [...others.map(([, verdict]) => verdict), mineOf(name)].filter(Boolean);
  };
  function tell(verdicts) {
    told.clear();
    for (const [image, variant, ...one] of verdicts) {
      const name = nameFor(image, variant);
      told.set(name, [...toldOf(name), one]);
    }
  }
  function tallied(verdicts) {
    const count = (name) => verdicts.filter((verdict) => verdict === name).length;
    return Object.values(KEYS).filter(count).map((name) => `${count(name)} ${name}`).join(", ");
  }

  // Showing.
  function paint(cell) {
    const verdicts = allOf(nameOf(cell));
    const own = mineOf(nameOf(cell));
    cell.parentElement.querySelector(".said").textContent =
      tallied(verdicts) + (own && verdicts.length > 1 ? ` (yours: ${own})` : "");
    if (cell === current) paintViewer();
  }
  function paintSums(group) {
    const images = new Set(JSON.parse(group.dataset.images));
    const said = new Map(); // by variant
    for (const name of new Set([...told.keys(), ...mine.keys()])) {
      const [image, variant] = JSON.parse(name);
      if (images.has(image)) said.set(variant, [...(said.get(variant) ?? []), ...allOf(name)]);
    }
    for (const place of all("[data-of]", group)) {
      const verdicts = said.get(place.dataset.of) ?? [];
      place.textContent = tallied(verdicts);
      place.dataset.sort = 2 * verdicts.filter((one) => one === "good").length - verdicts.length;
    }
  }
  function paintViewer() {
    const bar = viewer.querySelector(".judge");
    bar.hidden = !current.dataset.variant;
    const own = mineOf(nameOf(current));
    for (const button of all("button", bar)) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === own));
    }
    const sum = bar.hidden ? "" : tallied(allOf(nameOf(current)));
    bar.querySelector(".told").textContent = sum && `so far ${sum}`;
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
    // Later than what it replaces, whatever the clock says.
    const at = new Date(Math.max(Date.now(), time(before?.at) + 1 || 0)).toISOString();
    set(cell, { verdict: next, at, exported: false, out: before?.out });
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
    tell(verdicts.map((one) => [one.image, one.variant, one.author, one.verdict, one.at]));
    for (const [name, found] of told) {
      const own = found.find(([author]) => author === service.author);
      // A click that was quicker than this answer stays.
      if (own && !mine.has(name)) mine.set(name, { verdict: own[1], at: own[2] });
    }
    paintAll();
  }

  // From disk: kept in this browser, where it allows that, and exported.
  const time = (text) => Date.parse(text);
  const second = (text) => Math.floor(time(text) / 1000); // files have no parts of it
  const imported = (name, own) => own.exported && toldOf(name).some(
    ([, verdict, at]) => verdict === own.verdict && second(at) === second(own.at));
  function newest(one, other) {
    const [last, first] = time(other.at) > time(one.at) ? [other, one] : [one, other];
    const exported = last.exported || (first.exported && first.at === last.at);
    return { ...last, exported, out: last.out || first.out };
  }
  // Takes up what is kept: another tab with this report may have said more.
  function restore() {
    let found = [];
    try {
      found = JSON.parse(localStorage.getItem(place) ?? "[]");
    } catch {
      kept = false;
    }
    for (const [name, own] of found) {
      // What was imported since is in the page already.
      if (!imported(name, own)) mine.set(name, mine.has(name) ? newest(mine.get(name), own) : own);
    }
    paintAll();
  }
  function keep() {
    restore();
    try {
      localStorage.setItem(place, JSON.stringify([...mine]));
      kept = true;
    } catch {
      kept = false;
      say("This browser keeps nothing of a file: export the verdicts before you close the page");
    }
  }
  // One that was taken back before anybody saw it is kept only for the other tabs.
  const toExport = () => [...mine].filter(([, own]) => own.verdict !== NONE || own.out);
  function paintExport() {
    const count = toExport().length;
    for (const button of all(".export")) {
      button.hidden = Boolean(service);
      button.disabled = count === 0;
      button.textContent = `Export verdicts (${count})`;
    }
  }
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  function exportAll() {
    restore();
    const rows = [["at", "image", "run", "variant", "verdict"]];
    for (const [name, own] of toExport()) {
      const [image, variant] = JSON.parse(name);
      rows.push([`${own.at.slice(0, 19)}Z`, image, run, variant, own.verdict]);
      own.exported = own.out = true;
    }
    const text = rows.map((row) => row.map(quoted).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `verdicts-${project.replace(/[^\p{L}\p{N}_-]+/gu, "-")}-${run}.csv`;
    link.click();
    keep();
    say(`Exported ${rows.length - 1}; opsef verdicts import takes the file`);
  }
  for (const button of all(".export")) button.addEventListener("click", exportAll);
  addEventListener("beforeunload", (event) => {
    const open = toExport().some(([, own]) => !own.exported);
    if (!service && !kept && open) event.preventDefault();
  });

  for (const hint of all(".keeping")) {
    hint.textContent = service
      ? `Verdicts are saved at once, as those of ${service.author}.`
      : "Verdicts stay in this browser. To bring them into the project, export them, then: "
        + "opsef verdicts import FILE";
  }
  tell(all(".group").flatMap((group) => JSON.parse(group.dataset.told)));
  if (service) {
    load().catch((error) => say(`The verdicts cannot be read: ${error.message}`));
  } else {
    addEventListener("storage", (event) => {
      if (event.key === place) restore();
    });
    restore();
  }
})();
