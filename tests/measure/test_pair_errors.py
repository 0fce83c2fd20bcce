from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion, distance_transform_edt

from opsef_bridge.errors import InputError
from opsef_bridge.measure import pair_errors
from opsef_bridge.measure.match import match
from opsef_bridge.measure.overlap import iou_pairs
from opsef_bridge.measure.pair_errors import pair_table, radius_shift, size_aware
from tests.measure.test_match import blobs


def ball(radius: float, ndim: int, side: int) -> np.ndarray:
    places = np.indices((side,) * ndim) - side // 2
    return (np.sqrt((places**2).sum(axis=0)) <= radius).astype(np.int32)


@pytest.mark.parametrize(("radius", "iou"), [(60, 0.967), (4, 0.563)])
def test_one_pixel_of_boundary_at_the_radii_of_zaki(radius, iou):
    assert ((radius - 1) / radius) ** 2 == pytest.approx(iou, abs=5e-4)
    assert radius_shift(iou, radius, 2) == pytest.approx(1, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.5, 500), st.floats(0, 1), st.sampled_from([2, 3]))
def test_the_shift_is_that_of_concentric_discs_and_balls(radius, share, ndim):
    iou = (radius * share) ** ndim / radius**ndim
    shift = radius_shift(iou, radius, ndim)
    assert shift == pytest.approx(radius * (1 - share), rel=1e-6, abs=1e-6 * radius)
    assert 0 <= size_aware(shift, ndim) <= 1
    assert size_aware(shift, ndim, radius) == pytest.approx(iou, abs=1e-6)


@pytest.mark.parametrize(("ndim", "radius"), [(2, 4), (2, 20), (2, 60), (3, 6), (3, 14)])
@pytest.mark.parametrize("grown", [True, False])
def test_a_disc_of_pixels_that_is_off_by_one(ndim, radius, grown):
    side = 2 * radius + 9
    truth, labels = ball(radius, ndim, side), ball(radius + (1 if grown else -1), ndim, side)
    row = pair_table(truth, labels, threshold=0.3).iloc[0]
    assert row.radius_shift == pytest.approx(1, abs=0.15)
    assert row.boundary_mean == pytest.approx(1, abs=0.15)
    assert 1 <= row.boundary_max < 2
    assert row.iou_size_aware == pytest.approx(0.9**ndim, abs=0.03)
    swapped = pair_table(labels, truth, threshold=0.3).iloc[0]
    assert swapped.radius_shift == row.radius_shift
    assert swapped.boundary_mean == pytest.approx(row.boundary_mean)


def distances(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Distances of both outlines to the other, by distance maps of the whole image."""
    edges = [mask & ~binary_erosion(mask) for mask in (a, b)]
    maps = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return np.concatenate([maps[0][edges[1]], maps[1][edges[0]]])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.5, 0.25)])
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("by_loop", [pair_errors.BY_LOOP, 0])
@pytest.mark.parametrize("seed", range(2))
def test_distances_are_those_of_distance_maps(monkeypatch, seed, by_loop, ndim, spacing):
    monkeypatch.setattr(pair_errors, "BY_LOOP", by_loop)
    truth, labels = blobs(seed, side=40)
    if ndim == 3:
        truth, labels = (np.stack([x, x, np.roll(x, 1, 0), x * 0]) for x in (truth, labels))
    spacing = spacing[-ndim:]
    table = pair_table(truth, labels, spacing, threshold=0.3)
    assert len(table) > 3
    for row in table.itertuples():
        expected = distances(truth == row.truth, labels == row.label, spacing)
        assert row.boundary_mean == pytest.approx(expected.mean(), abs=1e-9)
        assert row.boundary_max == pytest.approx(expected.max(), abs=1e-9)
        assert row.truth_area == pytest.approx((truth == row.truth).sum() * np.prod(spacing))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.6])
def test_its_rows_are_the_matched_pairs(threshold):
    truth, labels = blobs(3)
    table = pair_table(truth, labels, threshold=threshold)
    counts = match(truth, labels, threshold)
    assert len(table) == counts.tp.item() > 0
    assert table.iou.mean() == pytest.approx(counts.mean_iou.item())
    assert table.truth.is_monotonic_increasing and table.truth.is_unique and table.label.is_unique
    pairs = iou_pairs(truth, labels)
    known = set(zip(pairs.a.labels[pairs.i], pairs.b.labels[pairs.j], strict=True))
    assert set(zip(table.truth, table.label, strict=True)) <= known


def test_a_unit_scales_lengths_and_leaves_shares():
    truth, labels = blobs(4)
    pixels = pair_table(truth, labels)
    scaled = pair_table(truth, labels, (0.5, 0.5))
    for name in ("boundary_mean", "boundary_max", "radius_shift"):
        np.testing.assert_allclose(scaled[name], pixels[name] / 2)
    np.testing.assert_allclose(scaled.iou_size_aware, pixels.iou_size_aware)
    other = pair_table(truth, labels, reference_radius=20)
    assert (other.iou_size_aware >= pixels.iou_size_aware).all()


def test_equal_objects_and_volumes_of_one_plane():
    truth, labels = blobs(5)
    same = pair_table(truth, truth)
    assert (same[["boundary_mean", "boundary_max", "radius_shift"]] == 0).all(axis=None)
    assert (same[["iou", "iou_size_aware"]] == 1).all(axis=None)
    flat, one = pair_table(truth, labels), pair_table(truth[np.newaxis], labels[np.newaxis])
    assert one.equals(flat)


def test_no_pair_is_an_empty_table():
    truth = np.ones((4, 4), int)
    assert len(pair_table(truth, truth * 0)) == 0
    assert (
        pair_table(truth, truth * 0).columns.tolist() == pair_table(truth, truth).columns.tolist()
    )


def test_impossible_input_is_refused():
    image = np.ones((4, 4), int)
    for spacing in ((0.0, 1.0), (1.0, np.nan), (1.0,)):
        with pytest.raises(InputError, match="spacing"):
            pair_table(image, image, spacing)
    with pytest.raises(InputError, match="no plane and no volume"):
        pair_table(image[0], image[0])
    with pytest.raises(InputError, match="differ in shape"):
        pair_table(image, image[:3])
