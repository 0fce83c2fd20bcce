// Drawing: points are stamped into pixels, since a canvas takes far longer for as many circles.
const points = at("points");
const marks = at("marks");
const brush = points.getContext("2d");
const pen = marks.getContext("2d");
let theme = {};
let picture = null;
let waiting = false;
function paintSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(paint);
}
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const probe = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (name) => {
    probe.fillStyle = style.getPropertyValue(name);
    probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  };
  theme = { ground: rgb("--sheet"), edge: rgb("--ink") };
  for (const name of ["sheet", "ink", "soft", "line", "accent"]) {
    theme[`${name}Text`] = style.getPropertyValue(`--${name}`);
  }
  paintSoon();
}

// A disc with a soft rim: of each of its pixels how much is covered, and how much is its edge.
const stamp = kept((radius) => {
  const reach = Math.ceil(radius + 1);
  const dots = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const far = Math.hypot(x, y);
      const cover = Math.min(1, Math.max(0, radius + 0.5 - far));
      const edge = Math.min(1, Math.max(0, far - radius + 1.2)) * 0.45;
      if (cover > 0) dots.push(x, y, cover, edge);
    }
  }
  return { reach, dots: Float32Array.from(dots) };
});
function stampAll(which, radius, opacity) {
  const { width, height } = picture;
  const pixels = picture.data;
  const { reach, dots } = stamp(radius);
  const [origin, box] = [pixelOf(0, 0), inner()];
  const across = (box.width / view.w) * size.ratio, up = (box.height / view.h) * size.ratio;
  const left = origin[0] * size.ratio, bottom = origin[1] * size.ratio;
  const [u, v] = [axes.x.values, axes.y.values];
  const { codes, palette } = colours;
  const [edgeR, edgeG, edgeB] = theme.edge;
  const stride = count % 7919 ? 7919 : 1; // in no order, so that no image lies on top of others
  for (let step = 0, i = 0; step < count; step++, i = (i + stride) % count) {
    if (!shown[i] || selected[i] !== which) continue;
    const x = Math.round(left + u[i] * across), y = Math.round(bottom - v[i] * up);
    if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
    const [r, g, b] = palette[codes[i]];
    for (let k = 0; k < dots.length; k += 4) {
      const p = ((y + dots[k + 1]) * width + x + dots[k]) * 4;
      const cover = dots[k + 2] * opacity, edge = dots[k + 3];
      pixels[p] += (r + (edgeR - r) * edge - pixels[p]) * cover;
      pixels[p + 1] += (g + (edgeG - g) * edge - pixels[p + 1]) * cover;
      pixels[p + 2] += (b + (edgeB - b) * edge - pixels[p + 2]) * cover;
    }
  }
}
function paint() {
  waiting = false;
  if (!size.width || !axes.x) return;
  const [width, height] = [Math.round(size.width * size.ratio), Math.round(size.height * size.ratio)];
  if (picture?.width !== width || picture?.height !== height) {
    for (const one of [points, marks]) [one.width, one.height] = [width, height];
    picture = brush.createImageData(width, height);
  }
  const [r, g, b] = theme.ground;
  new Uint32Array(picture.data.buffer).fill(new Uint32Array(Uint8Array.of(r, g, b, 255).buffer)[0]);
  const some = chosenCount() > 0;
  const radius = (count > 5000 ? 2.5 : count > 800 ? 3.5 : 5) * size.ratio;
  stampAll(0, radius, some ? 0.22 : 0.85);
  if (some) stampAll(1, radius * 1.15, 1);
  brush.putImageData(picture, 0, 0);
  paintAxes();
  paintMarks();
}
function ticksOf(axis, from, span) {
  const low = axis.low + from * (axis.high - axis.low);
  const high = axis.low + (from + span) * (axis.high - axis.low);
  if (axis.log && high - low >= 2) {
    const every = Math.ceil((high - low) / 8);
    const found = [];
    for (let k = Math.ceil(low); k <= high; k += every) found.push([k, told(10 ** k)]);
    return found;
  }
  const [start, end] = axis.log ? [10 ** low, 10 ** high] : [low, high];
  const rough = (end - start) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const every = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  const found = [];
  for (let k = Math.ceil(start / every); k * every <= end && found.length < 20; k++) {
    const value = Number((k * every).toPrecision(12));
    if (!axis.log || value > 0) found.push([axis.log ? Math.log10(value) : value, String(value)]);
  }
  return found;
}
function paintAxes() {
  const box = inner();
  brush.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  brush.fillStyle = theme.sheetText;
  brush.fillRect(0, 0, box.left, size.height);
  brush.fillRect(0, box.top + box.height, size.width, MARGIN.bottom);
  brush.fillRect(box.left + box.width, 0, MARGIN.right, size.height);
  brush.fillRect(0, 0, size.width, box.top);
  brush.strokeStyle = theme.lineText;
  brush.strokeRect(box.left + 0.5, box.top + 0.5, box.width, box.height);
  brush.fillStyle = theme.inkText;
  brush.font = "12px system-ui, sans-serif";
  const place = (axis, value) => (value - axis.low) / (axis.high - axis.low);
  brush.textAlign = "center";
  for (const [value, text] of ticksOf(axes.x, view.x, view.w)) {
    const x = pixelOf(place(axes.x, value), 0)[0];
    brush.fillRect(x, box.top + box.height, 1, 5);
    brush.fillText(text, x, box.top + box.height + 18);
  }
  brush.fillText(titled(axes.x.name), box.left + box.width / 2, size.height - 8);
  brush.textAlign = "right";
  for (const [value, text] of ticksOf(axes.y, view.y, view.h)) {
    const y = pixelOf(0, place(axes.y, value))[1];
    brush.fillRect(box.left - 5, y, 5, 1);
    brush.fillText(text, box.left - 8, y + 4);
  }
  brush.save();
  brush.translate(14, box.top + box.height / 2);
  brush.rotate(-Math.PI / 2);
  brush.textAlign = "center";
  brush.fillText(titled(axes.y.name), 0, 0);
  brush.restore();
}
function paintMarks() {
  pen.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
  pen.clearRect(0, 0, size.width, size.height);
  pen.strokeStyle = theme.accentText;
  pen.lineWidth = 2;
  if (current >= 0 && shown[current]) {
    const [x, y] = pixelOf(axes.x.values[current], axes.y.values[current]);
    pen.beginPath();
    pen.arc(x, y, 8, 0, 2 * Math.PI);
    pen.stroke();
  }
  if (!drag?.path || drag.mode === "pan") return;
  pen.beginPath();
  for (const [x, y] of outlineOf(drag)) pen.lineTo(x, y);
  pen.closePath();
  pen.setLineDash([5, 4]);
  pen.stroke();
  pen.setLineDash([]);
}

// Thumbnails: the pictures of a sheet are decoded when one of them is wanted.
const sheets = kept((number) => {
  const { picture, outlines } = data.sheets[number];
  const loaded = [picture, outlines].map((source) => {
    const image = new Image();
    image.src = source;
    return image.decode().then(() => image);
  });
  return Promise.all(loaded);
});
async function drawThumbnail(canvas, i) {
  const [number, place] = [places[2 * i], places[2 * i + 1]];
  canvas.dataset.object = i;
  canvas.hidden = number < 0;
  if (number < 0) return;
  const { size: side, columns } = data.sheets[number];
  const layers = await sheets(number);
  if (Number(canvas.dataset.object) !== i) return; // another one is wanted by now
  [canvas.width, canvas.height] = [side, side];
  const context = canvas.getContext("2d");
  const from = [(place % columns) * side, Math.floor(place / columns) * side, side, side];
  for (const layer of at("outlines").checked ? layers : layers.slice(0, 1)) {
    context.drawImage(layer, ...from, 0, 0, side, side);
  }
  canvas.dataset.drawn = i;
}

// The card of a point.
const card = at("card");
function tell(i, aloud = false) {
  if (i === current && !card.hidden) return;
  current = i;
  paintMarks();
  card.hidden = i < 0;
  if (i < 0) return;
  const rows = [["image", wordOf("image", i)], ["object", labels[i]], ["class", classText(classes[i])]];
  for (const name of new Set([axes.x.name, axes.y.name])) {
    rows.push([titled(name), told(numbers(name)[i])]);
  }
  const { name } = colours;
  if (name in data.words && name !== "image") rows.push([name, wordOf(name, i) || "(none)"]);
  else if (name in data.numbers && ![axes.x.name, axes.y.name].includes(name)) {
    rows.push([titled(name), told(numbers(name)[i])]);
  }
  card.querySelector("dl").replaceChildren(...rows.flatMap(([key, value]) => [
    Object.assign(document.createElement("dt"), { textContent: key }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  ]));
  drawThumbnail(card.querySelector("canvas"), i);
  const box = marks.getBoundingClientRect();
  const [x, y] = pixelOf(axes.x.values[i], axes.y.values[i]);
  const { offsetWidth: wide, offsetHeight: high } = card;
  const right = box.left + x + 16 + wide < innerWidth;
  card.style.left = `${Math.max(0, box.left + scrollX + (right ? x + 16 : x - 16 - wide))}px`;
  const top = Math.min(box.top + y + 16, innerHeight - high - 4);
  card.style.top = `${Math.max(4, top) + scrollY}px`;
  if (aloud) say(rows.map(([key, value]) => `${key} ${value}`).join(", "));
}

// Moving about.
function zoom(factor, x = null, y = null) {
  const box = inner();
  const [u, v] = placeOf(x ?? box.left + box.width / 2, y ?? box.top + box.height / 2);
  const allowed = Math.min(4 / Math.max(view.w, view.h), Math.max(1e-6 / view.w, factor));
  view.x = u - (u - view.x) * allowed;
  view.y = v - (v - view.y) * allowed;
  view.w *= allowed;
  view.h *= allowed;
  paintSoon();
}
function move(right, up) {
  view.x += right * view.w;
  view.y += up * view.h;
  paintSoon();
}
function home() {
  Object.assign(view, { x: 0, y: 0, w: 1, h: 1 });
  paintSoon();
}
function choose(what) {
  if (what !== "colour") {
    axes.x = scaled(at("x").value, at("log-x").checked);
    axes.y = scaled(at("y").value, at("log-y").checked);
    home();
  }
  if (what !== "axes") colours = coloured(at("colour").value);
  tell(-1);
  arrange();
  paintLegend();
  paintSoon();
}
