"""What comes in: names, pictures that claim or hold more than they should, keys of projects."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from opsef_bridge.service.places import file_name
from tests.service.web.test_app import code, tiff

pytest.importorskip("fastapi", reason="the extra `service` is not installed")
ROUTES = ("/projects/demo/images?name=x.tif", "/segment?engine=watershed")


@pytest.fixture(params=ROUTES)
def send(site, request):
    """Return ``send(body)``, by each route that takes a picture; nothing may be left of it."""

    def post(body: bytes, path: str = request.param):
        before = {file for file in site.root.rglob("*") if file.is_file()}
        answer = site.ask("POST", path, content=body)
        left = {file for file in site.root.rglob("*") if file.is_file()} - before
        assert answer.status_code < 300 or not left, left
        assert str(site.root) not in answer.text
        return answer

    return post


@pytest.fixture
def small_limit(site, monkeypatch):
    """Let a picture have 100,000 pixels only."""
    services = site.client.app.state.services
    monkeypatch.setattr(site.client.app.state, "services", replace(services, pixel_limit=100_000))


def png(width: int, height: int, rows: bytes, *, palette: bool = False) -> bytes:
    """Return a PNG that says what it will of its size."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3 if palette else 0, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(range(256)) * 3)] if palette else []
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def claiming(height: int, width: int) -> bytes:
    """Return a TIFF of a few bytes that says that it has so many rows and columns."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 16), np.uint8), compression="zlib", rowsperstrip=16)
    raw = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(raw))) as found:
        tags = found.pages[0].tags
        for name, value in {
            "ImageWidth": width, "ImageLength": height, "RowsPerStrip": height,
        }.items():  # fmt: skip
            tag = tags[name]
            struct.pack_into("<HII", raw, tag.offset + 2, 4, 1, value)
    return bytes(raw)


def with_strip(strip: bytes) -> bytes:
    """Return a TIFF of 16 x 16 pixels whose one strip, packed by deflate, is `strip`."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 16), np.uint8), compression="zlib", rowsperstrip=16)
    raw = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(raw))) as found:
        tags = found.pages[0].tags
        for name, value in {"StripOffsets": len(raw), "StripByteCounts": len(strip)}.items():
            struct.pack_into("<HII", raw, tags[name].offset + 2, 4, 1, value)
    return bytes(raw) + strip


def test_a_picture_that_claims_to_be_huge_is_not_unpacked(send):
    answer = send(claiming(200_000, 200_000))
    assert code(answer) in ("too-large", "bad-image") and answer.json()["error"]["hint"]
    assert "40000000000" in answer.json()["error"]["message"].replace(",", "")


def test_the_limit_counts_all_planes(send, small_limit):
    plane = np.zeros((100, 100), np.uint8)
    answer = send(tiff(np.stack([plane] * 11)))
    assert answer.status_code == 413 and code(answer) == "too-large"
    assert "110,000 pixels; 100,000" in answer.json()["error"]["message"]
    assert send(tiff(plane)).status_code in (201, 202)


def test_a_png_that_claims_to_be_huge(site):
    path = "/projects/demo/images?name=x.png"
    for palette in (False, True):  # the colours of a palette are looked up in the pixels
        answer = site.ask("POST", path, content=png(100_000, 100_000, b"", palette=palette))
        assert answer.status_code == 413, answer.text
    cut = png(100_000, 100_000, b"")[:20]
    assert site.ask("POST", path, content=cut).status_code == 422
    fine = png(40, 30, (b"\0" + bytes(40)) * 30)
    assert site.ask("POST", path, content=fine).status_code == 201


def test_a_strip_that_unpacks_to_more_is_not_unpacked(site, tmp_path):
    """The reader makes room for what the header declares, and stops there."""
    import tracemalloc

    packer = zlib.compressobj(9)
    strip = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    assert len(strip) < 2**19
    answer = site.ask("POST", "/projects/demo/images?name=x.tif", content=with_strip(strip))
    assert answer.status_code == 201, answer.text  # its header is in order
    image = answer.json()["image"]
    tracemalloc.start()
    try:
        shown = site.ask("GET", f"/projects/demo/images/{image}/data")
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert shown.status_code in (200, 422), shown.text


def test_what_says_itself_how_large_it_is_does_not_come_in(send, make_discs):
    file = io.BytesIO()
    image = make_discs(1).astype(np.uint8)
    tifffile.imwrite(file, image, compression="png")
    answer = send(file.getvalue())
    assert answer.status_code == 413 and "PNG" in answer.json()["error"]["message"]
    for compression in (None, "lzw", "zlib", "packbits", "zstd"):
        file = io.BytesIO()
        tifffile.imwrite(file, image, compression=compression)
        assert send(file.getvalue()).status_code in (201, 202), compression


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">
<Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="32" SizeY="32" SizeC="1" SizeZ="{}"
SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{}</Pixels></Image></OME>"""


@pytest.mark.parametrize("own", [True, False])
def test_a_picture_that_names_another_file_does_not_show_it(send, site, tmp_path, own):
    secret = tmp_path / "secret.ome.tif"
    tifffile.imwrite(secret, np.full((32, 32), 7, np.uint8), ome=True, metadata={"axes": "YX"})
    planes = ['<TiffData IFD="0" PlaneCount="1"/>'] if own else []
    for place in (secret, "../" * 12 + str(secret)[1:]):
        other = f'<UUID FileName="{place}">urn:uuid:2</UUID>'
        data = [
            *planes,
            f'<TiffData IFD="0" FirstZ="{len(planes)}" PlaneCount="1">{other}</TiffData>',
        ]
        file = io.BytesIO()
        text = OME.format(len(data), "".join(data))
        tifffile.imwrite(file, np.zeros((32, 32), np.uint8), description=text, metadata=None)
        answer = send(file.getvalue())
        assert answer.status_code == 422 and code(answer) == "bad-image", answer.text
        assert "secret" not in answer.text
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((32, 32), np.uint8), ome=True, metadata={"axes": "YX"})
    assert send(file.getvalue()).status_code in (201, 202)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("5% O2 [1].tif", "5- O2 -1-.tif"), ("(a) 'b'!.tif", "a) -b--.tif"),
        ("C1-µ-Tubulin \u2013 größer.tif", "C1-µ-Tubulin - größer.tif"),
        ("bild\u202f3.TIF", "bild-3.TIF"), ("a:b*c?<d>|\".tif", "a-b-c--d---.tif"),
        ("-rf.tif", "rf.tif"), ("a\u0308.png", "ä.png"), ("日本.tiff", "日本.tiff"),
    ],
)  # fmt: skip
def test_odd_names_are_fine_and_what_becomes_of_them_is_said(site, make_discs, name, kept):
    assert file_name(name) == kept
    body = tiff(make_discs(5)) if not kept.endswith("png") else png(9, 9, (b"\0" + bytes(9)) * 9)
    answer = site.ask("POST", "/projects/demo/images", params={"name": name}, content=body)
    assert answer.status_code == 201, answer.text
    assert (site.root / "demo" / "data" / kept).is_file()
    [*said] = answer.json()["said"]
    assert bool(said) == (kept not in (name, "ä.png")) and all(repr(kept) in line for line in said)


@pytest.mark.parametrize(
    "name", ["???.tif", ".tif", "-.tif", "a" * 198 + ".tif", "ä" * 99 + ".tif"]
)
def test_names_of_which_nothing_is_left(site, make_discs, name):
    path = "/projects/demo/images"
    answer = site.ask("POST", path, params={"name": name}, content=tiff(make_discs(5)))
    assert answer.status_code == 422 and answer.json()["error"]["message"]


def test_another_picture_of_a_name_gets_a_number_which_is_said(site, make_discs):
    path = "/projects/demo/images?name=a.tif"
    answer = site.ask("POST", path, content=tiff(make_discs(6)))
    assert answer.status_code == 201 and "'a-2.tif'" in answer.json()["said"][0]


def test_a_project_says_what_its_id_is(site):
    plain = site.ask("POST", "/projects", json={"name": "Kerne-3"}).json()
    assert (plain["id"], plain["said"]) == ("Kerne-3", [])
    again = site.ask("POST", "/projects", json={"name": "Kerne 3"}).json()
    assert again["id"] == "Kerne-3-2" and "'Kerne 3' is 'Kerne-3-2'" in again["said"][0]


def test_a_project_has_a_key_that_no_other_has(site):
    made = site.ask("POST", "/projects", json={"name": "new"}).json()
    listed = site.ask("GET", "/projects").json()
    assert set(listed["keys"]) == set(listed["projects"]) == {"demo", "new"}
    assert listed["keys"]["new"] == made["key"] and len(made["key"]) == 32
    assert site.ask("GET", "/projects/new").json()["key"] == made["key"]
    assert site.ask("GET", "/projects/demo", who="bob").json()["key"] == listed["keys"]["demo"]
    # A copy beside it, and another that takes its place.
    shutil.copytree(site.root / "new", site.root / "copy")
    assert site.ask("GET", "/projects/copy").json()["key"] != made["key"]
    shutil.rmtree(site.root / "new")
    assert site.ask("POST", "/projects", json={"name": "new"}).json()["key"] != made["key"]


def test_the_key_is_that_of_the_service_too(site, tmp_path):
    """A copy of the projects that another service has, without what is its own."""
    from opsef_bridge.project import Project
    from opsef_bridge.service.places import project_key

    key = site.ask("GET", "/projects/demo").json()["key"]
    moved = shutil.copytree(site.root, tmp_path / "moved")
    assert project_key(moved, Project(moved / "demo")) == key
    other = shutil.copytree(site.root, tmp_path / "b", ignore=shutil.ignore_patterns(".opsef"))
    found = project_key(other, Project(other / "demo"))
    assert found != key and found == project_key(other, Project(other / "demo"))
