"""What every engine keeps, as tests to inherit.

Give the engine, ready to predict, and run pytest::

    from opsef_bridge.testing.engines import EngineSuite

    class TestMine(EngineSuite):
        @pytest.fixture
        def engine(self):
            engine = Mine()
            engine.load(find_weights("mine", None))
            return engine

An engine for other objects than nuclei gives a `picture` of its own, too; one that takes
volumes inherits twice, once with ``axes = "ZYX"``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from opsef_bridge.demo import example_data
from opsef_bridge.engines import Engine, LoadedEngine, Raw, Weights
from opsef_bridge.engines.memory import OutOfMemory
from opsef_bridge.errors import InputError
from opsef_bridge.images import read_image, segment_plane
from opsef_bridge.measure import match
from opsef_bridge.sweep.cache import ArrayCache

__all__ = ["EngineSuite", "VolumeEngineSuite"]

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float16", "float32", "float64")
SHIFT = 32
"""In px: a multiple of the stride of most networks, so that they may see the same grid."""

NARROW = ((1, 1), (1, 40), (40, 1), (2, 3), (17, 5))


def run(engine: Engine, image: np.ndarray, *, reference: np.ndarray | None = None) -> np.ndarray:
    """Return the labels of `image` with default parameters."""
    raw = engine.predict(image, engine.Predict(), reference=reference)
    return engine.decode(raw, engine.Decode())


def check_labels(labels: np.ndarray, shape: tuple[int, ...]) -> int:
    """Check that `labels` are int32, of `shape`, and 0..N without gaps; return N."""
    assert labels.dtype == np.int32
    assert labels.shape == shape
    count = int(labels.max())
    assert labels.min() >= 0
    assert (np.bincount(labels.ravel(), minlength=count + 1)[1:] > 0).all(), "ids have gaps"
    return count


def f1(truth: np.ndarray, labels: np.ndarray) -> float:
    """F1 of two label images at an overlap (IoU) of 0.5."""
    return float(match(truth, labels)["f1"].iloc[0])


def object_count(labels: np.ndarray) -> int:
    """Return how many objects are seen in a part of labels, whatever their numbers."""
    return len(np.unique(labels[labels > 0]))


class Scarce:
    """An engine on a machine whose memory runs out so many times (injected)."""

    def __init__(self, engine: Engine, times: int) -> None:
        self._engine, self._times = engine, times
        self.name = engine.name

    def load(self, weights: Weights, device: str = "cpu") -> None:
        """Do nothing: it is loaded."""

    def lighten(self) -> str | None:
        """Make the engine lighter, if it can be."""
        return getattr(self._engine, "lighten", lambda: None)()

    def predict(
        self, image: np.ndarray, parameters: Any, *, reference: np.ndarray | None = None
    ) -> Raw:
        """Run out of memory, or predict."""
        if self._times:
            self._times -= 1
            raise MemoryError("injected")
        return self._engine.predict(image, parameters, reference=reference)


class EngineSuite:
    """Tests of one engine; a subclass has a fixture ``engine``, ready to predict.

    Attributes
    ----------
    axes : str
        What the images of the tests are: YX, ZYX or YXS.
    equivariance : float
        Least F1 between the labels of the turned picture and the turned labels.
    shifts : float
        Least F1 between the labels of two windows of the picture, where they overlap.
    rim : int
        Width in px of the edge of these windows that does not count.
    seams : float
        Least F1 between the labels of a picture in tiles and in one piece.
    stability : float
        Least F1 between the labels of the picture and of the same picture in other units
        of intensity, or cut out of a larger one.
    """

    axes = "YX"
    equivariance = 0.85
    shifts = 0.95
    rim = 32
    seams = 0.97
    stability = 0.97

    @pytest.fixture
    def engine(self) -> Engine:
        pytest.fail("a subclass gives its engine, loaded")

    @pytest.fixture
    def picture(self) -> np.ndarray:
        """A plane of uint8 or uint16 with objects that the engine finds."""
        path = example_data() / "images" / "small_fadeb0ab0928.png"
        plane: np.ndarray = segment_plane(read_image(path))
        return plane

    @pytest.fixture
    def image(self, picture: np.ndarray) -> np.ndarray:
        """A small part of the picture."""
        return self.lift(picture[:96, :112])

    def lift(self, plane: np.ndarray) -> np.ndarray:
        """Return `plane` as an image: itself, a volume of equal planes, or equal samples."""
        if self.axes == "ZYX":
            return np.stack([plane] * 3)
        return np.stack([plane] * 3, axis=-1) if self.axes == "YXS" else plane

    def plane(self, labels: np.ndarray) -> np.ndarray:
        """Return the middle plane of labels."""
        return labels[1] if self.axes == "ZYX" else labels

    def label_shape(self, image: np.ndarray) -> tuple[int, ...]:
        """The shape that labels of `image` have."""
        return image.shape[:-1] if self.axes == "YXS" else image.shape

    # What it says of itself.

    def test_it_says_what_it_is(self, engine: Engine) -> None:
        assert engine.name and engine.version
        assert self.axes in engine.axes and engine.axes <= {"YX", "ZYX", "YXS"}
        assert (type(engine).__doc__ or "").strip(), "its docstring says how it normalises"

    def test_parameters_have_defaults_and_part_in_two(self, engine: Engine) -> None:
        predict, decode = engine.Predict.model_fields, engine.Decode.model_fields
        assert not set(predict) & set(decode)
        assert {"scale", "diameter"} & set(predict), "object size is an axis of every engine"
        for part in (engine.Predict, engine.Decode):
            default = part()
            assert part(**default.model_dump(mode="json")) == default

    def test_parameters_have_limits(self, engine: Engine) -> None:
        for part in (engine.Predict, engine.Decode):
            with pytest.raises(ValidationError, match="no_such_parameter"):
                part(no_such_parameter=1)
            for name, field in part.model_fields.items():
                if field.annotation is bool:
                    continue
                for wrong in (-(10**9), float("nan"), float("inf"), True, [1]):
                    with pytest.raises(ValidationError, match=name):
                        part(**{name: wrong})

    # Labels.

    def test_labels_follow_the_rules(self, engine: Engine, image: np.ndarray) -> None:
        assert check_labels(run(engine, image), self.label_shape(image)) >= 2

    @pytest.mark.parametrize("value", [0, 7, 255])
    def test_a_constant_image_has_no_objects(
        self, engine: Engine, image: np.ndarray, value: int
    ) -> None:
        constant = np.full_like(image, value)
        assert check_labels(run(engine, constant), self.label_shape(image)) == 0

    @pytest.mark.parametrize("shape", NARROW, ids=str)
    def test_narrow_images_work(self, engine: Engine, shape: tuple[int, int]) -> None:
        ramp = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        image = self.lift(ramp)
        check_labels(run(engine, image), self.label_shape(image))

    @pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "bool"])
    def test_every_real_dtype_works(self, engine: Engine, image: np.ndarray, dtype: str) -> None:
        if dtype == "bool":
            check_labels(run(engine, image > image.mean()), self.label_shape(image))
            return
        # At most 100, so that every dtype holds the same numbers.
        small = (image / image.max() * 100).astype(np.uint8)
        np.testing.assert_array_equal(run(engine, small.astype(dtype)), run(engine, small))

    def test_memory_layout_and_byte_order_do_not_matter(
        self, engine: Engine, image: np.ndarray
    ) -> None:
        image = image.astype(np.uint16)
        expected = run(engine, image)
        wide = np.repeat(image, 2, axis=0)[::2]
        assert not wide.flags.c_contiguous
        for other in (wide, image.astype(">u2"), image.astype(">f4"), np.asfortranarray(image)):
            np.testing.assert_array_equal(run(engine, other), expected)

    def test_the_image_is_not_changed(self, engine: Engine, image: np.ndarray) -> None:
        for dtype in ("uint8", "float32"):
            mine = image.astype(dtype)
            mine.flags.writeable = False
            run(engine, mine, reference=mine)
            np.testing.assert_array_equal(mine, image.astype(dtype))

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    def test_pixels_that_are_no_numbers_are_refused(
        self, engine: Engine, image: np.ndarray, wrong: float
    ) -> None:
        broken = image.astype(np.float32)
        broken.flat[17] = wrong
        with pytest.raises(InputError, match="NaN"):
            run(engine, broken)

    def test_images_that_do_not_fit_are_refused(self, engine: Engine, image: np.ndarray) -> None:
        for wrong in (image[None, None], image.ravel(), image[..., :0], image.astype(complex)):
            with pytest.raises(InputError, match=r"shape|dtype") as caught:
                engine.predict(wrong, engine.Predict())
            assert caught.value.hint

    def test_a_burnt_out_pixel_does_not_drown_the_rest(
        self, engine: Engine, picture: np.ndarray
    ) -> None:
        burnt = picture.astype(np.float32)
        burnt[0, 0] = 1e20
        raw = engine.predict(self.lift(burnt), engine.Predict())
        assert all(np.isfinite(data).all() for data in raw.maps.values())
        expected = run(engine, self.lift(picture))
        assert f1(expected, engine.decode(raw, engine.Decode())) >= self.stability

    # Memory.

    def test_tiles_do_not_show(self, engine: Engine, picture: np.ndarray) -> None:
        """An image in tiles has the labels of the image in one piece."""
        field = engine.Predict.model_fields.get("tile")
        if field is None:
            pytest.skip("it has no parameter `tile`")
        wide = self.lift(np.hstack([picture, picture[:, ::-1]]))
        smallest = next(m.ge for m in field.metadata if hasattr(m, "ge"))
        tiled = engine.Predict(tile=max(smallest, min(picture.shape) // 2 // 16 * 16))
        whole = engine.Predict(tile=max(max(wide.shape), field.default) // 16 * 16 + 16)
        found = [
            engine.decode(engine.predict(wide, one), engine.Decode()) for one in (tiled, whole)
        ]
        assert f1(*found) >= self.seams

    def test_a_lighter_pass_gives_the_same_labels(
        self, engine: Engine, picture: np.ndarray
    ) -> None:
        """The first steps of the ladder, then all; the engine stays light."""
        if not hasattr(engine, "lighten"):
            pytest.skip("it has no method `lighten`")
        image = self.lift(picture)
        expected = run(engine, image)
        first = LoadedEngine(Scarce(engine, times=1), Weights("", engine.name), "cpu")
        raw = first.predict(image, engine.Predict())
        assert len(first.steps) == 1
        assert f1(expected, engine.decode(raw, engine.Decode())) >= 0.999
        foot = LoadedEngine(Scarce(engine, times=1000), Weights("", engine.name), "cpu")
        with pytest.raises(OutOfMemory, match="injected") as caught:
            foot.predict(image, engine.Predict())
        assert all(step in caught.value.message for step in foot.steps)
        assert len(set(first.steps + foot.steps)) == 1 + len(foot.steps) < 20
        assert f1(expected, run(engine, image)) >= 0.999

    # Two stages.

    def test_decode_is_a_function_of_raw_alone(self, engine: Engine, image: np.ndarray) -> None:
        raw = engine.predict(image, engine.Predict())
        before = {name: data.tobytes() for name, data in raw.maps.items()}, dict(raw.values)
        labels = engine.decode(raw, engine.Decode())
        fresh = type(engine)()  # decodes without weights: they are the costly part
        np.testing.assert_array_equal(fresh.decode(raw, engine.Decode()), labels)
        assert ({name: data.tobytes() for name, data in raw.maps.items()}, raw.values) == before

    def test_equal_input_gives_equal_labels(self, engine: Engine, image: np.ndarray) -> None:
        np.testing.assert_array_equal(run(engine, image), run(engine, image))

    def test_raw_survives_the_cache(
        self, engine: Engine, image: np.ndarray, tmp_path: Path
    ) -> None:
        raw = engine.predict(image, engine.Predict())
        ArrayCache(tmp_path).put("ab12", raw.maps, raw.values)
        maps, values = ArrayCache(tmp_path).get("ab12") or ({}, {})
        again = Raw(maps, raw.shape, values)
        np.testing.assert_array_equal(
            engine.decode(again, engine.Decode()), engine.decode(raw, engine.Decode())
        )

    # The same objects, seen otherwise.

    @pytest.mark.parametrize("turn", ["left", "over", "mirrored", "transposed"])
    def test_turned_pictures_give_turned_labels(
        self, engine: Engine, picture: np.ndarray, turn: str
    ) -> None:
        turned = {
            "left": np.rot90,
            "over": lambda plane: np.rot90(plane, 2),
            "mirrored": np.fliplr,
            "transposed": np.transpose,
        }[turn]
        expected = turned(self.plane(run(engine, self.lift(picture))))
        found = self.plane(run(engine, self.lift(turned(picture))))
        assert f1(expected, found) >= self.equivariance

    @pytest.mark.parametrize("way", ["down", "right"])
    def test_shifted_pictures_give_shifted_labels(
        self, engine: Engine, picture: np.ndarray, way: str
    ) -> None:
        """The same objects lie elsewhere in the window; those at its rim do not count."""
        before, after = {
            "down": (np.s_[:-SHIFT], np.s_[SHIFT:]),
            "right": (np.s_[:, :-SHIFT], np.s_[:, SHIFT:]),
        }[way]
        whole = self.lift(picture)
        first, second = (
            self.plane(run(engine, self.lift(picture[window]), reference=whole))
            for window in (before, after)
        )
        inner = np.s_[self.rim : -self.rim, self.rim : -self.rim]
        expected, found = first[after][inner], second[before][inner]
        assert object_count(expected), "the picture is no test of this"
        assert f1(expected, found) >= self.shifts

    @pytest.mark.parametrize(("factor", "offset"), [(50, 0), (1, 900), (0.01, -3)])
    def test_units_of_intensity_do_not_matter(
        self, engine: Engine, picture: np.ndarray, factor: float, offset: float
    ) -> None:
        image = self.lift(picture)
        other = image.astype(np.float32) * factor + offset
        assert f1(run(engine, image), run(engine, other)) >= self.stability

    def test_a_crop_is_normalised_like_its_image(self, engine: Engine, picture: np.ndarray) -> None:
        """The crop is dark, but for the image it is bright: only `reference` can tell."""
        half = picture.shape[1] // 2
        dark = picture[:, :half].astype(np.float32)
        whole = self.lift(np.hstack([dark, dark * 20 + dark.max()]))
        crop = self.lift(dark)
        left = np.s_[:, : half - 16]  # away from what lies across the cut
        expected = self.plane(run(engine, whole))[left]
        alone, found = run(engine, crop), run(engine, crop, reference=whole)
        wanted = object_count(expected)
        assert object_count(self.plane(alone)[left]) > wanted, "the picture is no test of this"
        assert abs(object_count(self.plane(found)[left]) - wanted) <= 1

    @pytest.mark.parametrize("scale", [0.5, 1.5])
    def test_labels_come_back_at_the_size_of_the_image(
        self, engine: Engine, image: np.ndarray, scale: float
    ) -> None:
        fields = engine.Predict.model_fields
        if "scale" in fields:
            parameters = engine.Predict(scale=scale)
        else:  # a larger diameter is a smaller image
            parameters = engine.Predict(diameter=fields["diameter"].default / scale)
        raw = engine.predict(image, parameters)
        labels = engine.decode(raw, engine.Decode())
        assert check_labels(labels, self.label_shape(image)) >= 1


class VolumeEngineSuite(EngineSuite):
    """The same tests on volumes, and what only volumes have."""

    axes = "ZYX"
    rim = 16

    def test_an_object_has_one_id_in_all_planes(self, engine: Engine, image: np.ndarray) -> None:
        first, middle, last = run(engine, image)
        for plane in (first, last):
            shared = (plane > 0) & (middle > 0)
            assert shared.any()
            assert (plane[shared] == middle[shared]).mean() > 0.95
