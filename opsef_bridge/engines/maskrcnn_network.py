"""The networks of the ``maskrcnn`` engine, built by torchvision; importing it imports torch.

Nothing is ever downloaded: networks are built without weights and filled from a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    MaskRCNN,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

__all__ = ["OwnSize", "Pyramid", "build", "detect", "limit_candidates", "small_network"]

WIDTHS = (16, 32, 64, 96)
"""Channels of the residual stages of the small network."""

ANCHORS = ((12.0,), (24.0,), (48.0,), (96.0,))
"""Sides in px of the anchors of each level, finest first; ratios are 1/2, 1 and 2."""

RATIOS = (0.5, 1.0, 2.0)

MULTIPLE = 32
"""Of the sides of images, in px: the coarsest level of torchvision's pyramids."""

SIDE = 28
"""Of the soft masks, in cells, as torchvision makes them."""


class Pyramid(nn.Module):
    """Residual stages under a feature pyramid, whose finest level has half the image's side.

    torchvision's own start at a quarter, where a nucleus of 10 px is hardly two cells wide.

    Parameters
    ----------
    widths : sequence of int
        Channels of the stages; each has half the side of the one before.
    channels : int
        Of every level of the pyramid.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, channels: int = 64) -> None:
        super().__init__()
        self.out_channels = channels
        self.stem = nn.Sequential(*_normalised(1, widths[0], 3, stride=2), nn.ReLU(inplace=True))
        stages = [_stage(widths[0], widths[0], stride=1)]
        stages += [_stage(before, after, stride=2) for before, after in pairwise(widths)]
        self.stages = nn.ModuleList(stages)
        self.fpn = FeaturePyramidNetwork(list(widths), channels)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map (N, 1, Y, X) to the levels ``"0"``, ``"1"`` ... of the pyramid, finest first."""
        x = self.stem(x)
        levels = OrderedDict()
        for number, stage in enumerate(self.stages):
            x = stage(x)
            levels[str(number)] = x
        found: OrderedDict[str, Tensor] = self.fpn(levels)
        return found


class OwnSize(GeneralizedRCNNTransform):
    """What torchvision does to images first, but for resizing them to 800 px."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Return both as they are."""
        return image, target


def small_network(
    widths: Sequence[int] = WIDTHS,
    channels: int = 64,
    *,
    box: int = 128,
    mask: Sequence[int] = (64, 64),
    classes: int = 2,
) -> MaskRCNN:
    """Return a Mask R-CNN for grey images of about a million parameters.

    Parameters
    ----------
    widths, channels
        See `Pyramid`.
    box : int
        Width of the two layers that judge a box.
    mask : sequence of int
        Channels of the convolutions that draw the mask in a box.
    classes : int
        With the background.
    """
    levels = [str(number) for number in range(len(widths))]
    network = MaskRCNN(
        Pyramid(widths, channels),
        rpn_anchor_generator=AnchorGenerator(ANCHORS, (RATIOS,) * len(ANCHORS)),
        rpn_pre_nms_top_n_train=600,
        rpn_post_nms_top_n_train=600,
        box_roi_pool=MultiScaleRoIAlign(levels, output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(channels * 7 * 7, box),
        box_predictor=FastRCNNPredictor(box, classes),
        box_batch_size_per_image=128,
        mask_roi_pool=MultiScaleRoIAlign(levels, output_size=SIDE // 2, sampling_ratio=1),
        mask_head=MaskRCNNHeads(channels, mask, dilation=1),
        mask_predictor=MaskRCNNPredictor(mask[-1], mask[-1], classes),
    )
    network.transform = OwnSize(0, 0, [0.0], [1.0])  # images come normalised
    return network


def build(state: Mapping[str, Tensor]) -> MaskRCNN:
    """Return the network that `state` was taken from, by its names and shapes, and filled.

    Parameters
    ----------
    state : mapping of str to Tensor
        ``state_dict()`` of a `small_network`, or of torchvision's
        ``maskrcnn_resnet50_fpn_v2`` or ``maskrcnn_resnet50_fpn``, of any number of classes
        and any floating dtype.

    Raises
    ------
    KeyError, IndexError, AttributeError, RuntimeError
        It is no such state.
    """
    classes = len(state["roi_heads.box_predictor.cls_score.weight"])
    if "backbone.stem.0.weight" in state:
        network = small_network(
            [len(state[f"backbone.stages.{n}.0.conv1.weight"]) for n in range(len(ANCHORS))],
            len(state["backbone.fpn.layer_blocks.0.0.weight"]),
            box=len(state["roi_heads.box_head.fc6.weight"]),
            mask=_mask_channels(state),
            classes=classes,
        )
    else:
        # The second version judges boxes by convolutions, the first by two layers.
        second = "roi_heads.box_head.0.0.weight" in state
        make = maskrcnn_resnet50_fpn_v2 if second else maskrcnn_resnet50_fpn
        network = make(weights=None, weights_backbone=None, num_classes=classes)
        colour = network.transform
        network.transform = OwnSize(0, 0, colour.image_mean, colour.image_std)
    full = {name: _full(value) for name, value in state.items()}
    missing = network.load_state_dict(full, strict=False)
    # Networks with frozen normalisation, as torchvision's own first version, have no counters.
    lacking = [name for name in missing.missing_keys if not name.endswith("num_batches_tracked")]
    if wrong := lacking + missing.unexpected_keys:
        raise KeyError(f"{len(wrong)} tensors are missing or not known, first {wrong[0]}")
    network.eval()
    # The poolers guess the scale of every level from the first image that they see, and keep
    # it: let that not be an image of one pixel.
    detect(network, np.zeros((1, 64, 64), np.float32))
    return network


def limit_candidates(network: MaskRCNN, score: float, nms: float, count: int) -> None:
    """Let `network` return candidates above `score`, at most `count`, best first.

    Of two of a class whose boxes overlap (IoU) more than `nms` the better is kept.
    """
    network.roi_heads.score_thresh = score
    network.roi_heads.nms_thresh = nms
    network.roi_heads.detections_per_img = count


@torch.inference_mode()
def detect(network: MaskRCNN, batch: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return the candidates in every image of a batch, best first.

    Called as a whole, the network would paint each mask into an image of its own. Images are
    continued by reflection to multiples of 32: a rim of zeros, as torchvision adds, makes an
    object of a ground that is brighter.

    Parameters
    ----------
    network : MaskRCNN
    batch : (N, Y, X) ndarray of float32
        Grey. A network for colour gets 0..1 of it in all channels.

    Returns
    -------
    list of dict of str to ndarray of float32
        ``boxes`` (M, 4), ``scores`` (M,) and soft ``masks`` (M, S, S).
    """
    sides = batch.shape[1:]
    rim = [(0, 0), *((0, -side % MULTIPLE) for side in sides)]
    grey = torch.from_numpy(np.pad(batch, rim, mode="reflect"))[:, None]
    grey = grey.to(next(network.parameters()).device)
    channels = len(network.transform.image_mean)
    if channels > 1:
        grey = grey.clamp(0, 1).expand(-1, channels, -1, -1)
    images, _ = network.transform(list(grey))
    images.image_sizes = [sides] * len(batch)  # boxes end where the image does
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    found, _ = network.roi_heads(features, proposals, images.image_sizes)
    return [
        {
            "boxes": one["boxes"].cpu().numpy(),
            "scores": one["scores"].cpu().numpy(),
            "masks": one["masks"][:, 0].cpu().numpy(),
        }
        for one in found
    ]


def _mask_channels(state: Mapping[str, Tensor]) -> list[int]:
    """Return the channels of the convolutions of the mask head."""
    name = "roi_heads.mask_head.{}.0.weight".format
    count = sum(name(number) in state for number in range(len(state)))
    return [len(state[name(number)]) for number in range(count)]


def _full(value: Tensor) -> Tensor:
    """Return numbers in single precision, counters as they are."""
    return value.float() if value.is_floating_point() else value


def _normalised(before: int, after: int, side: int, stride: int) -> list[nn.Module]:
    """A convolution of an odd side with batch normalisation."""
    convolution = nn.Conv2d(before, after, side, stride, padding=side // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after)]


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    """Two residual blocks, the first of which changes size and channels."""
    change = None
    if stride != 1 or before != after:
        change = nn.Sequential(*_normalised(before, after, 1, stride))
    return nn.Sequential(BasicBlock(before, after, stride, change), BasicBlock(after, after))
