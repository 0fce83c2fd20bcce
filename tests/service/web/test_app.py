"""The routes, in this process: what they answer, and what they refuse."""

from __future__ import annotations

import errno
import io
import json
import logging
import zipfile

import numpy as np
import pytest
import tifffile

from opsef_bridge.rois.objects import Objects
from opsef_bridge.rois.sets import read_roi_set, write_roi_set
from opsef_bridge.rois.truth import read_truth
from opsef_bridge.service import requests
from opsef_bridge.service.people import revoke

pytest.importorskip("fastapi", reason="the extra `service` is not installed")


def code(answer) -> str:
    return answer.json()["error"]["code"]


def tiff(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, imagej=True)
    return file.getvalue()


def edited(content: bytes, shape, folder, change) -> bytes:
    """Return a zip of ROIs after `change` was done to the labels and classes in it."""
    path = folder / "in.zip"
    path.write_bytes(content)
    objects, _, _ = read_roi_set(path, shape)
    labels, classes = change(objects.labels.copy(), dict(objects.classes))
    out = folder / "out.zip"
    write_roi_set(out, Objects(labels, classes), overwrite=True)
    return out.read_bytes()


def without_first(labels, classes):
    labels[labels == labels[labels > 0].min()] = 0
    return labels, classes


# --- who may ask


def test_health_is_open_and_tells_only_versions(site):
    answer = site.client.get("/v1/health")
    assert answer.status_code == 200
    assert set(answer.json()) == {"name", "api", "version"} and answer.json()["api"] == 1


def test_every_other_route_is_closed(site):
    routes = site.client.app.openapi()["paths"]
    assert len(routes) > 20
    known = ("/v1/health", "/fiji.zip", "/report/{ticket}")  # the last opens by its ticket only
    for path, methods in routes.items():
        for method in methods:
            answer = site.client.request(method.upper(), path.replace("{project}", "demo"))
            assert (answer.status_code == 401) == (path not in known), path
    assert site.client.get("/report/{ticket}").status_code == 404
    for path in ("/openapi.json", "/", "/v1", "/docs", "/v1/nothing"):
        assert site.client.get(path).status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic {}", "{}", "Bearer {}x", "Bearer  x {}"]
)
def test_a_wrong_token_is_refused(site, header):
    header = header.format(site.tokens["ada"])
    answer = site.client.get("/v1/me", headers={"Authorization": header})
    assert answer.status_code == 401 and code(answer) == "no-token"
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_is_a_name(site):
    assert site.ask("GET", "/me").json() == {"name": "ada"}
    assert site.ask("GET", "/me", who="bob").json() == {"name": "bob"}
    assert site.client.get(f"/v1/me?token={site.tokens['ada']}").status_code == 401


def test_a_revoked_person_is_out_at_once(site):
    assert site.ask("GET", "/projects").status_code == 200
    revoke(site.root, "ada")
    assert site.ask("GET", "/projects").status_code == 401
    assert site.ask("GET", "/projects", who="bob").status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]", "10.0.0.1"]
)
def test_a_foreign_host_is_refused(site, host):
    for path in ("/v1/health", "/v1/me"):
        answer = site.client.get(path, headers=site.headers(Host=host))
        assert answer.status_code == 421 and code(answer) == "wrong-host"


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_names_of_this_machine_are_fine(site, host):
    assert site.client.get("/v1/me", headers=site.headers(Host=host)).status_code == 200


def test_no_page_of_another_site_may_read(site):
    headers = site.headers(Origin="https://evil.example")
    headers["Access-Control-Request-Method"] = "GET"
    for method in ("GET", "OPTIONS"):
        answer = site.client.request(method, "/v1/projects", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_tokens_are_never_in_logs_or_answers(site, caplog):
    caplog.set_level(logging.DEBUG)
    token = site.tokens["ada"]
    for path in ("/me", "/projects/demo", "/projects/none", "/nothing", "/projects/demo/plan?x=1"):
        assert token not in site.ask("GET", path).text
    assert token not in caplog.text


# --- addresses


BAD = ["..", "%2e%2e", "%2e%2e%2f%2e%2e", "a%2fb", "a%5cb", "a%00b", "%00", "/etc", "%2fetc",
       "a b", "ä", ".", "~", "C:", "a" * 65, "_scratch", "demo%2fdata", "demo%0a"]  # fmt: skip


def test_what_is_no_id_leads_nowhere(site):
    for path in (
        "/projects/{}",
        "/projects/{}/images",
        "/projects/demo/images/{}/data",
        "/projects/demo/runs/{}",
        "/projects/demo/runs/{}/report",
        "/projects/demo/runs/run-0001/compare/{}",
        "/projects/demo/runs/run-0001/labels/{}/x",
        "/projects/demo/rois/{}",
        "/projects/demo/rois/{}/log",
        "/projects/demo/table/{}",
        "/projects/demo/jobs/{}",
        "/segment/{}",
        "/segment/{}/rois",
    ):
        for bad in BAD:
            answer = site.ask("GET", path.format(bad))
            # The client takes `.` and `..` out: what is left may be a route.
            harmless = bad in (".", "..", "%2e%2e") and answer.status_code in (200, 405)
            assert harmless or answer.status_code in (404, 422), (path, bad, answer.text)


def test_links_that_lead_out_are_not_followed(site, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "opsef.yaml").write_text((site.root / "demo" / "opsef.yaml").read_text())
    (outside / "secret.tif").write_bytes(tiff(np.zeros((8, 8), np.uint8)))
    (site.root / "linked").symlink_to(outside)
    assert "linked" not in site.ask("GET", "/projects").json()["projects"]
    assert site.ask("GET", "/projects/linked").status_code == 404
    image = site.images[0]
    run = site.project.run()
    for file, path in [
        (run.compare_file(image), f"/compare/{image}"),
        (run.label_file("v0001", image), f"/labels/v0001/{image}"),
        (run.report_file, "/report"),
    ]:
        assert site.ask("GET", f"/projects/demo/runs/{run.id}{path}").status_code == 200
        file.unlink()
        file.symlink_to(outside / "secret.tif")
        assert site.ask("GET", f"/projects/demo/runs/{run.id}{path}").status_code == 404


def test_unknown_ids_are_404_with_the_way_out(site):
    image = site.images[0]
    for path in (
        "/projects/none", "/projects/demo/runs/run-0009", "/projects/demo/rois/i00009-x",
        f"/projects/demo/rois/{image}?revision=r0009", "/projects/demo/jobs/q1", "/segment/q1",
        f"/projects/demo/rois/{image}?run=run-0009&variant=v0001",
        f"/projects/demo/runs/run-0001/labels/v0099/{image}",
        "/projects/demo/runs/run-0001/compare/i00009-x", "/nothing",
    ):  # fmt: skip
        answer = site.ask("GET", path)
        assert answer.status_code == 404 and answer.json()["error"]["message"], path


def test_a_wrong_method_is_405(site):
    answer = site.ask("DELETE", "/projects/demo")
    assert answer.status_code == 405 and code(answer) == "wrong-method"


# --- size of what comes


def test_too_much_is_refused(site):
    large = b"x" * (2**20 + 1)
    image = site.images[0]
    before = {path for path in site.root.rglob("*")}
    for method, path in [
        ("POST", "/projects/demo/images?name=a.tif"),
        ("PUT", f"/projects/demo/rois/{image}"),
        ("POST", "/segment?engine=watershed"),
        ("POST", "/projects"),
    ]:
        told = site.ask(method, path, content=large, headers={"If-Match": '"none"'})
        untold = site.ask(
            method, path, content=iter([large[:1000], large]), headers={"If-Match": '"none"'}
        )
        for answer in (told, untold):
            assert answer.status_code == 413 and code(answer) == "too-large", (path, answer.text)
    left = [path for path in site.root.rglob("*") if path not in before and path.is_file()]
    assert left == []


def test_a_lying_length_is_refused(site):
    for length in ("-1", "1e3", "x", "99999999999999999999"):
        answer = site.ask("POST", "/projects", headers={"Content-Length": length}, content=b"{}")
        assert answer.status_code in (400, 413)


# --- projects and images


def test_a_project_from_nothing_to_an_image(site, make_discs):
    made = site.ask(
        "POST", "/projects",
        json={"name": "Meine Kerne!", "preset": "fluorescence", "object_um": 9, "pixel_um": 0.5},
    )  # fmt: skip
    assert made.status_code == 201 and made.json()["id"] == "Meine-Kerne"
    assert "'Meine Kerne!' is 'Meine-Kerne' here" in made.json()["said"][0]
    assert site.ask("POST", "/projects", json={"name": "Meine Kerne"}).json()["id"].endswith("-2")
    body = tiff(make_discs(5))
    sent = site.ask("POST", "/projects/Meine-Kerne/images?name=Bild ä.tif", content=body)
    assert sent.status_code == 201
    image = sent.json()["image"]
    again = site.ask("POST", "/projects/Meine-Kerne/images?name=Bild ä.tif", content=body)
    assert (again.status_code, again.json()) == (200, sent.json() | {"said": []})
    other = tiff(make_discs(6))
    another = site.ask("POST", "/projects/Meine-Kerne/images?name=Bild ä.tif", content=other)
    assert another.status_code == 201 and another.json() != sent.json()
    facts = site.ask("GET", "/projects/Meine-Kerne").json()
    assert [row["id"] for row in facts["images"]] == [image, another.json()["image"]]
    plan = site.ask("GET", "/projects/Meine-Kerne/plan").json()
    assert plan["images"] == 2 and plan["new_passes"] > 0 and plan["disk_bytes"] > 0


@pytest.mark.parametrize(
    "wanted",
    [
        {}, {"name": ""}, {"name": "???"}, {"name": "a", "preset": "x"}, {"name": "a", "more": 1},
        {"name": "a", "object_um": 10}, {"name": "a", "object_um": -1, "pixel_um": 1},
        {"name": "a", "object_um": 1000, "pixel_um": 0.1}, [], "a", None,
    ],
)  # fmt: skip
def test_what_is_no_project(site, wanted):
    answer = site.ask("POST", "/projects", json=wanted)
    assert answer.status_code == 422 and answer.json()["error"]["message"]
    assert site.ask("GET", "/projects").json()["projects"] == ["demo"]


@pytest.mark.parametrize(
    "name",
    ["../a.tif", "/a.tif", "a/b.tif", "a\\b.tif", ".a.tif", "a.exe", "a", "a\0.tif", "", "a\n.tif"],
)
def test_names_that_are_no_names_of_images(site, make_discs, name):
    body = tiff(make_discs(5))
    answer = site.ask("POST", "/projects/demo/images", params={"name": name}, content=body)
    assert answer.status_code in (404, 422)
    assert sorted(p.name for p in (site.root / "demo" / "data").iterdir()) == [
        "Zählung b.tif",
        "a.tif",
    ]


@pytest.mark.parametrize("body", [b"", b"hello", b"II*\0", b"PK\5\6" + bytes(18)])
def test_what_is_no_image_is_not_kept(site, body):
    answer = site.ask("POST", "/projects/demo/images?name=x.tif", content=body)
    assert answer.status_code == 422 and code(answer) == "bad-image"
    assert "x.tif" in answer.json()["error"]["message"]
    assert str(site.root) not in answer.text
    assert not [p for p in site.root.rglob("*upload*") if p.is_file()]
    assert len(site.images) == 2


def test_pixels_are_those_that_are_segmented(site, make_discs):
    [image] = [image for image in site.images if image.endswith("-a")]
    answer = site.ask("GET", f"/projects/demo/images/{image}/data")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/tiff"
    assert np.array_equal(tifffile.imread(io.BytesIO(answer.content)), make_discs(1))
    etag = answer.headers["etag"]
    path = f"/projects/demo/images/{image}/data"
    same = site.ask("GET", path, headers={"If-None-Match": etag})
    assert same.status_code == 304 and not same.content and same.headers["etag"] == etag
    tifffile.imwrite(site.root / "demo" / "data" / "a.tif", make_discs(3), imagej=True)
    new = site.ask("GET", path, headers={"If-None-Match": etag})
    assert new.status_code == 200 and new.headers["etag"] != etag


# --- runs


def test_a_run_and_its_files(site):
    runs = site.ask("GET", "/projects/demo/runs").json()["runs"]
    assert [run["id"] for run in runs] == ["run-0001"] and runs[0]["state"] == "done"
    run = site.ask("GET", "/projects/demo/runs/run-0001").json()
    assert [row["rank"] for row in run["variants"]] == [1, 2]
    assert {"agreement", "agreement_07", "plain_mean", "score"} <= set(run["variants"][0])
    assert isinstance(run["variants"][0]["score"], float)
    assert set(run["counts"]) == {"ok", "empty", "failed", "open", "passes"}
    assert run["remarks"] == []
    unit = site.project.run().unit_file("u0001")
    said = "a: its objects have no classes: x"
    unit.write_text(json.dumps(json.loads(unit.read_text()) | {"remarks": [said]}))
    assert site.ask("GET", "/projects/demo/runs/run-0001").json()["remarks"] == [said]
    image = site.images[0]
    for path, kind in [
        (f"/compare/{image}", "image/tiff"),
        (f"/labels/v0001/{image}", "image/tiff"),
        ("/report", "text/html; charset=utf-8"),
    ]:
        answer = site.ask("GET", f"/projects/demo/runs/run-0001{path}")
        assert answer.status_code == 200 and answer.headers["content-type"] == kind
        assert answer.headers["etag"]


def test_a_stack_comes_in_parts(site):
    path = f"/projects/demo/runs/run-0001/compare/{site.images[0]}"
    whole = site.ask("GET", path)
    etag = whole.headers["etag"]
    part = site.ask("GET", path, headers={"Range": "bytes=100-299", "If-Range": etag})
    assert part.status_code == 206 and part.content == whole.content[100:300]
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole.content)}"
    other = site.ask("GET", path, headers={"Range": "bytes=100-299", "If-Range": '"x"'})
    assert other.status_code == 200 and other.content == whole.content
    for bad in ("bytes=9999999-", "bytes=x", "furlongs=1-2", "bytes=5-1", "bytes=-"):
        assert site.ask("GET", path, headers={"Range": bad}).status_code in (200, 400, 416)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[1", b'{"variant": "v0001"}x'])
def test_what_is_no_json_is_a_bad_request(site, body):
    headers = {"Content-Type": "application/json"}
    answer = site.ask("POST", "/projects/demo/adopt", content=body, headers=headers)
    assert answer.status_code == 422 and code(answer) == "bad-input"


def test_a_full_disk_is_said():
    from opsef_bridge.service import web

    answer = web.answer_unexpected(None, OSError(28, "No space left on device"))
    assert answer.status_code == 507 and b"disk" in answer.body
    assert web.answer_unexpected(None, ValueError("x")).status_code == 500


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_run_on_a_full_disk_is_507_as_all_else(site, monkeypatch, number):
    def full(path, value):
        raise OSError(number, "No space left on device", str(path))

    monkeypatch.setattr(requests, "write_json", full)
    answer = site.ask("POST", "/projects/demo/runs", json={"kind": "sweep"})
    assert answer.status_code == 507 and code(answer) == "disk-full"
    assert "Free some space" in answer.json()["error"]["hint"]
    monkeypatch.undo()
    assert site.ask("POST", "/projects/demo/runs", json={"kind": "sweep"}).status_code == 202


def test_a_disk_that_may_not_be_written_is_not_a_full_one(site, monkeypatch):
    def denied(path, value):
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(requests, "write_json", denied)
    answer = site.ask("POST", "/projects/demo/runs", json={"kind": "sweep"})
    assert answer.status_code == 422 and "Permission denied" in answer.text


def test_a_variant_is_adopted_by_its_author(site):
    answer = site.ask("POST", "/projects/demo/adopt", json={"variant": "v0002"}, who="bob")
    assert answer.status_code == 200
    assert site.project.adopted()["default"]["id"] == "v0002"
    assert site.project.adopted()["default"]["by"] == "bob"
    assert site.ask("POST", "/projects/demo/adopt", json={"variant": "v0099"}).status_code == 404
    bad = site.ask("POST", "/projects/demo/adopt", json={"variant": "v0001", "script": "x"})
    assert bad.status_code == 422


@pytest.mark.parametrize(
    "wanted",
    [
        {}, {"kind": "train"}, {"kind": "sweep", "executor": "shell"},
        {"kind": "sweep", "profile": "../x"}, {"kind": "sweep", "profile": "slurm"},
        {"kind": "sweep", "workers": 0}, {"kind": "sweep", "command": "ls"},
    ],
)  # fmt: skip
def test_what_is_no_run(site, wanted):
    assert site.ask("POST", "/projects/demo/runs", json=wanted).status_code == 422
    assert site.ask("GET", "/projects/demo/jobs").json() == {"jobs": []}


# --- objects


def test_objects_go_out_and_come_back(site, tmp_path, make_discs):
    image, shape = site.images[0], make_discs(1).shape
    path = f"/projects/demo/rois/{image}"
    out = site.ask("GET", path, params={"run": "run-0001", "variant": "v0001"})
    assert out.status_code == 200 and out.headers["etag"] == '"run-0001/v0001"'
    count = int(out.headers["x-opsef-objects"])
    assert count == len(zipfile.ZipFile(io.BytesIO(out.content)).namelist()) > 5
    body = edited(out.content, shape, tmp_path, without_first)
    put = site.ask("PUT", path, content=body, headers={"If-Match": out.headers["etag"]})
    assert put.status_code == 201, put.text
    assert put.json()["revision"] == "r0001" and put.json()["objects"] == count - 1
    assert put.headers["etag"] == '"r0001"' and put.json()["new"]
    again = site.ask("PUT", path, content=body, headers={"If-Match": out.headers["etag"]})
    assert again.status_code == 200 and not again.json()["new"]
    back = site.ask("GET", path)
    assert back.headers["etag"] == '"r0001"'
    assert int(back.headers["x-opsef-objects"]) == count - 1
    assert site.ask("GET", path, headers={"If-None-Match": '"r0001"'}).status_code == 304
    log = site.ask("GET", f"{path}/log").json()["revisions"]
    assert [(one["id"], one["author"]) for one in log] == [("r0001", "ada")]


def test_a_stale_edit_is_refused_with_the_report(site, tmp_path, make_discs):
    image, shape = site.images[0], make_discs(1).shape
    path = f"/projects/demo/rois/{image}"
    out = site.ask("GET", path, params={"run": "run-0001", "variant": "v0001"})
    base = {"If-Match": out.headers["etag"]}

    def larger(labels, classes):
        first = labels[labels > 0].min()
        rows, columns = np.nonzero(labels == first)
        labels[rows.max() + 1, columns[rows == rows.max()]] = first
        return labels, classes

    ours = edited(out.content, shape, tmp_path, without_first)
    theirs = edited(out.content, shape, tmp_path, larger)
    assert site.ask("PUT", path, content=theirs, headers=base, who="bob").status_code == 201
    refused = site.ask("PUT", path, content=ours, headers=base)
    assert refused.status_code == 412 and code(refused) == "stale-edit"
    assert refused.json()["error"]["report"]["conflicts"]
    assert site.ask("GET", path).headers["etag"] == '"r0001"'
    taken = site.ask("PUT", path, content=ours, headers=base, params={"resolve": "ours"})
    assert taken.status_code == 201 and taken.json()["revision"] == "r0002"


def test_an_edit_must_say_what_it_is_of(site):
    path = f"/projects/demo/rois/{site.images[0]}"
    answer = site.ask("PUT", path, content=b"x")
    assert answer.status_code == 428 and code(answer) == "no-base"
    for bad in ("*", "r1", "../x", '"run-0001/v0001/x"', ""):
        answer = site.ask("PUT", path, content=b"x", headers={"If-Match": bad})
        assert answer.status_code == 422


def test_all_objects_deleted_is_an_edit_too(site):
    path = f"/projects/demo/rois/{site.images[0]}"
    out = site.ask("GET", path, params={"variant": "v0001"})
    base = {"If-Match": out.headers["etag"]}
    assert site.ask("PUT", path, headers=base).status_code == 422
    put = site.ask("PUT", path, headers=base | {"X-Opsef-Objects": "0"})
    assert put.status_code == 201 and put.json()["objects"] == 0
    none = site.ask("GET", path)
    assert none.status_code == 204 and none.headers["etag"] == '"r0001"'
    assert none.headers["x-opsef-objects"] == "0" and not none.content


def test_no_objects_yet(site):
    answer = site.ask("GET", f"/projects/demo/rois/{site.images[1]}")
    assert answer.status_code == 204 and answer.headers["etag"] == '"none"'


@pytest.mark.parametrize("body", [b"x", b"PK\5\6" + bytes(18), b"PK\3\4" + bytes(40)])
def test_what_is_no_zip_of_rois(site, body):
    path = f"/projects/demo/rois/{site.images[0]}"
    answer = site.ask("PUT", path, content=body, headers={"If-Match": '"run-0001/v0001"'})
    assert answer.status_code == 422 and site.ask("GET", f"{path}/log").json() == {"revisions": []}


def test_truth_verdicts_and_tables(site):
    image = site.images[0]
    path = f"/projects/demo/rois/{image}"
    out = site.ask("GET", path, params={"variant": "v0001"})
    put = site.ask(
        "PUT", path, content=out.content, headers={"If-Match": out.headers["etag"]},
        params={"truth": "whole"}, who="bob",
    )  # fmt: skip
    assert put.status_code == 201
    assert read_truth(site.project, image).record["claims"][0]["author"] == "bob"
    claim = {"image": image, "revision": "r0001", "scope": "0,0,20,20"}
    assert site.ask("POST", "/projects/demo/truth", json=claim).status_code == 201
    assert len(site.ask("GET", "/projects/demo/truth").json()["truth"][0]["claims"]) == 2
    bad = site.ask("POST", "/projects/demo/truth", json=claim | {"scope": "all of it"})
    assert bad.status_code == 422
    verdict = {"image": image, "run": "run-0001", "variant": "v0001", "verdict": "over"}
    assert site.ask("POST", "/projects/demo/verdicts", json=verdict).status_code == 201
    assert "over" in (site.root / "demo" / "annotations" / "verdicts.csv").read_text()
    table = site.ask("GET", f"/projects/demo/table/{image}").json()
    assert len(table["rows"]) == int(out.headers["x-opsef-objects"])
    assert {"label", "area", "centroid_y", "centroid_x", "class", "mean_intensity"} <= set(
        table["rows"][0]
    )
    csv = site.ask("GET", f"/projects/demo/table/{image}?format=csv&decimal=,")
    first = csv.text.splitlines()[1].split(";")
    assert len(csv.text.splitlines()) == len(table["rows"]) + 1
    assert float(first[2].replace(",", ".")) == pytest.approx(table["rows"][0]["centroid_y"])


def test_models_without_paths(site):
    answer = site.ask("GET", "/models")
    engines = {one["engine"]: one for one in answer.json()["engines"]}
    assert engines["unet"]["weights"][0]["name"] == "nuclei-unet"
    assert engines["watershed"]["parameters"]["scale"] == 1.0
    assert str(site.root) not in answer.text and ".onnx" not in answer.text


def test_the_menu_for_fiji_needs_no_token(site):
    answer = site.client.get("/fiji.zip")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert any(name.endswith("plugins/OpSeF/Connect.py") for name in names)


# --- jobs


def test_a_run_is_a_job(site):
    started = site.ask("POST", "/projects/demo/runs", json={"kind": "sweep"})
    assert started.status_code == 202
    job = started.json()["job"]
    state = site.ask("GET", f"/projects/demo/jobs/{job}").json()
    assert state["kind"] == "sweep" and state["author"] == "ada"
    assert "pid" not in state
    assert [one["id"] for one in site.ask("GET", "/projects/demo/jobs").json()["jobs"]] == [job]
    gone = site.ask("DELETE", f"/projects/demo/jobs/{job}")
    assert gone.status_code == 200


def test_events_tell_the_end(site):
    image = site.images[0]
    verdict = {"image": image, "variant": "v0001", "verdict": "good"}
    site.ask("POST", "/projects/demo/verdicts", json=verdict)
    [job] = site.ask("GET", "/projects/demo/jobs").json()["jobs"]
    answer = site.ask("GET", f"/projects/demo/jobs/{job['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("event: job\ndata: {") and '"state": "done"' in answer.text


def test_a_segmentation_belongs_to_who_asked(site, make_discs):
    body = tiff(make_discs(4))
    started = site.ask("POST", "/segment?engine=watershed&scale=0.5", content=body)
    assert started.status_code == 202, started.text
    job = started.json()["job"]
    assert site.ask("GET", f"/segment/{job}").status_code == 200
    assert site.ask("GET", f"/segment/{job}", who="bob").status_code == 404
    assert site.ask("GET", f"/segment/{job}/rois", who="bob").status_code == 404
    site.ask("DELETE", f"/segment/{job}")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422), ("engine=none", 404), ("weights=none", 404), ("engine=watershed&scale=x", 422),
        ("engine=watershed&speed=1", 422), ("engine=unet&weights=nuclei-stardist", 422),
        ("engine=watershed&scale=nan", 422), ("engine=watershed&scale=inf", 422),
        ("engine=../x", 404),
    ],
)  # fmt: skip
def test_what_cannot_segment(site, make_discs, query, status):
    assert site.ask("POST", f"/segment?{query}", content=tiff(make_discs(4))).status_code == status


def test_what_cannot_be_segmented(site):
    answer = site.ask("POST", "/segment?engine=watershed", content=b"hello")
    assert answer.status_code == 422 and code(answer) == "bad-image"
    assert str(site.root) not in answer.text
