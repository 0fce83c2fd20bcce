"""Whatever the interface says that one may ask, and what it says one may not: never a fault."""

from __future__ import annotations

import json
import os

import pytest

try:
    import fastapi  # noqa: F401
    import schemathesis
except ImportError as error:
    if os.environ.get("CI"):  # where nothing may be missing
        raise
    pytest.skip(f"{error.name} is not installed", allow_module_level=True)

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable


@schemathesis.serializer("image/tiff", "application/zip")
def as_bytes(context, value) -> bytes:
    """Send what stands for a file; negative tests give other things, too."""
    value = getattr(value, "data", value)
    return value if isinstance(value, bytes) else json.dumps(value).encode()


MODES = {
    "allowed": schemathesis.GenerationMode.POSITIVE,
    "not-allowed": schemathesis.GenerationMode.NEGATIVE,
}


@pytest.mark.parametrize("mode", MODES)
def test_no_request_makes_it_fail(site, mode):
    verdict = {"image": site.images[0], "variant": "v0001", "verdict": "good"}
    assert site.ask("POST", "/projects/demo/verdicts", json=verdict).status_code == 201
    [job] = site.ask("GET", "/projects/demo/jobs").json()["jobs"]
    real = {
        "project": "demo", "image": site.images[0], "run": "run-0001", "variant": "v0001",
        "job": job["id"],
    }  # fmt: skip
    schema = schemathesis.openapi.from_dict(site.client.app.openapi())
    seen: dict[int, int] = {}
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 25
    for operation in operations:
        _ask_often(site, operation, MODES[mode], real, seen)
    assert sum(seen.values()) > 5 * len(operations)
    assert {404, 422} <= set(seen), seen
    assert mode != "allowed" or seen[200] > 50, seen


def _ask_often(site, operation, mode, real, seen) -> None:
    @settings(
        max_examples=20, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode), st.sampled_from([True, True, True, False]))
    def ask(case, known: bool) -> None:
        if known:
            for name in case.path_parameters or {}:
                case.path_parameters[name] = real.get(name, case.path_parameters[name])
        sent = case.as_transport_kwargs(base_url="http://127.0.0.1:8000")
        sent["headers"] = {**sent.get("headers", {}), **site.headers()}
        for unused in ("cookies", "timeout", "verify", "cert", "proxies"):
            sent.pop(unused, None)
        data = sent.pop("data", None)
        if data is not None:
            sent["content"] = data
        answer = site.client.request(**sent)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
            assert answer.json()["error"]["message"]

    try:
        ask()
    except Unsatisfiable:  # there is nothing that this operation does not allow
        assert mode == MODES["not-allowed"]
