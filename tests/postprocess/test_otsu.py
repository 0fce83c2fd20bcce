import numpy as np
import pytest
import scipy.ndimage as ndi
from skimage.filters import rank, threshold_otsu
from skimage.morphology import disk as skimage_disk

from opsef_bridge.errors import InputError
from opsef_bridge.postprocess import auto_mask
from opsef_bridge.preprocess.disk import disk

RANDOM = np.random.default_rng(8)
PLAIN = {"filter": "none", "opening": 0}


def regions(dtype=np.uint16, scale=1000):
    """Two bright regions with a rough surface, one with a hole and a spur, and specks."""
    y, x = np.ogrid[:90, :110]
    inside = (y - 30) ** 2 + (x - 30) ** 2 < 400
    inside |= (abs(y - 60) < 18) & (abs(x - 80) < 20)
    inside &= ~((abs(y - 60) < 4) & (abs(x - 80) < 4))
    inside[29:31, 50:60] = inside[3, 100] = inside[85:87, 4:6] = True
    picture = np.where(inside, 0.8, 0.1) + RANDOM.normal(0, 0.01, inside.shape)
    return inside, (picture * scale).astype(dtype)


@pytest.mark.parametrize(("dtype", "scale"), [("u1", 250), ("u2", 60000), ("i4", 5e8), ("f4", 1)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_it_finds_what_is_bright(dtype, scale, order):
    inside, picture = regions(np.dtype(dtype).newbyteorder(order), scale)
    np.testing.assert_array_equal(auto_mask(picture, **PLAIN), inside)


def best_split(values):
    """Means of the two classes of least variance, by trying every threshold."""
    parts = [(values[values <= t], values[values > t]) for t in np.unique(values)[:-1]]
    low, high = min(parts, key=lambda two: sum(part.var() * part.size for part in two))
    return low.mean(), high.mean()


def test_the_threshold_is_otsus_times_the_factor():
    picture = RANDOM.gamma(2, 300, (60, 70)).astype(np.uint16)
    middle = np.mean(best_split(picture))
    assert middle == pytest.approx(threshold_otsu(picture), abs=2)
    for factor in (0.6, 1.0, 1.7):
        expected = picture > middle * factor
        np.testing.assert_array_equal(auto_mask(picture, factor=factor, **PLAIN), expected)


def test_a_share_of_the_threshold_stays_above_the_background():
    picture = np.array([[50, 52, 900, 1000]], np.uint16)
    assert threshold_otsu(picture) * 0.6 < 50
    assert auto_mask(picture, **PLAIN).tolist() == [[False, False, True, True]]
    assert auto_mask(picture, legacy=True, **PLAIN).tolist() == [[True] * 4]


def test_regions_are_shaped_in_order():
    inside, picture = regions()
    opened = ndi.binary_opening(inside, disk(2))
    np.testing.assert_array_equal(auto_mask(picture, filter="none"), opened)
    shaped = auto_mask(picture, filter="none", closing=5, erosion=3, min_area=20)
    closed = ndi.binary_closing(np.pad(opened, 9), disk(5))[9:-9, 9:-9]
    np.testing.assert_array_equal(shaped, ndi.binary_erosion(closed, disk(3), border_value=1))
    filled = auto_mask(picture, fill=True, min_area=1000, **PLAIN)
    whole, count = ndi.label(ndi.binary_fill_holes(inside), np.ones((3, 3)))
    large = [n for n in range(1, count + 1) if (whole == n).sum() >= 1000]
    np.testing.assert_array_equal(filled, np.isin(whole, large))
    assert len(large) == 2 < count


def test_a_region_at_the_border_keeps_its_corner():
    picture = np.zeros((20, 30), np.uint8)
    picture[:8, :9] = 200
    mask = auto_mask(picture, filter="none", opening=3, closing=3)
    np.testing.assert_array_equal(mask[:5, :6], True)
    assert not mask[8:].any() and not mask[:, 9:].any()


def test_filters_smooth_specks_away():
    inside, picture = regions()
    for how in ({"filter": "median"}, {"filter": "mean"}, {"filter": "gaussian"}):
        mask = auto_mask(picture, radius=2, factor=1, opening=0, **how)
        assert not mask[3, 100] and mask[25, 25]
        assert not np.array_equal(mask, inside)
    np.testing.assert_array_equal(auto_mask(picture, filter="median", radius=0, opening=0), inside)


def test_the_originals_recipe():
    """8 bit, a mean over scikit-image's disk, Otsu x 0.6; away from the border, and nearly."""
    inside, picture = regions()
    eight = (255 * picture.astype(float) / picture.max()).astype(np.uint8)
    smooth = rank.mean(eight, skimage_disk(5))
    theirs = smooth > threshold_otsu(smooth) * 0.6
    ours = auto_mask(picture, filter="mean", radius=5, opening=0, legacy=True)
    differ = (ours != theirs)[10:-10, 10:-10]
    assert inside.sum() < theirs.sum() < 2 * inside.sum() and differ.mean() < 0.01
    exact = auto_mask(picture, legacy=True, **PLAIN)
    np.testing.assert_array_equal(exact, eight > threshold_otsu(eight) * 0.6)


def test_a_volume_has_one_threshold_and_is_shaped_plane_by_plane():
    inside, picture = regions()
    volume = np.stack([picture, picture // 9, picture])
    mask = auto_mask(volume, filter="none", factor=1)
    np.testing.assert_array_equal(mask[0], auto_mask(picture, filter="none", factor=1))
    assert not mask[1].any()
    assert auto_mask(volume, fill=True, **PLAIN).sum() == 2 * inside.sum()  # open to the outside


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("legacy", [False, True])
def test_nothing_is_inside_of_a_constant_channel(dtype, value, legacy):
    assert not auto_mask(np.full((7, 9), value, dtype), legacy=legacy).any()


def test_legacy_takes_negative_values_for_nothing():
    picture = np.array([[-9, -9, 0], [200, 100, -1]], np.int16)
    mask = auto_mask(picture, legacy=True, **PLAIN)
    np.testing.assert_array_equal(mask, picture >= 100)
    assert not auto_mask(-abs(picture), legacy=True, **PLAIN).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filter": "bilateral"}, "bilateral"),
        ({"radius": 21}, "21"),
        ({"radius": -1}, "-1"),
        ({"opening": 101}, "opening is 101"),
        ({"closing": -2}, "closing is -2"),
        ({"erosion": 500}, "500"),
        ({"factor": 0}, "factor 0"),
        ({"factor": float("nan")}, "nan"),
    ],
)
def test_values_out_of_range_are_named(options, said):
    with pytest.raises(InputError, match=said):
        auto_mask(regions()[1], **options)


@pytest.mark.parametrize(
    "channel",
    [np.zeros(4), np.zeros((0, 4)), np.zeros((2, 3, 4, 5)), np.full((3, 3), np.nan),
     np.zeros((3, 3), complex)],
)  # fmt: skip
def test_what_is_no_channel_is_refused(channel):
    with pytest.raises(InputError, match="channel"):
        auto_mask(channel)
