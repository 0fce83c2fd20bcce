"""Macros and commands of ImageJ run only from a project's own ``opsef.yaml``, on disk.

Nothing that can hold one comes over the network or through the inbox: requests are ids,
numbers and choices. These tests fail when somebody adds a route that takes more.
"""

from __future__ import annotations

import io
import json
from typing import get_args

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from opsef_bridge.config import parse_config
from opsef_bridge.errors import InputError
from opsef_bridge.imagej.parameters import ALGORITHMS
from opsef_bridge.presets import Preset, preset_text
from opsef_bridge.service.inbox import run as run_inbox
from opsef_bridge.service.requests import KINDS, job_of, write_request

pytest.importorskip("fastapi", reason="the extra `service` is not installed")

MACRO = {"imagej": {"macro": 'exec("sh", "-c", "id");'}}
COMMAND = {"imagej": {"plugin": "command", "command": "Quit"}}
RECIPES = {"raw": [MACRO]}
LONGEST = 200
"""Letters of a text in a request: names, and what a person writes in a word or two."""


def tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.ones((20, 30), np.uint8), imagej=True)
    return file.getvalue()


def resolved(schema, spec):
    while "$ref" in schema:
        schema = spec["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def open_places(schema, spec, where: str) -> list[str]:
    """Return where anything may stand that is no number, no choice and no short text."""
    schema = resolved(schema, spec)
    choices = schema.get("anyOf", []) + schema.get("oneOf", []) + schema.get("allOf", [])
    if choices:
        return [place for one in choices for place in open_places(one, spec, where)]
    kind = schema.get("type")
    if "enum" in schema or "const" in schema or kind in ("integer", "number", "boolean", "null"):
        return []
    if kind == "string":
        short = "pattern" in schema or schema.get("maxLength", LONGEST + 1) <= LONGEST
        return [] if short else [where]
    if kind == "array" and "maxItems" in schema:
        return open_places(schema["items"], spec, f"{where}[]")
    if kind == "object" and schema.get("additionalProperties") is False:
        fields = schema.get("properties", {}).items()
        return [p for name, one in fields for p in open_places(one, spec, f"{where}.{name}")]
    return [where]


def test_what_a_request_may_hold_is_closed(site):
    spec = site.client.app.openapi()
    bodies = {
        f"{method} {path}": body["content"]["application/json"]["schema"]
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
        if "application/json" in (body := operation.get("requestBody", {"content": {}}))["content"]
    }
    assert len(bodies) >= 5
    found = [place for name, schema in bodies.items() for place in open_places(schema, spec, name)]
    gate = "classify.where"  # parsed, never evaluated: tests/analysis/test_gates.py
    assert found == [f"post /v1/projects/{{project}}/{gate}"]
    assert found_in_kinds() == ["segment.parameters", gate], "those of an engine: see below"


def found_in_kinds() -> list[str]:
    """The same of the kinds of requests that come through the inbox."""
    found = []
    for name, kind in KINDS.items():
        schema = kind.model.model_json_schema()
        spec = {"components": {"schemas": schema.get("$defs", {})}}
        found += open_places(schema, spec, name)
    return found


ATTEMPTS = [
    ("POST", "/projects", {"name": "new", "preprocess": RECIPES}),
    ("POST", "/projects", {"name": "new", "config": {"preprocess": RECIPES}}),
    ("POST", "/projects", {"name": "new", "preset": MACRO}),
    ("POST", "/projects/demo/runs", {"kind": "sweep", "preprocess": RECIPES}),
    ("POST", "/projects/demo/runs", {"kind": "sweep", "config": {"preprocess": RECIPES}}),
    ("POST", "/projects/demo/runs", {"kind": "macro", "macro": MACRO["imagej"]["macro"]}),
    ("POST", "/projects/demo/adopt", {"variant": "v0001", "steps": [["imagej", COMMAND]]}),
    ("POST", "/projects/demo/adopt", {"variant": {"steps": [["imagej", COMMAND["imagej"]]]}}),
    ("POST", "/projects/demo/truth", {"image": "i00001-a", "scope": MACRO}),
]


@pytest.mark.parametrize(("method", "path", "body"), ATTEMPTS)
def test_no_route_takes_a_recipe(site, method, path, body):
    text = site.project.config_file.read_text("utf-8")
    before = site.ask("GET", "/projects/demo").json()
    answer = site.ask(method, path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["message"] and answer.json()["error"]["code"]
    assert site.project.config_file.read_text("utf-8") == text
    assert site.ask("GET", "/projects/demo").json() == before
    assert site.ask("GET", "/projects").json()["projects"] == ["demo"]


def test_segment_takes_the_parameters_of_an_engine_and_no_recipe(site):
    said = json.dumps(MACRO)
    for query in ("macro", "imagej", "preprocess", "recipe", "plugin"):
        where = {"engine": "watershed", query: said}
        answer = site.ask("POST", "/segment", params=where, content=tiff())
        assert answer.status_code == 422 and query in answer.json()["error"]["message"]


def test_no_route_writes_the_configuration(site):
    text = site.project.config_file.read_text("utf-8")
    for path in ("/opsef.yaml", "/config", "", "/adopted.json", "/engines.json"):
        for method in ("PUT", "PATCH", "POST"):
            answer = site.ask(method, f"/projects/demo{path}", json={"preprocess": RECIPES})
            assert answer.status_code in (404, 405)
    assert site.project.config_file.read_text("utf-8") == text


@pytest.mark.parametrize(
    "name", ["opsef.yaml", "../opsef.yaml", "a.ijm", "a.tif/../../opsef.yaml", "opsef.yaml.tif"]
)
def test_an_image_that_is_sent_is_an_image(site, name):
    text = site.project.config_file.read_text("utf-8")
    content = json.dumps({"opsef": 1, "preprocess": RECIPES}).encode()
    answer = site.ask("POST", "/projects/demo/images", params={"name": name}, content=content)
    assert answer.status_code == 422
    assert site.project.config_file.read_text("utf-8") == text
    assert sorted(p.suffix for p in (site.project.root / "data").iterdir()) == [".tif", ".tif"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_request_of_the_inbox_takes_a_recipe(site, kind):
    project = site.project
    given = {"preprocess": RECIPES, "recipe": MACRO, "macro": "x = 1;", "config": RECIPES}
    with pytest.raises(ValidationError) as found:
        KINDS[kind].model.model_validate(given)
    refused = {e["loc"][0] for e in found.value.errors() if e["type"] == "extra_forbidden"}
    assert refused == set(given)
    with pytest.raises(InputError):
        write_request(project, kind, given, author="ada")
    request = {
        "opsef": 1, "id": "q-macro", "kind": kind, "author": "ada",
        "at": "2026-05-01T10:00:00+00:00", "parameters": given, "attachment": None,
    }  # fmt: skip
    project.inbox_folder.mkdir(exist_ok=True)
    (project.inbox_folder / "q-macro.json").write_text(json.dumps(request))
    run_inbox(project)
    assert job_of(project, "q-macro").state == "failed"


@pytest.mark.parametrize("preset", get_args(Preset))
def test_no_preset_that_a_request_can_name_asks_a_fiji(preset):
    config = parse_config(preset_text(preset))
    for steps in config.recipes().values():
        for name, given in steps:
            plugin = given.get("plugin", "") if name == "imagej" else name
            assert plugin not in ALGORITHMS or ALGORITHMS[plugin].provider == "ij1"


def test_a_macro_in_the_projects_own_file_is_taken(site):
    file = site.project.config_file
    recipes = json.dumps({"raw": [], "own": [MACRO]})
    file.write_text(f"{file.read_text('utf-8')}preprocess: {recipes}\n", "utf-8")
    answer = site.ask("GET", "/projects/demo/plan")
    assert answer.status_code == 200 and answer.json()["variants"] == 4
    assert site.ask("POST", "/projects/demo/runs", json={"kind": "sweep"}).status_code == 202
