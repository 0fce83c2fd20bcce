"""``opsef compare``: stacks again, otherwise shown, in the order of the ranking by now."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import PIL.Image
import pytest
import tifffile

from opsef_bridge.compare.stack import OUTLINE
from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.files import read_json
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project, read_csv
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from opsef_bridge.sweep.comparing import Wish, compare_again, stack_bytes
from opsef_bridge.sweep.crops import parse_crop
from opsef_bridge.sweep.planned import Plan
from opsef_bridge.sweep.rank import rerank
from opsef_bridge.sweep.ranking import STALE, ranking_file
from opsef_bridge.sweep.stacks import write_stack
from tests.small_projects import Here, discs
from tests.sweep.test_ranking_json import answer_right

THREE = {"probe": {"engine": "probe", "threshold": [0.4, 0.6, 0.8]}}
RECIPES = {"raw": [], "smooth": [{"median": {"radius": 1}}]}


@pytest.fixture
def swept(bench):
    """Two images of 96 x 100, of which a box of 64 x 64 was segmented."""
    files = {f"{name}.tif": discs(n, (96, 100)) for n, name in enumerate("ab")}
    project = bench.project(files, models=THREE, preprocess=RECIPES, sweep={"crop": 64})
    assert bench.sweep(project).ok == 12
    return project


def opened(project: Project, number: int = 0) -> tuple[dict, np.ndarray]:
    file = project.run().compare_file(project.images()[number].id)
    return read_stack(file)


def read_stack(file) -> tuple[dict, np.ndarray]:
    with tifffile.TiffFile(file) as tiff:
        told, planes = tiff.imagej_metadata, tiff.asarray()
    shape = told.get("frames", 1), told.get("slices", 1), told["channels"]
    return told, planes.reshape(*shape, *planes.shape[-2:])


def ids_of(told: dict) -> list[str]:
    """The variants of a stack, as Fiji finds them in the slice labels."""
    captions = told["Labels"][:: told.get("slices", 1) * told["channels"]]
    return [re.search(r"\b(v[0-9]{4,})\b", text).group(1) for text in captions]


def rows_of(project: Project) -> list[dict[str, str]]:
    return read_csv(project.run().variants_file)


def test_without_a_wish_the_same_stacks_are_written_again(swept):
    files = [swept.run().compare_file(entry.id) for entry in swept.images()]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    swept.run().report_file.unlink()
    done = compare_again(swept)
    assert list(done.files.values()) == files and not done.failed
    assert [file.read_bytes() for file in files] == before
    assert done.in_line == ["default"] and done.report.is_file()


def test_after_answers_stacks_report_and_words_follow_the_new_order(bench):
    swept = bench.project(models=THREE)
    bench.sweep(swept)
    last = "v0001"  # the lowest threshold finds most
    assert rows_of(swept)[0]["id"] != last
    answer_right(swept, last)
    words = rerank(swept, swept.run())["default"]["words"]
    rows = rows_of(swept)
    assert rows[0]["id"] == last and any(text.startswith(STALE) for text in words)
    told, _ = opened(swept)
    assert ids_of(told)[0] != last
    done = compare_again(swept)
    assert done.in_line == ["default"]
    told, _ = opened(swept)
    assert ids_of(told) == [row["id"] for row in rows]
    for row, caption in zip(rows, told["Labels"][::4], strict=True):
        assert caption.startswith(f"#{row['rank']} {row['id']} ")
        same = row["score"] == row["agreement"]
        assert (f"| score {float(row['score']):.3f} |" in caption) == (not same)
    assert f"score {float(rows[0]['score']):.3f}" in told["Labels"][0]
    table = told["Info"].split("\n\n")[1].splitlines()
    assert table[0].split("\t") == [
        "rank", "id", "slug", "objects", "score", "agreement", "agreement_07", "plain_mean",
        "status",
    ]  # fmt: skip
    for line, row in zip(table[1:], rows, strict=True):
        assert line.split("\t") == [row[name] for name in table[0].split("\t")]
    group = read_json(ranking_file(swept.run()))["groups"]["default"]
    assert group["shown"] == [row["id"] for row in rows]
    assert not any(text.startswith(STALE) for text in group["words"])
    assert set(group["words"]) == {text for text in words if not text.startswith(STALE)}
    assert STALE not in done.report.read_text("utf-8")


def test_a_part_of_the_stacks_does_not_bring_a_group_in_line(swept):
    answer_right(swept, "v0001")
    rerank(swept, swept.run())
    before = ranking_file(swept.run()).read_bytes()
    first = swept.images()[0].id
    for wish in (
        Wish(images=[first]), Wish(variants=["v0001"]), Wish(montage=True),
        Wish(to=swept.root / "elsewhere"),
    ):  # fmt: skip
        assert not compare_again(swept, wish=wish).in_line
    assert ranking_file(swept.run()).read_bytes() == before


def test_top_base_and_images(swept):
    second = swept.images()[1].id
    untouched = swept.run().compare_file(swept.images()[0].id).read_bytes()
    wish = Wish(top=2, base="smooth", images=[second.split("-")[0]])
    done = compare_again(swept, wish=wish)
    assert list(done.files) == [second]
    assert swept.run().compare_file(swept.images()[0].id).read_bytes() == untouched
    told, planes = opened(swept, 1)
    assert planes.shape == (2, 1, 4, 64, 64) and ids_of(told) == [
        row["id"] for row in rows_of(swept)[:2]
    ]
    assert "base: smooth, shown from" in told["Info"]
    assert "frames: 2 of 6 variants" in told["Info"]
    whole = discs(1, (96, 100))
    rough = [np.abs(np.diff(a.astype(float), axis=-1)).mean() for a in (planes[0, 0, 0], whole)]
    assert rough[0] < rough[1]


def test_variants_in_the_order_in_which_they_are_named(swept):
    slug = next(row["slug"] for row in rows_of(swept) if row["id"] == "v0003")
    wish = Wish(variants=["v0005", slug, "v0002"])
    compare_again(swept, wish=wish)
    told, planes = opened(swept)
    chosen = ["v0005", "v0003", "v0002"]
    assert ids_of(told) == chosen
    assert "ranking: none: the variants were chosen one by one" in told["Info"]
    for frame, variant in enumerate(chosen):
        labels = read_labels(swept.run().label_file(variant, swept.images()[0].id))
        np.testing.assert_array_equal(planes[frame, 0, 3] > 0, labels > 0)


def test_a_crop_shows_a_part_of_every_view(swept):
    _, whole = opened(swept)
    image = Plan.from_json(swept.run().plan()).images[0]
    y, x, height, width = image.box
    crop = (y + 8, x + 20, 32, 24)
    compare_again(swept, wish=Wish(crop=crop, images=[image.id]))
    told, planes = opened(swept)
    assert f'"y": {y + 8}, "x": {x + 20}, "height": 32, "width": 24' in told["Info"]
    np.testing.assert_array_equal(planes[:, :, 3], whole[:, :, 3, 8:40, 20:44])
    inner = np.s_[..., 1:-1, 1:-1]  # where a crop cuts an object there is no outline
    cut = whole[:, :, 2, 8:40, 20:44][inner] == OUTLINE
    np.testing.assert_array_equal(planes[:, :, 2][inner] == OUTLINE, cut)
    compare_again(swept, wish=Wish(crop=40, images=[image.id]))
    told, planes = opened(swept)
    assert planes.shape[-2:] == (40, 40)
    found = re.search(r'"y": (\d+), "x": (\d+), "height": 40, "width": 40', told["Info"])
    at = [int(number) for number in found.groups()]
    assert y <= at[0] <= y + height - 40 and x <= at[1] <= x + width - 40
    _, again = opened(swept)
    np.testing.assert_array_equal(
        again[:, :, 3], whole[:, :, 3, at[0] - y : at[0] - y + 40, at[1] - x : at[1] - x + 40]
    )


def test_the_values_of_the_source_are_kept(swept):
    compare_again(swept, wish=Wish(dtype="source"))
    for number, entry in enumerate(swept.images()):
        box = next(i.box for i in Plan.from_json(swept.run().plan()).images if i.id == entry.id)
        y, x, height, width = box
        source = tifffile.imread(swept.source_file(entry))[y : y + height, x : x + width]
        told, planes = opened(swept, number)
        assert planes.dtype == np.uint16
        for frame in planes:
            np.testing.assert_array_equal(frame[0, 0], source)
        low, high = told["Ranges"][:2]
        assert source.min() <= low < high <= source.max()
        assert told["Ranges"][2:] == (0, 255) * 3
        assert planes[:, :, 1:].max() <= 255


def test_a_montage_is_a_picture_beside_the_stacks(swept, tmp_path):
    before = swept.run().compare_file(swept.images()[0].id).read_bytes()
    done = compare_again(swept, wish=Wish(montage=True, top=4))
    assert [file.name for file in done.files.values()] == [
        f"{entry.id}_montage.png" for entry in swept.images()
    ]
    picture = np.asarray(PIL.Image.open(done.files[swept.images()[0].id]))
    assert picture.ndim == 3 and (picture == (255, 230, 0)).all(axis=2).any()
    assert swept.run().compare_file(swept.images()[0].id).read_bytes() == before
    file = tmp_path / "new" / "one.png"
    wish = Wish(montage=True, images=[swept.images()[0].id], to=file)
    assert list(compare_again(swept, wish=wish).files.values()) == [file] and file.is_file()


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        (Wish(top=0), InputError, ["top", "0"]),
        (Wish(base="green"), NotFoundError, ["green", "raw, smooth"]),
        (Wish(images=["i00009"]), NotFoundError, ["i00009", "2"]),
        (Wish(variants=["v0009"]), NotFoundError, ["v0009", "v0001 to v0006"]),
        (Wish(variants=["v0001", "v0002", "v0001"]), InputError, ["v0001", "twice"]),
        (Wish(crop=(0, 0, 900, 32)), InputError, ["0 to 900", "y "]),
        (Wish(crop=65), InputError, ["65", "64 x 64"]),
        (Wish(to="x.tif"), InputError, ["x.tif", "2 images"]),
        (Wish(to="x.png", images=["i00001"]), InputError, ["x.png", "montages .png"]),
    ],
)
def test_wishes_that_cannot_be_granted_leave_all_as_it_is(swept, wish, error, words, tmp_path):
    if wish.to:
        wish = Wish(to=tmp_path / wish.to, images=wish.images)
    folder = swept.run().compare_file("x").parent
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(error) as caught:
        compare_again(swept, wish=wish)
    assert all(word in str(caught.value) for word in words), caught.value
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("text", ["", "1,2,3", "a", "-5", "4", "0,0,8,64", "1,2,3,4,5", "٣٢"])
def test_crops_that_are_none(text):
    with pytest.raises(InputError, match="crop"):
        parse_crop(text)


def test_a_batch_compares_nothing(bench, swept):
    with pytest.raises(NotFoundError, match="run-0009"):
        compare_again(swept, "run-0009")
    adopt(swept, "v0001")
    batch = run_plan(swept, plan_batch(swept), Here())
    with pytest.raises(NotFoundError, match="batch"):
        compare_again(swept, batch.run)
    assert compare_again(swept).run == "run-0001", "the newest sweep, not the newest run"


def test_an_image_that_is_gone_costs_only_its_own_stack(swept):
    gone, there = swept.images()
    swept.source_file(gone).unlink()
    done = compare_again(swept)
    assert list(done.failed) == [gone.id] and list(done.files) == [there.id]
    assert not done.in_line and done.report is None


def test_bytes_are_told_beforehand(swept):
    written = sum(file.stat().st_size for file in compare_again(swept).files.values())
    assert stack_bytes(swept, None, Wish()) <= written <= 1.2 * stack_bytes(swept, None, Wish())
    wish = Wish(top=2, crop=(40, 40, 16, 16), dtype="source")
    assert stack_bytes(swept, None, wish) == 2 * 2 * 4 * 2 * 256


def write_peak(project: Project, top: int) -> float:
    """Peak of memory while a stack of so many variants is written, in pixels."""
    plan = Plan.from_json(project.run().plan())
    rows = rows_of(project)[:top]
    tracemalloc.start()
    write_stack(project, project.run(), plan, plan.images[0], rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 320**2


def test_writing_a_stack_of_more_variants_takes_no_more_memory(bench):
    models = {"probe": {"engine": "probe", "threshold": [0.4 + n / 40 for n in range(12)]}}
    project = bench.project({"a.tif": np.tile(discs(3, (160, 160)), (2, 2))}, models=models,
                            sweep={"crop": "none"}, compare={"top": 12, "rois": 0})  # fmt: skip
    assert bench.sweep(project).failed == 0
    write_peak(project, 2)  # compiles and imports
    few, many = write_peak(project, 3), write_peak(project, 12)
    assert len(opened(project)[1]) == 12
    assert many < few + 6, "planes of 8 bit; labels of nine more would be 36"


def test_only_who_asks_gets_a_stack_above_60_mb(bench):
    models = {"probe": {"engine": "probe", "threshold": [0.4, 0.6]}}
    image = np.full((2760, 2760), 200, np.uint16)
    image[100:140, 100:140] = 1700
    project = bench.project({"a.tif": image}, models=models,
                            sweep={"crop": "none"}, compare={"rois": 0})  # fmt: skip
    assert bench.sweep(project).ok == 2
    told, planes = opened(project)
    assert len(planes) == 1 and "frames: 1 of 2 variants" in told["Info"]
    assert stack_bytes(project, None, Wish()) == planes.nbytes
    compare_again(project)
    assert len(opened(project)[1]) == 1
    compare_again(project, wish=Wish(top=2))
    assert len(opened(project)[1]) == 2
