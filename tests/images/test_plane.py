import numpy as np
import pytest
import skimage.color
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from opsef_bridge.errors import ImageError
from opsef_bridge.images import Image, segment_plane, to_grey

DATA = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)


def test_a_channel_of_a_volume():
    image = Image(DATA, "ZCYX")
    np.testing.assert_array_equal(segment_plane(image, 2), DATA[:, 2])
    np.testing.assert_array_equal(segment_plane(Image(DATA[0], "CYX")), DATA[0, 0])


@pytest.mark.parametrize("channel", [3, -1])
def test_a_channel_that_is_not_there(channel):
    with pytest.raises(ImageError, match=rf"channel {channel} .* has 3"):
        segment_plane(Image(DATA[0], "CYX"), channel)


def test_a_time_series_is_refused():
    with pytest.raises(ImageError, match="2 time points"):
        segment_plane(Image(DATA[:, 0], "TYX"))


def test_pixels_that_are_not_finite_are_counted():
    data = np.zeros((4, 5), np.float32)
    data[0, 0], data[1, 1] = np.nan, np.inf
    with pytest.raises(ImageError, match="2 of 20"):
        segment_plane(Image(data, "YX"))


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.uint32, np.int32]), (3, 4, 3)),
)
def test_luminance_is_rounded_and_does_not_wrap(colour):
    grey = to_grey(colour)
    expected = skimage.color.rgb2gray(colour.astype(np.float64))
    assert grey.dtype == colour.dtype
    assert np.abs(grey - expected).max() <= 0.51


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.int32, np.uint32]), (3, 4)))
def test_equal_samples_stay_as_they_are(grey):
    np.testing.assert_array_equal(to_grey(np.stack([grey] * 3, axis=-1)), grey)
