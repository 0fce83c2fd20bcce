"""The U-Net as a torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opsef_bridge.errors import WorkerError

__all__ = ["UNetModule", "check_device", "parameter_count"]


class UNetModule(nn.Module):
    """A compact U-Net: one grey channel in, three class scores (logits) out.

    Parameters
    ----------
    width : int
        Channels of the first level; they double at each of the `depth` poolings.
    depth : int
        Number of poolings; sides of the input are multiples of ``2**depth``.
    """

    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _block(before, after) for before, after in zip([1, *sizes], sizes, strict=False)
        )
        self.up = nn.ModuleList(
            _block(deep + skip, skip)
            for deep, skip in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(width, 3, 1)
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, Y, X) to logits (N, 3, Y, X): background, interior, border."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([self.enlarge(x), skip], dim=1))
        return self.head(x)


def check_device(device: str) -> None:
    """Refuse a device that torch cannot train on.

    Raises
    ------
    WorkerError
        It is neither ``"cpu"`` nor a ``"cuda"`` that torch can use here.
    """
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise WorkerError(
            f"torch cannot train on the device {device!r} here",
            hint="Use cpu; or on a machine with an NVIDIA GPU cuda, with a torch built for it",
        )


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable numbers of `network`."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def _block(before: int, after: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [
            nn.Conv2d(channels, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
