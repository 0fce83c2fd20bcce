"""Regions: the same for a seed, in balance, and labels that stay with their pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from opsef_bridge.errors import InputError, ProjectError
from opsef_bridge.images import read_image
from opsef_bridge.train.augment import Augmentation, apart
from opsef_bridge.train.data import UNKNOWN, Sample
from opsef_bridge.train.region_files import read_regions, write_preview, write_regions
from opsef_bridge.train.region_presets import PRESETS, EightBit, Preset, preset_of
from opsef_bridge.train.regions import Regions, degrade, draw_regions
from tests.train.labelled_project import squares

SMALL = {name: replace(preset, size=32) for name, preset in PRESETS.items()}


def sample(seed: int = 0, shape=(72, 90), kind: str = "", colour: bool = False) -> Sample:
    image, labels = squares(seed, shape)
    image = (image / 1400).astype(np.float32)
    if colour:
        image = np.stack([image, image * 0.5, 1 - image], axis=-1)
    return Sample(f"{kind}{seed}", image, labels, f"g{seed}", kind)


def labelled_by_place(shape=(60, 70)) -> Sample:
    """A sample whose image tells the same as its labels, and both the place."""
    labels = np.arange(1, np.prod(shape) + 1, dtype=np.int32).reshape(shape)
    return Sample("p", labels.astype(np.float32), labels, "g")


def same(a: Sample, b: Sample) -> bool:
    return (
        (a.name, a.kind, a.group) == (b.name, b.kind, b.group)
        and np.array_equal(a.image, b.image)
        and np.array_equal(a.labels, b.labels)
    )


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("colour", [False, True])
def test_a_seed_gives_the_same_regions_whatever_their_count(name, colour):
    samples = [sample(n, kind="ab"[n % 2], colour=colour) for n in range(4)]
    few = list(draw_regions(samples, 3, SMALL[name], seed=7))
    many = Regions(samples, 20, SMALL[name], seed=7)
    assert all(same(one, many[n]) for n, one in enumerate(few))
    assert same(many[-1], many[19]) and same(many[2], few[2])
    other = Regions(samples, 3, SMALL[name], seed=8)
    assert not all(same(one, other[n]) for n, one in enumerate(few))
    shape = (32, 32, 3) if colour else (32, 32)
    assert {(r.image.shape, r.image.dtype.name, r.labels.dtype.name) for r in few} == {
        (shape, "float32", "int32")
    }
    assert all(np.isfinite(r.image).all() for r in many)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), count=st.integers(1, 40),
       seed=st.integers(0, 99))  # fmt: skip
def test_kinds_are_in_balance_after_any_count(sizes, count, seed):
    samples = [
        Sample(f"{k}{n}", np.zeros((9, 9), np.float32), np.ones((9, 9), np.int32), "g", f"k{k}")
        for k, times in enumerate(sizes)
        for n in range(times)
    ]
    regions = Regions(samples, count, Preset("x", size=8), seed)
    seen: Counter[str] = Counter({f"k{k}": 0 for k in range(len(sizes))})
    for region in regions:
        seen[region.kind] += 1
        assert max(seen.values()) - min(seen.values()) <= 1
    assert dict(seen) == regions.balance()


def test_images_of_a_kind_are_drawn_by_what_is_known_of_them():
    large, small = sample(0, (120, 120)), sample(1, (60, 60))
    half = replace(sample(2, (120, 120)), labels=np.full((120, 120), UNKNOWN, np.int32))
    half.labels[:60] = 0
    counts = Counter(
        region.group for region in Regions([large, small, half], 700, Preset("x", size=8))
    )
    # 4 : 1 : 2; five standard deviations of the smallest count are 46
    assert abs(counts["g0"] - 400) < 66 and abs(counts["g1"] - 100) < 47
    assert abs(counts["g2"] - 200) < 60


def test_regions_overlap_and_reach_everywhere():
    place = labelled_by_place()
    seen = np.zeros(place.labels.size + 1, int)
    for region in Regions([place], 200, Preset("none", size=24)):
        seen[region.labels.ravel()] += 1
    # Corners are in few of all possible regions.
    assert (seen[1:] >= 1).mean() > 0.97 and seen.max() > 20


class TestShape:
    def test_without_change_a_region_is_a_piece_of_the_image(self):
        place = labelled_by_place()
        for region in Regions([place], 5, Preset("none", size=24)):
            top, left = np.unravel_index(region.labels[0, 0] - 1, place.labels.shape)
            cut = np.s_[top : top + 24, left : left + 24]
            np.testing.assert_array_equal(region.labels, place.labels[cut])
            np.testing.assert_array_equal(region.image, place.image[cut])

    @pytest.mark.parametrize("turns, count", [("all", 8), ("one", 5)])
    def test_turns_and_flips(self, turns, count):
        place = labelled_by_place((24, 24))
        regions = Regions([place], 120, Preset("x", size=24, turns=turns))
        ways = {region.labels.tobytes() for region in regions}
        assert len(ways) == count
        assert all(np.array_equal(r.image, r.labels.astype(np.float32)) for r in regions)
        same_way = [r for r in regions if np.array_equal(r.labels, place.labels)]
        assert bool(same_way) == (turns == "all")  # `one` always turns or flips

    @pytest.mark.parametrize("scale", [0.5, 2.0])
    def test_enlargement(self, scale):
        one = sample(shape=(120, 120))
        preset = Preset("x", size=48, scales=(scale,))
        for region in Regions([one], 5, preset):
            pieces, _ = ndimage.label(region.labels > 0)
            whole = np.bincount(pieces.ravel())[1:].max()
            assert abs(np.sqrt(whole) / (6 * scale) - 1) < 0.2

    def test_scales_at_which_the_image_is_too_small_are_passed_over(self):
        one = sample(shape=(60, 60))
        preset = Preset("x", size=48, scales=(0.333, 1.0, 2.0))
        for region in Regions([one], 20, preset):
            pieces, _ = ndimage.label(region.labels > 0)
            assert np.bincount(pieces.ravel())[1:].max() in (36, 144)

    def test_nothing_is_taken_from_the_shoulders(self):
        place = labelled_by_place((60, 70))
        inner = set(place.labels[8:-8, 8:-8].ravel())
        preset = replace(PRESETS["zaki"], size=40, eight_bit=None, scales=(1.0, 0.667, 2.0))
        seen = set()
        for region in Regions([place], 150, preset):
            seen |= set(np.unique(region.labels))
        assert seen <= inner and len(seen) > 0.95 * len(inner)

    @pytest.mark.parametrize("name", ["none", "opsef", "elastic"])
    def test_labels_go_the_same_way_as_pixels(self, name):
        yes = sample(shape=(120, 130))
        image = (yes.labels > 0).astype(np.float32)
        preset = replace(SMALL[name], size=64, light=None)
        for region in Regions([replace(yes, image=image)], 12, preset):
            differs = (region.image > 0.5) != (region.labels > 0)
            inside = ndimage.binary_erosion(region.labels > 0) | ~ndimage.binary_dilation(
                region.labels > 0
            )
            assert not (differs & inside).any()

    def test_elastic_bends_and_free_angles_turn(self):
        place = labelled_by_place((200, 200))
        straight = Regions([place], 1, Preset("x", size=64))[0].labels
        steps = np.diff(straight, axis=1)
        assert (steps == 1).all()
        for change in ({"elastic": 3.0}, {"rotation": 180.0}):
            found = Regions([place], 1, Preset("x", size=64, **change))[0].labels
            assert not (np.diff(found, axis=1) == 1).all()
            assert len(np.unique(found)) > 0.6 * found.size  # nothing is folded together

    def test_a_small_image_is_continued_by_its_mirror_and_objects_stay_apart(self):
        labels = np.zeros((20, 20), np.int32)
        labels[8:12, 15:18] = 5
        labels[2:6, 0:4] = 6  # touches the edge: with its mirror image one object
        small = Sample("s", labels.astype(np.float32), labels, "g")
        for region in Regions([small], 20, Preset("none", size=50)):
            np.testing.assert_array_equal(region.image > 0, region.labels > 0)
            for id_ in np.unique(region.labels[region.labels > 0]):
                assert ndimage.label(region.labels == id_, np.ones((3, 3)))[1] == 1

    def test_pieces_keep_their_id_unless_they_are_to_be_parted(self):
        labels = np.zeros((40, 40), np.int32)
        labels[4:36, 4:8] = labels[4:36, 30:34] = labels[4:8, 4:34] = 3  # a bridge
        bridge = Sample("b", labels.astype(np.float32), labels, "g")
        found = {}
        for parted in (False, True):
            preset = Preset("x", size=32, apart=parted)
            regions = Regions([bridge], 40, preset)
            found[parted] = [len(np.unique(r.labels)) - 1 for r in regions]
        assert set(found[False]) == {1} and max(found[True]) == 2


class TestUnknown:
    def test_it_is_carried_and_every_region_shows_something_known(self):
        one = sample(shape=(200, 200))
        known = np.zeros((200, 200), bool)
        known[150:156, 3:9] = known[20:30, 100:104] = True
        sparse = replace(one, labels=np.where(known, one.labels, UNKNOWN))
        for name in PRESETS:
            for region in Regions([sparse], 15, SMALL[name]):
                values = set(np.unique(region.labels))
                assert UNKNOWN in values and values - {UNKNOWN}
                assert values <= set(np.unique(sparse.labels))

    def test_the_place_of_what_is_known_in_the_region_is_drawn(self):
        labels = np.full((100, 100), UNKNOWN, np.int32)
        labels[50, 50] = 1
        one = Sample("s", np.zeros((100, 100), np.float32), labels, "g")
        rows = [int(np.argmax(r.labels.max(axis=1))) for r in
                Regions([one], 200, Preset("x", size=16))]  # fmt: skip
        assert set(rows) == set(range(16))


class TestLight:
    def test_intensities_change_and_labels_do_not(self):
        one = sample(shape=(64, 64))
        plain = Regions([one], 6, Preset("x", size=64))
        lit = Regions([one], 6, Preset("x", size=64, light=Augmentation()))
        for before, after in zip(plain, lit, strict=True):
            np.testing.assert_array_equal(before.labels, after.labels)
            assert not np.array_equal(before.image, after.image)

    def test_eight_bits(self):
        one = sample(shape=(64, 64))
        for n in range(30):
            found = degrade(np.random.default_rng(n), one.image, EightBit())
            levels = found * 255
            assert found.min() >= 0 and found.max() <= 1
            np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)

    def test_each_noise_and_blur_is_used(self):
        # Of a flat image: CLAHE leaves it flat, noise does not, blur does.
        flat = np.full((64, 64), 0.5, np.float32)
        found = [degrade(np.random.default_rng(n), flat, EightBit()) for n in range(60)]
        still = sum(len(np.unique(one)) == 1 for one in found)
        dark = sum(len(np.unique(one)) == 2 and one.min() == 0 for one in found)
        assert 15 < still < 45 and dark > 2  # a half is blurred; an eighth has dropout


def test_pieces_get_ids_of_their_own():
    labels = np.array([[4, 0, 4, 4], [0, 0, 0, 0], [9, -1, 4, 0]])
    found = apart(labels)
    assert found[0].tolist() == [10, 0, 4, 4] or found[0].tolist() == [11, 0, 4, 4]
    assert found[2, 0] == 9 and found[2, 1] == -1 and len(np.unique(found)) == 6
    # diagonal neighbours are one piece
    assert apart(np.eye(3, dtype=int) * 2).max() == 2
    assert apart(np.full((3, 3), 5)).tolist() == [[5] * 3] * 3


class TestBadInput:
    @pytest.mark.parametrize(
        "samples, words",
        [
            ([], "no samples"),
            ([replace(sample(), labels=np.full((72, 90), UNKNOWN, np.int32))], "nobody vouches"),
            ([Sample("v", np.zeros((3, 9, 9)), np.zeros((3, 9, 9), np.int32), "g")], "shape"),
            ([sample(shape=(16, 90))], "shoulders"),
        ],
    )
    def test_samples(self, samples, words):
        with pytest.raises(InputError, match=words):
            Regions(samples, 3, SMALL["zaki"])

    def test_counts_and_presets(self):
        with pytest.raises(InputError, match="0 regions"):
            Regions([sample()], 0, SMALL["none"])
        with pytest.raises(InputError, match="Choose of none, opsef"):
            preset_of("imgaug")
        with pytest.raises(InputError, match="of 4 px"):
            Preset("x", size=4)
        with pytest.raises(IndexError):
            Regions([sample()], 3, SMALL["none"])[3]

    def test_a_one_pixel_image(self):
        one = Sample("1", np.ones((1, 1), np.float32), np.ones((1, 1), np.int32), "g")
        for preset in ("none", "opsef", "elastic"):
            assert (Regions([one], 2, SMALL[preset])[0].labels == 1).all()


class TestFiles:
    def test_what_is_written_is_read(self, tmp_path):
        regions = Regions([sample(0, kind="a"), sample(1, kind="b")], 7, SMALL["zaki"], 3)
        card = write_regions(tmp_path / "r", regions, SMALL["zaki"], 3, {"dataset": "d0001"})
        assert (card["count"], card["seed"], card["preset"]["shoulder"]) == (7, 3, 8)
        assert sum(card["kinds"].values()) == 7 and card["of"] == {"dataset": "d0001"}
        found = read_regions(tmp_path / "r")
        assert len(found) == 7 and all(same(a, b) for a, b in zip(found, regions, strict=True))
        assert not found[0].image.flags.writeable and found.card == card

    def test_a_folder_that_holds_something_is_left_alone(self, tmp_path):
        (tmp_path / "mine.txt").write_text("x")
        regions = Regions([sample()], 2, SMALL["none"])
        with pytest.raises(InputError, match="not empty"):
            write_regions(tmp_path, regions, SMALL["none"], 0)
        assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]

    @pytest.mark.parametrize("damage", ["gone", "cut", "card"])
    def test_damage(self, tmp_path, damage):
        write_regions(tmp_path / "r", Regions([sample()], 3, SMALL["none"]), SMALL["none"], 0)
        file = tmp_path / "r" / ("regions.json" if damage == "card" else "labels.npy")
        if damage == "gone":
            file.unlink()
        elif damage == "cut":
            file.write_bytes(file.read_bytes()[:-100])
        else:
            file.write_text("{}")
        with pytest.raises(ProjectError, match="no regions that can be read"):
            read_regions(tmp_path / "r")

    @pytest.mark.parametrize("colour", [False, True])
    @pytest.mark.parametrize("sparse", [False, True])
    def test_a_preview_is_a_hyperstack(self, tmp_path, colour, sparse):
        one = sample(colour=colour)
        if sparse:
            one.labels[:40] = UNKNOWN
        regions = Regions([one], 4, SMALL["none"], 2)
        file = tmp_path / "p.tif"
        assert write_preview(file, regions, SMALL["none"], 2) == 4
        channels = (3 if colour else 1) + 1 + sparse
        stack = tifffile.imread(file)
        assert stack.shape == (4, channels, 32, 32) and stack.dtype == np.uint8
        assert read_image(file, axes="TCYX").data.shape == stack.shape
        with tifffile.TiffFile(file) as tiff:
            told = tiff.imagej_metadata
        assert "seed: 2" in told["Info"] and "preset: none" in told["Info"]
        outlines = stack[:, 3 if colour else 1]
        for n, region in enumerate(regions):
            drawn = outlines[n] > 0
            assert drawn.any() and (region.labels[drawn] > 0).all()
            core = ndimage.binary_erosion(region.labels > 0, np.ones((3, 3)))
            assert not (drawn & core).any() or len(np.unique(region.labels)) > 2
            if sparse:
                np.testing.assert_array_equal(stack[n, -1] > 0, region.labels < 0)

    def test_a_preview_of_another_format(self, tmp_path):
        with pytest.raises(InputError, match="no TIFF"):
            write_preview(tmp_path / "p.png", Regions([sample()], 1, SMALL["none"]),
                          SMALL["none"], 0)  # fmt: skip


def test_the_published_list():
    """The numbers of imgaug.cfg, so that nobody changes them in passing."""
    zaki = preset_of("zaki").to_json()
    assert zaki["eight_bit"] == {
        "clahe": [5, 50], "impulse": [0.001, 0.15], "poisson": [0, 20], "median": [1, 5],
        "gaussian": [0.255, 25.5], "dropout": [0.01, 0.1], "blur": [1, 9],
    }  # fmt: skip
    assert (zaki["size"], zaki["shoulder"], zaki["turns"]) == (256, 8, "one")
    assert zaki["scales"] == [1, 2, 0.333, 0.667, 1.333]
    assert (zaki["rotation"], zaki["elastic"], zaki["light"]) == (0, 0, None)
