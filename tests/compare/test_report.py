"""The report as text: what it says, that it escapes, that it needs no network."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from opsef_bridge.compare.report import (
    Drawing,
    Entry,
    Group,
    Page,
    Picture,
    for_service,
    render,
    service_policy,
)
from opsef_bridge.compare.report_charts import knob_plots
from opsef_bridge.compare.report_pictures import (
    SUPPORT,
    base_uri,
    outlines_uri,
    palettes,
    support_classes,
)
from opsef_bridge.compare.words import Confidence
from opsef_bridge.config import parse_config
from opsef_bridge.engines import Weights
from opsef_bridge.project import ImageEntry, Project, Run
from opsef_bridge.sweep import make_plan, run_unit
from opsef_bridge.sweep.reporting import variant_snippet

NASTY = '<script>alert("x")</script> & co'
DOT = "data:image/png;base64,AAAA"


def entry(rank: int, **changes: object) -> Entry:
    made = Entry(
        rank=rank, id=f"v{rank:04d}", slug=f"raw_m_{rank}", caption=f"raw | m | t {rank}",
        family=f"family{rank % 3}", recipe="raw", scale=1.0, parameters={"t": rank},
        knobs={"recipe": "raw", "m: t": rank}, object_px=12.0, objects=40, seconds=0.5,
        agreement=0.97 - rank / 100, agreement_07=0.9, plain_mean=0.8 - rank / 100,
        score=0.98 - rank / 100, status="ok", snippet="models: {}\n",
    )  # fmt: skip
    return replace(made, **changes)


def outcome(image: str, variant: str, **changes: object) -> dict[str, object]:
    fine = {"image": image, "variant": variant, "status": "ok", "objects": 7, "seconds": 0.1,
            "unit": "u0001", "code": "", "message": "", "hint": ""}  # fmt: skip
    return fine | changes


def page_of(name: str = "default") -> Page:
    entries = [entry(rank) for rank in range(1, 16)]
    entries[0] = replace(entries[0], caption=name, slug=name, recipe=name, snippet=name)
    picture = Picture(name, name, name, (64, 64), DOT)
    outcomes = [outcome(name, e.id) for e in entries[1:]]
    outcomes.append(
        outcome(name, "v0001", status="failed", code="bad-image", message=name, hint=name)
    )
    drawings = {(name, e.id): Drawing(DOT, DOT) for e in entries[1:]}
    group = Group(name, entries, [picture], outcomes, drawings, np.eye(3))
    return Page(name, "run-0001", "today", {"Variants": name}, [group, group])


def decode(uri: str) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_commands_name_the_run_and_none_adopts_a_consensus(swept: tuple[Project, Run]) -> None:
    text = html.unescape(swept[1].report_file.read_text("utf-8"))
    commands = re.findall(r"opsef adopt v\d+ --group [^<]*", text)
    assert commands and all(one.endswith(f" --run {swept[1].id}") for one in commands)
    [group, _] = page_of().groups
    entries = [entry(1, family="consensus"), *group.entries[1:]]
    made = replace(group, name="my cells", entries=entries, run="run-0007")
    text = html.unescape(render(Page("p", "run-0007", "today", {}, [made])))
    assert text.count("opsef rois export v0001 --run run-0007<") == 2
    assert "opsef adopt v0001" not in text
    assert text.count("opsef adopt v0002 --group 'my cells' --run run-0007<") == 1


def test_page_has_all_sections_and_is_deterministic() -> None:
    text = render(page_of())
    assert re.findall("<h3>(.*?)</h3>", text)[:6] == [
        "Contact sheet", "Ranking", "Agreement matrix", "Which knob matters", "Failures",
        "Time and memory",
    ]  # fmt: skip
    assert text == render(page_of())
    assert "it is not an estimate of accuracy" in text
    assert "opsef adopt v0001 --group default" in text
    assert 'class="more"' in text and "Show 3 more variants" in text


def test_everything_is_escaped() -> None:
    text = render(page_of(NASTY))
    assert "alert(" in text
    assert NASTY not in text and "<script>alert" not in text
    # As text a quote needs no escape, but inside an attribute it would end it.
    assert html.escape(NASTY) in text


def test_page_leads_nowhere() -> None:
    text = render(page_of())
    assert not re.search(r"https?:|//[a-z]|@import|<link|\ssrc=\"(?!data:)", text)
    assert set(re.findall(r"url\(\"([a-z]+):", text)) == {"data"}
    assert set(re.findall(r'href="(.)', text)) == {"#"}
    assert "default-src 'none'" in text


def test_failed_cell_says_why() -> None:
    group = page_of("some name").groups[0]
    text = render(Page("p", "r", "d", {}, [group]))
    assert "<code>bad-image</code>" in text
    assert 'title="some name. some name"' in text
    assert "logs/u0001.txt" in text


def test_words_and_confidence_are_shown() -> None:
    group = page_of().groups[0]
    quiet = render(Page("p", "r", "d", {}, [group]))
    assert 'class="cautions"' not in quiet and "drawn anew" not in quiet
    assert "score 0.9" not in quiet  # it is the agreement
    told = replace(
        group, words=["Look <twice>."], answers=5, notes=["of a note"],
        confidence=Confidence({"v0003": 0.7, "v0002": 0.25}, "answers", 5),
    )  # fmt: skip
    text = render(Page("p", "r", "d", {}, [told]))
    assert "<li>Look &lt;twice&gt;.</li>" in text and "of a note" in text
    assert "first in 0% of the cases when the 5 answers are drawn anew" in text
    assert "score 0.970 · agreement 0.960" in text


def test_intervals_are_drawn_or_it_is_said_why_not() -> None:
    group = page_of("some name").groups[0]
    text = render(Page("p", "r", "d", {}, [group]))
    assert "with a single image there is nothing to draw anew" in text
    assert "--low" not in text.partition("<body")[2]
    entries = [replace(e, interval=(0.7, 0.95)) for e in group.entries]
    text = render(Page("p", "r", "d", {}, [replace(group, entries=entries)]))
    assert text.count("--low:0.700;--high:0.950") == len(entries) == text.count("0.700 to 0.950")
    assert "90% interval of the agreement" in text
    assert ">Score<" not in text
    text = render(Page("p", "r", "d", {}, [replace(group, entries=entries, answers=3)]))
    assert "90% interval of the score" in text and ">Score<" in text
    assert "score 0.970 · agreement 0.960" in text  # the head of the row too


def test_memory_by_family() -> None:
    group = replace(page_of("some name").groups[0], memory={"family1": 300 * 2**20})
    assert "300 MiB" in render(Page("p", "r", "d", {}, [group]))


def test_verdicts_are_summed_up_without_a_script() -> None:
    group = page_of("some name").groups[0]
    told = [
        {"image": "some name", "variant": "v0002", "verdict": verdict, "author": author, "at": "1"}
        for author, verdict in [("Ann", "good"), ("</span>Bob", "over"), ("Cy", "good")]
    ]
    text = render(Page("p", "r", "d", {}, [replace(group, verdicts=told)]))
    assert text.count("2 good, 1 over") == 3
    assert "</span>Bob" not in text and "&lt;/span&gt;Bob" in text
    row = re.search('<td class="said" data-of="v0002" data-sort="(.*?)">', text)
    assert row[1] == "1"


def test_a_service_is_told_in_the_place_of_the_policy() -> None:
    text = render(page_of())
    served = for_service(text, {"project": "demo", "author": NASTY, "key": "k"})
    assert "http-equiv" in text and "http-equiv" not in served
    assert served.count('name="opsef-service"') == 1 and NASTY not in served
    script = served.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in service_policy()
    assert for_service("an old page", {"project": "demo"}) == "an old page"


def test_knob_that_matters_most_comes_first_and_idle_knobs_are_left_out() -> None:
    knobs = [{"a": a, "b": b, "c": 1} for a in (2.0, 1.0) for b in ("x", "y")]
    scores = [0.9 * k["a"] / 2 - 0.01 * (k["b"] == "y") for k in knobs]
    plots = knob_plots(knobs, scores, ["t"] * 4)
    assert [re.search("<b>(.)</b>", plot)[1] for plot in plots] == ["a", "b"]
    assert "medians differ by 0.45" in plots[0]
    assert plots[0].count("<circle") == 4
    assert plots[0].index(">1</text>") < plots[0].index(">2</text>")  # values in their order


def test_outlines_keep_two_touching_objects_apart_at_any_size() -> None:
    labels = np.zeros((400, 400), int)
    labels[100:300, 100:200], labels[100:300, 200:300] = 1, 2
    for shape in ((400, 400), (220, 220), (800, 800)):
        alpha = np.array(decode(outlines_uri(labels, shape)).convert("RGBA"))[..., 3]
        assert alpha.shape == shape
        middle = alpha[shape[0] // 2]
        groups = np.flatnonzero(np.diff((middle == 255).astype(int)) == 1)
        assert len(groups) == 3  # left, between, right
        assert middle[shape[1] // 4 + shape[1] // 8] == 0  # inside


def test_outlines_tell_support_by_another_palette() -> None:
    labels = np.zeros((60, 240), int)
    supports = np.array([0.1, 0.3, 0.6, 0.9])
    for number in range(4):
        labels[10:50, 60 * number + 10 : 60 * number + 50] = number + 1
    uri = outlines_uri(labels, labels.shape, support_classes(np.arange(1, 5), supports))
    plain, coloured = palettes()
    assert uri.count(plain) == 1
    shown = {
        name: np.array(decode(text).convert("RGBA"))[10, :, :3]
        for name, text in {"plain": uri, "support": uri.replace(plain, coloured)}.items()
    }
    places = [60 * number + 30 for number in range(4)]
    assert [tuple(shown["plain"][x]) for x in places] == [(255, 225, 0)] * 4
    assert [tuple(shown["support"][x]) for x in places] == list(SUPPORT.values())


def test_objects_of_unknown_support_are_drawn_all_the_same() -> None:
    labels = np.zeros((30, 30), int)
    labels[5:20, 5:20] = 3
    alpha = np.array(decode(outlines_uri(labels, labels.shape)).convert("RGBA"))[..., 3]
    assert alpha[5, 10] == 255


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLIND = {
    "nobody": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("who", BLIND)
def test_the_least_supported_are_the_brightest_for_everybody(who: str) -> None:
    linear = ((np.array(list(SUPPORT.values())) / 255 + 0.055) / 1.055) ** 2.4
    seen = (linear @ np.array(BLIND[who]).T).clip(0, 1)
    light = seen @ (0.2126, 0.7152, 0.0722) + 0.05
    assert (light[:-1] / light[1:] > 1.3).all()
    assert (light / 0.05 > 3).all()  # beside the black halo: WCAG 1.4.11


def test_outlines_of_nothing_are_transparent() -> None:
    image = decode(outlines_uri(np.zeros((9, 9), int), (9, 9))).convert("RGBA")
    assert not np.array(image)[..., 3].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_base_of_any_dtype(dtype) -> None:
    ramp = np.tile(np.linspace(0, 255, 64), (32, 1)).astype(dtype)
    shown = np.array(decode(base_uri(ramp)).convert("L"))
    assert shown.shape == (32, 64)
    assert shown[:, 0].max() < 12 and shown[:, -1].min() > 243


def test_large_base_is_shrunk() -> None:
    assert decode(base_uri(np.zeros((1500, 3000), np.uint16))).size == (1024, 512)


def test_snippet_makes_the_same_variant() -> None:
    start = "opsef: 1\nimages: {source: data}\n"
    config = parse_config(
        start + "preprocess: {raw: [], even: [{median: {radius: 2}}, clahe, {bin: {factor: 2}}]}\n"
        "models:\n"
        "  classic: {engine: watershed, scale: [0.5, 1], threshold: [otsu, 0.8], min_distance: 4}\n"
        "postprocess: {fill_holes: true, keep: [{area: [30, null]}]}\n"
    )
    images = [ImageEntry("i00001-x", "x.tif", sha256="0" * 64)]
    weights = {"classic": Weights("", "watershed")}
    for variant in make_plan(config, images, weights, {}).variants:
        alone = parse_config(start + variant_snippet(variant))
        (again,) = make_plan(alone, images, weights, {}).variants
        assert (again.key, again.slug) == (variant.key, variant.slug)


def test_report_of_a_swept_project(swept: tuple[Project, Run]) -> None:
    project, run = swept
    text = run.report_file.read_text(encoding="utf-8")
    assert len(text) < 3_000_000
    assert "A &amp; B" in text
    assert 'title="data/a&lt;b&gt;&amp;&quot;c.png"' in text and "a<b>" not in text
    assert re.findall("<em>(.*?)</em>", text) == ["bright", "dim"]
    assert "Order only, 1 family" in text
    assert "Support of an object by the other model families" in text
    assert re.search(r"\d+ MiB", text)  # of the process that did the units
    assert text.count("bad-image") == 12 + 1  # its cells, and one row for all of them
    # 12 variants on each of the 3 readable images, and their bare pictures.
    assert text.count('data-view="data:image/png') == 36
    assert len(re.findall(r"--base:url\(\"data:image/jpeg", text)) == 3
    unit = next(u["id"] for u in run.plan()["units"] if u["kind"] == "report")
    run.done_file(unit).unlink()
    run_unit(str(project.root), run.id, unit)
    assert run.report_file.read_text(encoding="utf-8") == text
