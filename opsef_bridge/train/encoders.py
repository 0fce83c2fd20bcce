"""Networks of torchvision and timm as encoders: what they see at every scale of an image.

Any network serves whose maps halve from scale to scale: ResNets, EfficientNets, MobileNets,
ConvNeXts, DenseNets, VGGs, Inception-ResNet-v2 and more. Transformers that were built for one
size of image do not, nor do Inception-v3 and GoogLeNet, which pool without padding. Nothing is
downloaded: weights are random or come from a file.

References
----------
.. [1] https://github.com/pytorch/vision (torchvision.models)
.. [2] https://github.com/huggingface/pytorch-image-models (timm)
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opsef_bridge.errors import InputError, WeightsError

__all__ = ["STRIDES", "Encoder", "load_encoder"]

STRIDES = (4, 8, 16, 32)
"""Steps in px of the maps that an encoder must have; those of step 2 are taken where there
are some."""

TRIALS = (128, 192)
"""Sides of the images on which maps are measured."""


class Encoder(nn.Module):
    """The maps of a backbone, finest first: one grey channel in.

    Parameters
    ----------
    body : Module
        From (N, 3, Y, X) to a list of maps, or a dict.
    places : sequence of int
        Which of them are taken.
    strides, channels : sequence of int
        Of those that are taken.
    """

    def __init__(
        self,
        body: nn.Module,
        places: Sequence[int],
        strides: Sequence[int],
        channels: Sequence[int],
    ) -> None:
        super().__init__()
        self.body = body
        self.places = tuple(places)
        self.strides = tuple(strides)
        self.channels = tuple(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, 1, Y, X), sides multiples of 32, to maps (N, channels, Y/stride, X/stride)."""
        found = _maps(self.body, x.repeat(1, 3, 1, 1))
        return [found[place] for place in self.places]


def load_encoder(name: str, weights: str | Path | None = None) -> Encoder:
    """Build a backbone and find the maps that it makes.

    Parameters
    ----------
    name : str
        Of torchvision or timm, e.g. ``resnet18`` or ``inception_resnet_v2``. Of a name that
        both have, torchvision's is meant; ``timm/resnet18`` says otherwise.
    weights : path, optional
        A state dict, of the whole network as its library has it, or of its layers that are
        used here; random by torch's seed without.

    Raises
    ------
    InputError
        Neither library has such a network, or its maps do not halve from scale to scale.
    WeightsError
        The file is not a state dict of it.
    """
    body = _body(name)
    places, strides, channels = _pyramid(body, name)
    if weights is not None:
        _load(body, Path(weights), name)
    return Encoder(body, places, strides, channels)


def _body(name: str) -> nn.Module:
    """Return the network `name` without its classifier, maps of all scales coming out."""
    import torchvision

    library, _, bare = name.rpartition("/")
    others = torchvision.models.list_models(module=torchvision.models)
    if library in ("", "torchvision") and bare in others:
        build = _from_torchvision
    else:
        import timm

        if library not in ("", "timm") or not timm.is_model(bare):
            near = difflib.get_close_matches(bare, {*others, *timm.list_models()}, n=4)
            raise InputError(
                f"neither torchvision nor timm has a network {name!r}",
                hint=f"Similar names: {', '.join(near) or 'none'}; `small` needs neither",
            )
        build = _from_timm
    try:
        return build(bare)
    except Exception as error:  # of networks that cannot be cut open: assertions, lookups, more
        raise _unfit(name, f"{type(error).__name__}: {error}") from error


def _unfit(name: str, why: str) -> InputError:
    return InputError(
        f"the network {name!r} cannot be an encoder ({why})",
        hint="Needed are maps at steps of 4, 8, 16 and 32 px from images of any size: a "
        "convolutional network such as resnet18",
    )


def _from_timm(name: str) -> nn.Module:
    import timm

    return _padded(timm.create_model(name, pretrained=False, features_only=True))


def _from_torchvision(name: str) -> nn.Module:
    """Cut a network of torchvision open behind the last layer of every scale."""
    import torchvision
    from torchvision.models.feature_extraction import (
        create_feature_extractor,
        get_graph_node_names,
    )

    whole = _padded(torchvision.models.get_model(name, weights=None))
    nodes = get_graph_node_names(whole, suppress_diff_warning=True)[1]
    every = create_feature_extractor(whole, nodes, suppress_diff_warning=True).eval()
    with torch.no_grad():
        found = every(torch.zeros(1, 3, TRIALS[0], TRIALS[0]))
    last = {
        _stride(x, TRIALS[0]): node
        for node, x in found.items()
        if isinstance(x, Tensor) and _stride(x, TRIALS[0]) in (2, *STRIDES)
    }
    return create_feature_extractor(whole, list(last.values()), suppress_diff_warning=True)


def _padded(network: nn.Module) -> nn.Module:
    """Pad all convolutions and poolings that do not, so that maps halve exactly.

    The Inceptions leave the edge out: their maps of 128 px have 61, 28, 13 px. Keras's, which
    Zaki et al. took, can be built either way; weights are the same.
    """
    for layer in network.modules():
        if type(layer) not in (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d):
            continue  # other classes pad by themselves
        size, padding, step = (
            value if isinstance(value, tuple) else (value, value)
            for value in (layer.kernel_size, layer.padding, getattr(layer, "dilation", 1))
        )
        if padding == (0, 0) and all(side % 2 for side in size):
            layer.padding = tuple(side // 2 * s for side, s in zip(size, step, strict=True))
    return network


def _pyramid(body: nn.Module, name: str) -> tuple[list[int], list[int], list[int]]:
    """Return places, strides and channels of the maps that halve from scale to scale."""
    body.eval()
    sizes = []
    for side in TRIALS:
        try:
            with torch.no_grad():
                found = _maps(body, torch.zeros(1, 3, side, side))
        except Exception as error:  # of networks for one size of image
            raise _unfit(name, f"{type(error).__name__}: {error}") from error
        sizes.append([(_stride(x, side), x.shape[1]) for x in found])
    if sizes[0] != sizes[1]:
        raise _unfit(name, f"its maps at {TRIALS} px do not have the same steps")
    places = {stride: place for place, (stride, _) in enumerate(sizes[0]) if stride}
    strides = sorted(stride for stride in places if stride in (2, *STRIDES))
    if not set(STRIDES) <= set(strides):
        raise _unfit(name, f"its maps have steps of {strides or 'no fixed number of'} px")
    return [places[s] for s in strides], strides, [sizes[0][places[s]][1] for s in strides]


def _maps(body: nn.Module, x: Tensor) -> list[Tensor]:
    """Return what a body makes as a list."""
    found: Any = body(x)
    return list(found.values()) if isinstance(found, dict) else list(found)


def _stride(x: Tensor, side: int) -> int:
    """Return the step in px of a map (1, C, Y, X) of a square image; 0 where it has none."""
    if x.ndim != 4 or x.shape[2] != x.shape[3] or side % max(x.shape[2], 1):
        return 0
    return side // x.shape[2]


def _load(body: nn.Module, file: Path, name: str) -> None:
    """Give a body the weights in a file; nothing in the file is executed."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        # timm names the layers of an opened network with _ where the whole one has a dot.
        there = {_plain(key): value for key, value in state.items()}
    except Exception as error:  # a missing file, a broken zip, a foreign class: one kind each
        raise WeightsError(
            f"{file} cannot be read as a state dict ({str(error).splitlines()[0]})",
            hint="Save the network's state_dict() by torch.save",
        ) from error
    wanted = body.state_dict()
    lacking = [key for key in wanted if _plain(key) not in there]
    other = [
        key
        for key in wanted
        if key not in lacking and there[_plain(key)].shape != wanted[key].shape
    ]
    if lacking or other:
        raise WeightsError(
            f"{file} is not of the network {name!r}: {len(lacking)} layers are missing, "
            f"{len(other)} have another shape; the first is {(lacking + other)[0]!r}",
            hint="Bring a state dict of torchvision's or timm's network of that very name",
        )
    body.load_state_dict({key: there[_plain(key)] for key in wanted})


def _plain(key: str) -> str:
    return key.replace(".", "_")
