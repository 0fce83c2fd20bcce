"""What the trainings of a project have made, found by key: read once, and again when it changes."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

pytest.importorskip("torch")

from opsef_bridge.files import write_json
from opsef_bridge.project import Project, Run
from opsef_bridge.train.networks import Network, TrainPlan
from opsef_bridge.train.places import MADE, network_folder, networks_made, outcomes_made

ONE = Network("n0001", "u", "unet", "d0001", "content", cycles={"steps": 1.0})


def training(project: Project, *networks: Network, made: bool = True) -> Run:
    run = project.new_training()
    run.write_plan(asdict(TrainPlan(run.id, "grid", networks)))
    for one in networks:
        network_folder(run, one.id).mkdir(parents=True)
        if made:
            write_json(network_folder(run, one.id) / MADE, {"key": one.key})
    return run


def infer(run: Run, unit: str, *outcomes: tuple[str, str, str], status: str = "ok") -> None:
    """Write outcomes (key, network, image) of a unit, with their labels."""
    told = []
    for key, network, image in outcomes:
        told.append({"key": key, "variant": network, "image": image, "status": status})
        file = run.label_file(network, image)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"labels")
    write_json(run.unit_file(unit), {"outcomes": told})


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def found(project: Project, key: str) -> list[tuple[str, str, bool]]:
    return [(run.id, one.id, made) for run, one, made in networks_made(project, key)]


def test_networks_that_are_made_come_first_and_the_newest_of_them(project):
    other = replace(ONE, id="n0002", seed=1)
    training(project, ONE, made=False)
    training(project, other, replace(ONE, id="n0007"))
    training(project, ONE, replace(ONE, id="n0002", trained=False))
    training(project, ONE, made=False)
    assert found(project, ONE.key) == [
        ("train-0003", "n0001", True), ("train-0002", "n0007", True),
        ("train-0004", "n0001", False), ("train-0001", "n0001", False),
    ]  # fmt: skip
    assert found(project, other.key) == [("train-0002", "n0002", True)]
    assert found(project, "no such key") == []


def test_a_plan_or_a_network_that_changes_is_seen(project):
    run = training(project, ONE, made=False)
    assert found(project, ONE.key) == [(run.id, "n0001", False)]
    write_json(network_folder(run, ONE.id) / MADE, {"key": ONE.key})
    assert found(project, ONE.key) == [(run.id, "n0001", True)]
    another = replace(ONE, cycles={"steps": 20.0})
    run.write_plan(asdict(TrainPlan(run.id, "grid", (another,))))
    assert found(project, ONE.key) == []
    assert found(project, another.key) == [(run.id, "n0001", False)]


def test_plans_and_units_are_read_once(project, monkeypatch):
    for seed in range(3):
        run = training(project, replace(ONE, seed=seed))
        infer(run, "u0001", (f"k{seed}", "n0001", "a"))
    found(project, ONE.key)
    outcomes_made(project, {"k0"}, "")
    read = []
    real = Run.plan

    def plan(self):
        read.append(self.id)
        return real(self)

    monkeypatch.setattr(Run, "plan", plan)
    assert len(found(project, ONE.key)) == 1
    assert found(project, "no such key") == []
    assert read == ["train-0001"]  # for the network itself
    (only,) = outcomes_made(project, {"k0"}, "")
    assert only == "k0"


def test_outcomes_come_from_the_newest_training_that_has_the_labels(project):
    first, second = training(project, ONE), training(project, ONE)
    infer(first, "u0001", ("k", "n0001", "a"), ("only", "n0001", "b"))
    infer(second, "u0001", ("k", "n0001", "a"))
    infer(second, "u0002", ("k", "n0002", "a"))

    def place(without=""):
        return {
            key: file for key, (file, _) in outcomes_made(project, {"k", "only"}, without).items()
        }

    assert place() == {"k": second.label_file("n0001", "a"), "only": first.label_file("n0001", "b")}
    second.label_file("n0001", "a").unlink()
    assert place()["k"] == second.label_file("n0002", "a")
    second.label_file("n0002", "a").unlink()
    assert place()["k"] == first.label_file("n0001", "a")
    assert place(first.id) == {}


def test_a_unit_that_goes_on_or_fails_is_seen(project):
    run = training(project, ONE)
    assert outcomes_made(project, {"k"}, "") == {}
    infer(run, "u0001", ("k", "n0001", "a"), status="failed")
    assert outcomes_made(project, {"k"}, "") == {}
    infer(run, "u0001", ("k", "n0001", "a"), ("m", "n0001", "b"))
    run.unit_file("u0002").with_name(".u0002.json.partial").write_text("half of")
    run.unit_file("u0001").with_suffix(".lock").write_text("")
    assert outcomes_made(project, {"k"}, "")["k"][1]["image"] == "a"
    assert sorted(outcomes_made(project, {"k", "m"}, "")) == ["k", "m"]
