
// A service that shows this page saves classes: image by image, each a revision.
const service = JSON.parse(document.querySelector("meta[name=opsef-service]")?.content ?? "null");
const origins = ["run", "variant", "revision"];
const bases = new Map(); // by origin: the revision that was saved from here
let saving = false;
class Ended extends Error {}
const originOf = (i) => JSON.stringify(["image", ...origins].map((name) => wordOf(name, i)));
function startSaving() {
  if (!service) return;
  at("save").hidden = false;
  at("export").hidden = true;
  at("keeping").textContent =
    `Saved by ${service.author}: a revision of each image in which a class changes.`;
  const older = new Set();
  for (let i = 0; i < count; i++) {
    const image = wordOf("image", i);
    if ((service.newest[image] ?? "") !== wordOf("revision", i)) older.add(image);
  }
  if (older.size) {
    const [first] = older;
    const what = older.size > 1 ? `${first} and ${older.size - 1} more images` : first;
    tellOutcome([`${what}: edited since this page was made. To see that, run opsef analyse and `
      + "open the page anew. Classes of objects that were edited are refused."]);
  }
}
function paintSave(changed) {
  at("save").disabled = saving || !changed;
  if (!saving) at("save").textContent = `Save classes (${changed.toLocaleString("en")})`;
}
const TOLD = 8; // lines
function tellOutcome(lines) {
  const more = lines.length > TOLD ? [`and ${lines.length - TOLD} more images`] : [];
  at("outcome").hidden = !lines.length;
  at("outcome").replaceChildren(...[...lines.slice(0, TOLD), ...more].map((line) =>
    Object.assign(document.createElement("li"), { textContent: line })));
}
async function post(key, ones, given) {
  const [image, ...from] = JSON.parse(key);
  const body = { image };
  if (bases.has(key)) body.revision = bases.get(key);
  else origins.forEach((name, k) => { if (from[k]) body[name] = from[k]; });
  const byClass = new Map();
  ones.forEach((i, k) => {
    if (!byClass.has(given[k])) byClass.set(given[k], []);
    byClass.get(given[k]).push(labels[i]);
  });
  body.classes = Array.from(byClass, ([number, some]) => ({ class: number, labels: some }));
  const headers = {
    Authorization: `Bearer ${service.key}`, "Content-Type": "application/json",
    "X-Opsef-Request": crypto.randomUUID(),
  };
  const sent = { method: "POST", headers, body: JSON.stringify(body), credentials: "omit" };
  const answer = await fetch(`/v1/projects/${service.project}/classes`, sent).catch(() => {
    throw new Ended("the service cannot be reached");
  });
  if (answer.status === 401) throw new Ended("this page was open for too long; open it again");
  const told = await answer.json();
  if (!answer.ok) throw new Error(reasonOf(answer.status, told.error));
  return told;
}
function reasonOf(status, { message, hint, report }) {
  const { theirs, conflicts } = report ?? {};
  const what = status === 412 && conflicts?.length
    ? `${conflicts.length} of these objects were changed since; the newest revision is `
      + `${theirs.revision} by ${theirs.author}`
    : message;
  return [what, hint].filter(Boolean).join(". ");
}
async function save() {
  if (saving) return;
  const parts = new Map();
  for (const i of changes()) {
    const key = originOf(i);
    if (!parts.has(key)) parts.set(key, []);
    parts.get(key).push(i);
  }
  saving = true;
  const lines = [];
  let done = 0, objects = 0;
  for (const [key, ones] of parts) {
    const [image] = JSON.parse(key);
    at("save").textContent = `Saving ${++done} of ${parts.size}`;
    at("save").disabled = true;
    const given = ones.map((i) => classes[i]); // clicks go on while this is sent
    try {
      const told = await post(key, ones, given);
      ones.forEach((i, k) => { started[i] = given[k]; });
      objects += ones.length;
      if (told.base) bases.set(key, told.base);
      if (told.older) lines.push(`${image}: saved. ${told.said.slice(1).join(". ")}`);
    } catch (error) {
      lines.push(`${image}: not saved: ${error.message}`);
      if (error instanceof Ended) break;
    }
  }
  saving = false;
  tellOutcome(lines);
  paintClasses();
  if (objects) say(`Saved: the class of ${objects.toLocaleString("en")} objects`);
}
