"""A writer of small Leica files, from what is known of the format; CC0 like their pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

X, Y, Z, T, EMISSION, EXCITATION, TILES = 1, 2, 3, 4, 5, 9, 10


@dataclass
class Series:
    """Pixels in the order of the file, dimensions innermost first as (number, size, length)."""

    name: str
    data: np.ndarray
    dims: list[tuple[int, int, float]]
    luts: tuple[str, ...] = ("Green",)
    bits: int = 8
    interleaved: bool = False
    origins: dict[int, float] = field(default_factory=dict)


def write_lif(path: Path, series: list[Series]) -> None:
    elements = "".join(_element(one, number) for number, one in enumerate(series))
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="root"><Data><Experiment/></Data>'
        f'<Memory Size="0" MemoryBlockID="none"/><Children>{elements}</Children></Element>'
        "</LMSDataContainerHeader>"
    )
    parts = [_chunk(b"*" + struct.pack("<I", len(xml)) + xml.encode("utf-16-le"))]
    for number, one in enumerate(series):
        pixels, name = one.data.astype(one.data.dtype.newbyteorder("<")).tobytes(), f"Mem{number}"
        head = b"*" + struct.pack("<Q", len(pixels)) + b"*" + struct.pack("<I", len(name))
        parts += [_chunk(head + name.encode("utf-16-le")), pixels]
    path.write_bytes(b"".join(parts))


def _chunk(content: bytes) -> bytes:
    return struct.pack("<II", 0x70, len(content)) + content


def _element(one: Series, number: int) -> str:
    size = one.data.itemsize
    step = size * (len(one.luts) if one.interleaved else 1)
    described, plane = "", size * one.dims[0][1] * one.dims[1][1]
    for i, (dim, count, length) in enumerate(one.dims):
        described += (
            f'<DimensionDescription DimID="{dim}" NumberOfElements="{count}" '
            f'Origin="{one.origins.get(dim, 0)}" Length="{length}" Unit="m" BitInc="0" '
            f'BytesInc="{step}"/>'
        )
        step *= count
        if i == 1 and not one.interleaved:
            step *= len(one.luts)
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{one.bits}" Min="0" '
        f'LUTName="{lut}" BytesInc="{i * (size if one.interleaved else plane)}"/>'
        for i, lut in enumerate(one.luts)
    )
    return (
        f'<Element Name="{one.name}"><Data><Image><ImageDescription><Channels>{channels}'
        f"</Channels><Dimensions>{described}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{one.data.nbytes}" MemoryBlockID="Mem{number}"/></Element>'
    )
