"""What the engines of maps share: the card, tiles of any size, and less memory when asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from opsef_bridge.engines import engine_class, find_weights
from opsef_bridge.engines.map_network import MapNetwork, prepare, run_tiled
from opsef_bridge.errors import WeightsError

IMAGE = np.random.default_rng(0).random((600, 560)).astype(np.float32)


@pytest.fixture(params=["unet", "fpn2ws"])
def engine(request):
    engine = engine_class(request.param)()
    engine.load(find_weights(request.param, None))
    return engine


def record(engine, monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of what the network is given from now on."""
    seen: list[tuple[int, ...]] = []
    run = engine._network.run
    monkeypatch.setattr(
        engine._network, "run", lambda batch: seen.append(batch.shape[2:]) or run(batch)
    )
    return seen


def test_lighter_passes_are_smaller_and_say_the_same(engine, monkeypatch):
    seen = record(engine, monkeypatch)
    whole = engine.predict(IMAGE, engine.Predict())
    assert seen == [(608, 560)]
    assert [engine.lighten() for _ in range(4)] == ["tile 512", "tile 256", None, None]
    seen.clear()
    light = engine.predict(IMAGE, engine.Predict())
    assert len(seen) == 4 and max(max(shape) for shape in seen) <= 304 + 128
    for name, data in whole.maps.items():
        np.testing.assert_allclose(light.maps[name].astype(float), data.astype(float), atol=1e-3)
    np.testing.assert_array_equal(
        engine.decode(light, engine.Decode()), engine.decode(whole, engine.Decode())
    )


def test_a_tile_that_was_asked_for_is_halved(engine):
    engine.predict(IMAGE, engine.Predict(tile=600))
    assert [engine.lighten() for _ in range(2)] == ["tile 300", None]
    small = engine_class(engine.name)()
    small.load(find_weights(engine.name, None))
    small.predict(IMAGE[:40, :40], small.Predict(tile=256))
    assert small.lighten() is None


def test_what_was_made_lighter_stays_so(engine, monkeypatch):
    assert engine.lighten() == "tile 512"
    engine.load(find_weights(engine.name, None))
    seen = record(engine, monkeypatch)
    engine.predict(IMAGE[:, :100], engine.Predict(tile=600))
    assert [shape[0] for shape in seen] == [608], "600 px are one tile of about 512"
    assert engine.lighten() == "tile 256"
    assert type(engine)().lighten() == "tile 512", "another one knows nothing of it"


def test_the_cpu_is_always_there(engine):
    assert type(engine).devices()[-1] == "cpu"


@pytest.mark.parametrize("name", ["unet", "fpn2ws"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"percentiles": [99, 1]},
        {"percentiles": [-1, 99]},
        {"percentiles": [1]},
        {"clip": [1, 1]},
        {"multiple": 0},
        {"margin": -16},
        {"margin": "wide"},
    ],
    ids=str,
)
def test_cards_that_cannot_be_right_are_refused(name, wrong):
    weights = find_weights(name, None)
    card = weights.card | {"input": weights.card["input"] | wrong}
    with pytest.raises(WeightsError, match=weights.name) as caught:
        engine_class(name)().load(replace(weights, card=card))
    assert caught.value.hint


def test_the_card_says_how_the_input_is_made():
    weights = find_weights("unet", None)
    image = np.arange(400, dtype=np.uint16).reshape(20, 20)

    def prepared(**told) -> np.ndarray:
        card = weights.card | {"input": told}
        network = MapNetwork("unet", maps=3)
        network.open(replace(weights, card=card))
        return network.prepare(image, None, 1.0)

    np.testing.assert_allclose(
        prepared(percentiles=[0, 100], clip=[0, 1]), image / 399, rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(prepared(), prepare(image))
    assert prepared(percentiles=[25, 75], clip=[0.25, 0.75]).min() == 0.25


def box_mean(batch: np.ndarray) -> np.ndarray:
    """A network of one map that sees 24 px far, and only takes multiples of 32."""
    from scipy import ndimage

    assert batch.ndim == 4 and not any(side % 32 for side in batch.shape[2:]), batch.shape
    return ndimage.uniform_filter(batch, (0, 0, 49, 49), mode="reflect")


@pytest.mark.parametrize("tile", [16, 64, 100, 1000])
@pytest.mark.parametrize("shape", [(1, 1), (31, 70), (150, 97), (96, 128)])
def test_tiles_are_multiples_and_their_rims_are_thrown_away(tile, shape):
    image = np.random.default_rng(1).random(shape).astype(np.float32)
    how = {"multiple": 32, "margin": 24}
    whole = run_tiled(box_mean, image, 10_000, **how)
    assert whole.shape == (1, *shape)
    found = run_tiled(box_mean, image, tile, **how)
    np.testing.assert_allclose(found, whole, atol=1e-5)


def test_a_rim_that_is_too_narrow_shows():
    image = np.random.default_rng(1).random((160, 160)).astype(np.float32)
    whole = run_tiled(box_mean, image, 10_000, multiple=32)
    found = run_tiled(box_mean, image, 64, multiple=32, margin=0)
    assert np.abs(found - whole).max() > 1e-3
