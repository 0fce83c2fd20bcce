"""How quickly the page of objects answers with 20,000 points, beside one SVG circle per point.

Run ``python benchmarks/bench_page.py [POINTS]``; needs Chromium on PATH. Both pages show the same
points at the same places in the same browser. Measured by the clock of the page: until it is
ready; one move of the mouse over the points (median of 40), and a lasso around most of
the points, each with the frame that shows it. First it is checked that both pages select the same
objects.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from opsef_bridge.analysis.page import PageData, render_page
from opsef_bridge.analysis.thumbnails import make_sheets, places_on
from tests.browser import Browser, opened

SIDE, WIDTH, HEIGHT = 24, 880, 700
LASSO = [[120, 80], [620, 90], [560, 420], [300, 600], [140, 350]]

SVG = """<!DOCTYPE html><meta charset="utf-8">
<svg id="plot" width="{width}" height="{height}">{dots}</svg><script>
const dots = [...document.querySelectorAll("circle")];
function within(p) {{
  const inside = [];
  for (const dot of dots) {{
    const x = +dot.getAttribute("cx"), y = +dot.getAttribute("cy");
    let odd = false;
    for (let i = 0, j = p.length - 1; i < p.length; j = i++) {{
      const [[a, b], [c, d]] = [p[i], p[j]];
      if ((b > y) !== (d > y) && x < ((c - a) * (y - b)) / (d - b) + a) odd = !odd;
    }}
    if (odd) inside.push(dot);
  }}
  return inside;
}}
function select(found) {{
  for (const dot of dots) dot.removeAttribute("fill");
  for (const dot of found) dot.setAttribute("fill", "red");
}}
let last = null;
document.getElementById("plot").addEventListener("pointermove", (event) => {{
  if (last) last.removeAttribute("stroke");
  last = event.target;
  last.setAttribute("stroke", "black");
}});
const done = () => {{ document.body.dataset.ready = performance.now(); }};
requestAnimationFrame(() => setTimeout(done));
</script>"""

FRAME = "await new Promise(r => requestAnimationFrame(() => setTimeout(r)));"


def points(count: int) -> pd.DataFrame:
    """Return made-up objects."""
    rng = np.random.default_rng(0)
    area, mean = rng.gamma(4, 30, count), rng.normal(100, 20, count)
    return pd.DataFrame(
        {
            "image": [f"i{k % 50:05d}-a" for k in range(count)], "label": np.arange(1, count + 1),
            "run": "run-0001", "variant": "v0001", "revision": "", "class": 0, "area": area,
            "mean_intensity": mean, "solidity": rng.random(count),
        }
    )  # fmt: skip


def ours(table: pd.DataFrame) -> str:
    """Return the page of objects, with a thumbnail of each."""
    count = len(table)
    across = int(np.ceil(np.sqrt(count)))
    labels = np.zeros((across * SIDE, across * SIDE), np.int32)
    for k in range(count):
        y, x = np.array(divmod(k, across)) * SIDE
        labels[y + 6 : y + 18, x + 6 : x + 18] = k + 1
    image = np.random.default_rng(1).normal(200, 30, labels.shape) + 800 * (labels > 0)
    sheets, _ = make_sheets(image, labels, table["label"].to_numpy(), budget=12e6 / count)
    return render_page(PageData("bench", table, sheets, places_on(count), total=count))


def peer(places: np.ndarray) -> str:
    """Return the same points as circles."""
    dots = "".join(f'<circle cx="{x:.3f}" cy="{y:.3f}" r="3"/>' for x, y in places)
    return SVG.format(width=WIDTH + 40, height=HEIGHT + 60, dots=dots)


def timed(browser: Browser, action: str, repeat: int) -> float:
    """Return the median milliseconds of an action with the frame that shows it."""
    script = (
        f"(async () => {{ const spent = []; for (let k = 0; k < {repeat}; k++) {{"
        f"{FRAME} const start = performance.now(); {action} {FRAME}"
        "spent.push(performance.now() - start); } return spent; })()"
    )
    return float(np.median(browser.run(script)))


def main(count: int = 20_000) -> None:
    """Measure and print."""
    table = points(count)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "b") as browser:
        browser.size(1300, 1000)
        figures: dict[str, tuple[float, float, float]] = {}
        chosen = {}
        places = np.zeros((0, 2))
        for name in ("page", "svg"):
            file = Path(folder) / f"{name}.html"
            file.write_text(ours(table) if name == "page" else peer(places), "utf-8")
            browser.open(file.as_uri())
            browser.until("document.body.dataset.ready")
            ready = float(browser.run("Number(document.body.dataset.ready)"))
            if name == "page":
                all_places = (
                    f"Array.from({{length: {count}}}, (_, i) => "
                    "pixelOf(axes.x.values[i], axes.y.values[i]))"
                )
                places = np.array(browser.run(f"JSON.parse(JSON.stringify({all_places}))"))
                chosen[name] = browser.run(
                    f"(() => {{ select(within({json.dumps(LASSO)}));return [...chosenOnes()]; }})()"
                )
            else:
                chosen[name] = browser.run(
                    f"within({json.dumps(LASSO)}).map(dot => dots.indexOf(dot))"
                )
            target = "document.getElementById('marks') || document.getElementById('plot')"
            hover = (
                f"const m = {target}; const r = m.getBoundingClientRect();"
                "const x = r.left + 150 + 10 * k, y = r.top + 100 + 8 * k;"
                "(document.elementFromPoint(x, y) || m).dispatchEvent(new PointerEvent("
                "'pointermove', {clientX: x, clientY: y, bubbles: true}));"
            )
            figures[name] = (
                ready,
                timed(browser, hover, 40),
                timed(browser, f"select(within({json.dumps(LASSO)}));", 9),
            )
            assert not browser.said, browser.said
            print(f"{name}: {file.stat().st_size / 1e6:.1f} MB")
    same = sorted(chosen["page"]) == sorted(chosen["svg"])
    print(f"{count:,} points; the same {len(chosen['page']):,} selected: {same}")
    print(f"{'':16}{'ready':>10}{'hover':>10}{'lasso':>10}   ms")
    for name, values in figures.items():
        print(f"{name:16}" + "".join(f"{value:>10.1f}" for value in values))
    ratios = (b / a for a, b in zip(figures["page"], figures["svg"], strict=True))
    print(f"{'svg : page':16}" + "".join(f"{ratio:>10.1f}" for ratio in ratios))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
