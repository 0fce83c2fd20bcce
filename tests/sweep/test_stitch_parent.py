"""Separate tiles, put together again: parts, tiles left out and cropped, and where it writes."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from skimage.measure import label

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.images import read_labels
from opsef_bridge.images.labels import read_labels_info, write_labels
from opsef_bridge.sweep.stitched import check_stitched_file, stitch_parent, tiles_of_parent

TILES = {"tiles": {"size": 64, "overlap": 0, "separate": True}}
WHOLE = {"crop": "none", "images": "all"}
SHAPE = (64, 150)
"""Three tiles in a row: columns 0:64, 64:128, 128:150."""
PARENT = "data/a.tif"


@pytest.fixture
def ran(bench, make_discs):
    """A project of three tiles, and what is in them."""
    image = make_discs(2, SHAPE)
    project = bench.project({"a.tif": image}, images=TILES, sweep=WHOLE)
    assert bench.sweep(project).exit_code == 0
    assert [entry.part for entry in project.images()][1] == "y=0:64 x=64:128"
    return project, image


def change(project, number, **columns):
    """Change columns of the index, as a person does."""
    entries = project.images()
    entries[number] = replace(entries[number], **columns)
    project.write_images(entries)


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two label images have the same objects, whatever their numbers."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(row)) == pairs.shape[1] for row in pairs)


def objects(image):
    return label(image > 10, connectivity=1)


def test_a_tile_that_was_left_out_stays_background(ran):
    project, image = ran
    change(project, 1, include=False)
    said = []
    found = stitch_parent(project, None, "v0001", PARENT, say=said.append)
    expected = objects(image)
    expected[:, 64:128] = 0
    # Discs that the gap cuts are two objects each: nothing says that they are one.
    assert found.shape == SHAPE and same_objects(found, label(expected, connectivity=1))
    [sentence] = said
    assert "include: no" in sentence and project.images()[1].id in sentence
    for number in (0, 2):
        change(project, number, include=False)
    with pytest.raises(InputError, match="all 3 tiles"):
        stitch_parent(project, None, "v0001", PARENT)


def test_the_size_is_that_of_the_whole_without_the_last_tile(ran):
    project, _ = ran
    change(project, 2, include=False)
    found = stitch_parent(project, None, "v0001", PARENT)
    assert found.shape == SHAPE and found[:, :128].any() and not found[:, 128:].any()


def test_labels_of_a_crop_lie_where_the_crop_lies(bench, ran):
    project, image = ran
    change(project, 1, crop="y=22:44 x=86:128")
    assert bench.sweep(project).exit_code == 0
    said = []
    found = stitch_parent(project, None, "v0001", PARENT, say=said.append)
    expected = image > 10
    kept = np.zeros(SHAPE, bool)
    kept[:, :64] = kept[:, 128:] = kept[22:44, 86:128] = True
    np.testing.assert_array_equal(found > 0, expected & kept)
    # The crop touches the tile on its right, whose discs are joined with their halves.
    assert same_objects(found, label(expected & kept, connectivity=1))
    [sentence] = said
    assert sentence.startswith("Cropped") and project.images()[1].id in sentence


def test_labels_of_before_a_crop_was_changed_are_refused(bench, ran):
    project, _ = ran
    change(project, 1, crop="y=0:40 x=70:100")
    with pytest.raises(InputError, match="64 x 64 pixels"):
        stitch_parent(project, None, "v0001", PARENT)
    assert bench.sweep(project).exit_code == 0
    assert stitch_parent(project, None, "v0001", PARENT).shape == SHAPE
    change(project, 1, crop="y=0:40 x=71:101")
    with pytest.raises(InputError, match=r"x=70:100.*x=71:101"):
        stitch_parent(project, None, "v0001", PARENT)


def test_a_tile_without_labels_and_a_lost_row_are_refused(ran):
    project, _ = ran
    project.run().label_file("v0001", project.images()[1].id).unlink()
    with pytest.raises(NotFoundError, match="no labels"):
        stitch_parent(project, None, "v0001", PARENT)
    project.write_images([project.images()[0], project.images()[2]])
    with pytest.raises(InputError):
        stitch_parent(project, None, "v0001", PARENT)


@pytest.fixture
def series(bench, make_discs):
    """A project of two time points, each in three tiles."""
    frames = np.stack([make_discs(1, SHAPE), make_discs(2, SHAPE, radius=7)])
    project = bench.project({}, images=TILES, sweep=WHOLE)
    tifffile.imwrite(project.root / "data" / "a.tif", frames, imagej=True, metadata={"axes": "TYX"})
    assert bench.sweep(project).exit_code == 0
    return project, frames


def test_time_points_in_tiles_are_stitched_one_by_one(bench, series):
    project, frames = series
    with pytest.raises(InputError, match=r'2 time points or substacks.*"t=0", "t=1"'):
        stitch_parent(project, None, "v0001", PARENT)
    for t in (0, 1):
        for part in (f"t={t}", f"t={t} y=0:64 x=64:128"):
            found = stitch_parent(project, None, "v0001", PARENT, part)
            assert same_objects(found, objects(frames[t]))
    with pytest.raises(NotFoundError) as caught:
        tiles_of_parent(project, PARENT, "t=2")
    assert '"t=0", "t=1"' in caught.value.hint
    with pytest.raises(InputError, match="cannot be understood"):
        tiles_of_parent(project, PARENT, "second")
    with pytest.raises(NotFoundError) as caught:
        tiles_of_parent(project, "b.tif")
    assert PARENT in caught.value.hint

    file = project.root / "whole.tif"
    words = ("images", "stitch", PARENT, "v0001", "--to", str(file))
    code, _, err = bench.opsef(project, *words)
    assert code == InputError.exit_code and '--part "t=0"' in err and not file.exists()
    code, out, _ = bench.opsef(project, *words, "--part", "t=1")
    assert code == 0 and "objects" in out
    assert same_objects(read_labels(file), objects(frames[1]))
    assert "part: t=1" in read_labels_info(file).splitlines()


def volumes(project, labels, regions):
    """Give each tile of the index labels and a part as if a run had made them."""
    entries = project.images()
    for entry, array, (part, crop) in zip(entries, labels, regions, strict=True):
        changed = replace(entry, part=part, crop=crop)
        file = project.run().label_file("v0001", entry.id)
        write_labels(file, array, info=changed.info_text())
        entries[entries.index(entry)] = changed
    project.write_images(entries)


def test_planes_of_a_crop_lie_where_they_lie(ran):
    project, _ = ran
    whole = np.zeros((4, *SHAPE), np.int32)
    whole[1:3, 5:20, 60:130] = 1
    parts = [f"z=2:6 y=0:64 x={x}" for x in ("0:64", "64:128", "128:150")]
    crop = "z=4:5"
    tiles = [whole[..., :64], whole[2, :, 64:128], whole[..., 128:]]
    volumes(project, tiles, zip(parts, ["", crop, ""], strict=True))
    found = stitch_parent(project, None, "v0001", PARENT)
    whole[[0, 1, 3], :, 64:128] = 0
    np.testing.assert_array_equal(found > 0, whole > 0)
    volumes(project, [*tiles[:1], tiles[1] * 0, *tiles[2:]], zip(parts, [""] * 3, strict=True))
    with pytest.raises(InputError, match="projected to a plane"):
        stitch_parent(project, None, "v0001", PARENT)


def test_nothing_is_written_over_but_what_it_wrote(bench, ran):
    project, _ = ran
    source = project.root / "data" / "a.tif"
    before = source.read_bytes()
    code, _, err = bench.opsef(
        project, "images", "stitch", PARENT, "v0001", "--to", str(source), "--run", "run-0001"
    )
    assert code == InputError.exit_code and "is an image of the project" in err
    assert source.read_bytes() == before
    file = project.root / "whole.tif"
    for _ in range(2):  # its own file may be written again
        words = ("images", "stitch", PARENT, "v0001", "--to", str(file))
        assert bench.opsef(project, *words)[0] == 0
    assert read_labels_info(file).startswith("stitched: v0001 of run-0001\n")


def test_where_stitched_labels_cannot_go(ran):
    project, _ = ran
    root = project.root
    shutil.copy(root / "data" / "a.tif", root / "other.tif")
    (root / "text.tif").write_text("notes")
    (root / "folder.tif").mkdir()
    (root / "link.tif").symlink_to(root / "data" / "a.tif")
    (root / "lost.tif").symlink_to(root / "nowhere.tif")
    labels = project.run().label_file("v0001", project.images()[0].id)
    for file, words in [
        (root / "other.tif", "is no file that"),
        (root / "text.tif", "is no file that"),
        (root / "folder.tif", "is no file that"),
        (root / "lost.tif", "is no file that"),
        (labels, "is no file that"),
        (root / "link.tif", "is an image of the project"),
        (root / "data" / ".." / "data" / "a.tif", "is an image of the project"),
        (root / "whole.png", "tif"),
        (root / "whole", "tif"),
        (root / "no" / "whole.tif", "no folder"),
    ]:
        with pytest.raises(InputError, match=words):
            check_stitched_file(project, file)
    for name in ("new.tif", "new.TIFF"):
        check_stitched_file(project, root / name)


def test_a_source_is_never_written_over_even_if_it_was_stitched(ran):
    project, _ = ran
    file = project.root / "data" / "a.tif"
    write_labels(file, np.ones(SHAPE, int), info="stitched: v0001 of run-0001")
    with pytest.raises(InputError, match="is an image of the project"):
        check_stitched_file(project, file)
