"""What to correct next, through a request and over the service."""

from __future__ import annotations

import pytest

from opsef_bridge.errors import InputError
from opsef_bridge.service import corrected
from opsef_bridge.service.requests import perform, write_request
from opsef_bridge.train.next_up import next_up
from tests.small_projects import swept_to_judge


@pytest.fixture
def judged(root):
    return swept_to_judge(root / "judged")


def test_through_a_request_and_over_the_service(judged, root, until, monkeypatch):
    monkeypatch.setattr(corrected, "now", lambda: "2026-11-23T06:40:59+00:00")
    whole = [one.to_json() for one in next_up(judged)]
    told = perform(judged, write_request(judged, "next", {}, author="ada"))
    assert told["next"] == [{**one, "box": None} for one in whole] and told["run"] == "run-0001"
    assert told["left"] == 0 and "2 places" in told["said"][0]
    assert told["made"] == "2026-11-23T06:40:59+00:00"
    boxes = [one.to_json() for one in next_up(judged, tile=64)]
    given = {"tile": 64, "count": 1, "variant": "v0001"}
    told = perform(judged, write_request(judged, "next", given, author="ada"))
    assert len(told["next"]) == 1 and told["left"] >= 1
    given = {"tile": 0}
    told = perform(judged, write_request(judged, "next", given, author="ada"))
    assert told["next"] == whole

    testclient = pytest.importorskip("fastapi.testclient", reason="service is not installed")
    from opsef_bridge.service.app import create_app
    from opsef_bridge.service.jobs import Jobs
    from opsef_bridge.service.people import invite

    headers = {"Authorization": f"Bearer {invite(root, 'ada')[1]}"}
    app = create_app(root, jobs=Jobs(root, at_most=1))
    here = "/v1/projects/judged"
    with testclient.TestClient(app, base_url="http://127.0.0.1:8000", headers=headers) as client:
        assert client.post(f"{here}/next", json={"tile": -1}).status_code == 422
        started = client.post(f"{here}/next", json={"tile": 64})
        assert started.status_code == 202, started.text
        job = f"{here}/jobs/{started.json()['job']}"
        until(lambda: client.get(job).json()["state"] not in ("waiting", "running"))
        told = client.get(job).json()
    assert told["state"] == "done", told
    found = told["result"]["next"]
    assert [one["scope"] for one in found] == [one["scope"] for one in boxes]
    assert found[0]["box"] == list(boxes[0]["box"])


@pytest.mark.parametrize("wrong", [{"count": 0}, {"tile": "big"}, {"run": "../x"}, {"image": "a"}])
def test_wrong_parameters_are_refused(project, wrong):
    with pytest.raises(InputError):
        write_request(project, "next", wrong, author="ada")
