import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import ImageError, InputError
from opsef_bridge.images import read_image, read_labels, write_labels

LABELS = np.array([[0, 1, 1], [0, 7, 300]])


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.int32, np.int64, np.uint32]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=6),
        elements=st.integers(0, 2**24),
    )
)
def test_ids_come_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("x") / "labels.tif"
    write_labels(path, labels)
    found = read_labels(path)
    expected = labels[0] if labels.ndim == 3 and len(labels) == 1 else labels
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
    stored = tifffile.imread(path).dtype
    assert stored == (np.uint16 if labels.max() <= 65535 else np.float32)


def test_calibration_colours_and_range(tmp_path):
    path = tmp_path / "labels.tif"
    write_labels(path, np.stack([LABELS] * 4), (2, 0.5, 0.25), info="crop 1,2")
    image = read_image(path)
    assert image.axes == "ZYX" and image.spacing == {"Z": 2, "Y": 0.5, "X": 0.25}
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages[0].tags["ColorMap"].value) in (3, 768)
        found = tiff.imagej_metadata
    assert (found["min"], found["max"], found["Info"]) == (0, 255, "crop 1,2")


def test_files_are_small_and_equal(tmp_path):
    labels = np.repeat(np.repeat(np.arange(400).reshape(20, 20), 25, 0), 25, 1)
    for name in ("a.tif", "b.tif"):
        write_labels(tmp_path / name, labels)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert (tmp_path / "a.tif").stat().st_size < 0.1 * labels.size * 2


@pytest.mark.parametrize(
    "labels",
    [LABELS - 1, LABELS + 2**24, LABELS * 1.0, LABELS[0], np.zeros((0, 3), int)],
    ids=["negative", "large", "float", "1d", "empty"],
)
def test_what_is_no_label_image_is_not_written(tmp_path, labels):
    with pytest.raises(InputError):
        write_labels(tmp_path / "a.tif", labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", "float64", "bool", "int16"])
def test_labels_of_others_are_read(tmp_path, dtype):
    labels = (LABELS % 200).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)
    volume = np.stack([labels] * 5)  # axes that the file does not say: a volume
    tifffile.imwrite(tmp_path / "a.tif", volume, photometric="minisblack")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), volume)


def test_the_indices_of_a_palette_are_ids(tmp_path):
    image = PIL.Image.fromarray(LABELS.astype(np.uint8)).convert("P")
    image.putpalette([255, 0, 0] * 256)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), LABELS.astype(np.uint8))


@pytest.mark.parametrize(
    "data",
    [
        LABELS - 1.0,
        LABELS + 0.5,
        LABELS * np.nan,
        LABELS + 2**33,
        (LABELS - 1).astype(np.int16),
        LABELS.astype(np.complex64),
        np.zeros((3, 4, 3), np.uint8),
    ],
    ids=["negative", "fraction", "nan", "large", "signed", "complex", "colour"],
)
def test_values_that_are_no_ids_are_refused(tmp_path, data):
    photometric = "rgb" if data.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=photometric)
    with pytest.raises(ImageError, match=r"a\.tif"):
        read_labels(tmp_path / "a.tif")
