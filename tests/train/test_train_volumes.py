"""Volumes through a whole training: dataset, network, thresholds, scores, sweep, promotion."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.errors import ConfigError, InputError, NotFoundError  # noqa: E402
from opsef_bridge.files import read_json  # noqa: E402
from opsef_bridge.images import write_labels  # noqa: E402
from opsef_bridge.project import Project, read_csv  # noqa: E402
from opsef_bridge.sweep import plan_sweep, run_plan  # noqa: E402
from opsef_bridge.testing.learners import balls, discs  # noqa: E402
from opsef_bridge.train.dataset_make import Wish, make_dataset  # noqa: E402
from opsef_bridge.train.dataset_sources import collect, label_folders  # noqa: E402
from opsef_bridge.train.dataset_split import Shares  # noqa: E402
from opsef_bridge.train.foresight import foresee, unit_memory  # noqa: E402
from opsef_bridge.train.places import weights_of  # noqa: E402
from opsef_bridge.train.planning import RunWish, plan_grid, plan_run  # noqa: E402
from opsef_bridge.train.promote import candidates, promote  # noqa: E402
from tests.small_projects import Here  # noqa: E402
from tests.train.training_project import CONFIG, carry_out, write_train  # noqa: E402

TINY = {"batch": 1, "crop": [8, 16, 16], "rays": 8, "width": 8, "depth": 1, "features": 8,
        "rate": 0.02, "bfloat16": False}  # fmt: skip
SHAPE = (9, 26, 30)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(folder: Path, name: str, sample) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    image = (300 + 1000 * sample.image.clip(-0.3, 1.5)).astype(np.uint16)
    axes = "ZYX"[-image.ndim :]
    tifffile.imwrite(folder / "images" / f"{name}.tif", image, imagej=True, metadata={"axes": axes})
    write_labels(folder / "labels" / f"{name}.tif", sample.labels)


def project_of_volumes(folder: Path, planes: int = 0) -> Project:
    """A project whose dataset d0001 has four volumes and some planes."""
    project = Project(folder)
    (folder / "data").mkdir(parents=True)
    project.config_file.write_text(CONFIG)
    place = folder / "truth-files"
    for seed in range(4):
        write(place, f"v{seed}", balls(seed, shape=SHAPE, count=3))
    for seed in range(planes):
        write(place, f"p{seed}", discs(seed, side=40))
    found = collect(project, label_folders([place]), truth=False)
    make_dataset(project, found, Wish(shares=Shares(0.25, 0.25)))
    return project


@pytest.fixture
def project(tmp_path):
    return project_of_volumes(tmp_path / "p")


def wish(start: str = "random", **more) -> RunWish:
    how = {"settings": TINY, "every": 20, "train_images": 1, "cycles": {"steps": 40.0}} | more
    return RunWish("stardist", start=start, **how)


def test_volumes_become_a_candidate_that_is_judged_gone_on_from_and_promoted(project):
    plan = plan_run(project, wish())
    (one,) = plan.networks
    assert one.volumes, "there is nothing but volumes in the dataset"
    assert plan_run(project, wish(settings=TINY | {"volumes": True})).key == plan.key
    facts, memory = foresee(project, plan), unit_memory(plan)
    assert facts["seconds"] > 0 and all(value >= 1000 for value in memory.values())
    run = carry_out(project, plan)
    card = weights_of(run, one).card
    assert card["input"]["axes"] == "ZYX" and card["network"]["n_rays"] == 8
    assert card["input"]["anisotropy"][0] > 1.2, "measured: the balls are half as deep as wide"
    assert card["recipe"]["stages"][0]["steps"] == 40
    rows = read_csv(run.root / "tables" / "scores.csv")
    tests = {row["image"] for row in rows if row["split"] == "test"}
    assert len(tests) == 1 and not any("_z0" in name for name in tests), "volumes, no planes"
    labels = run.labels(one.id, tests.pop())
    assert labels.shape == SHAPE
    assert [network.candidate for _, network in candidates(project)] == [one.candidate]

    more = plan_run(project, wish(one.candidate, settings={"batch": 1, "crop": [8, 16, 16]},
                                  cycles={"steps": 2.0}, name="on"))  # fmt: skip
    assert [n.volumes for n in more.networks] == [True, True], "also the parent, as it is"
    on = carry_out(project, more)
    weights = weights_of(on, more.networks[1])
    assert weights.card["parent"]["name"] == one.candidate
    assert weights.card["input"] == card["input"]

    with pytest.raises(InputError, match="no other weights"):
        promote(project, one.candidate)
    done = promote(project, one.candidate, force=True)
    assert done.new and read_json(done.file.with_suffix(".json"))["input"]["axes"] == "ZYX"
    compared = promote(project, "on", force=True)
    assert compared.images == 1 and compared.parent == one.candidate

    shutil.copy(project.root / "truth-files" / "images" / "v1.tif", project.root / "data")
    deep = f"{{engine: stardist, weights: {one.candidate}}}"
    project.config_file.write_text(CONFIG.replace("{engine: watershed}", deep))
    swept = run_plan(project, plan_sweep(project), Here())
    assert (swept.ok + swept.empty, swept.failed) == (1, 0)
    assert project.labels(None, "v0001", project.images()[0].id).shape == SHAPE


def test_of_whom_it_is_a_network_for_volumes(project, tmp_path):
    flat = {"batch": 1, "crop": 32, "rays": 8, "width": 4, "depth": 1, "features": 8}
    assert not plan_run(project, wish(settings=flat | {"volumes": False})).networks[0].volumes
    assert not any(n.volumes for n in plan_run(project, wish("shipped", settings={})).networks)
    unet = RunWish("unet", start="random")
    assert not plan_run(project, unet).networks[0].volumes, "it has no network for volumes"
    with pytest.raises(NotFoundError, match=r"unet.* planes"):
        plan_run(project, RunWish("unet", start="random", settings={"volumes": True}))
    with pytest.raises(InputError, match="weights nuclei-stardist are of a network for planes"):
        plan_run(project, wish("shipped", settings={"volumes": True}))
    with pytest.raises(InputError, match="zaki draws regions of planes"):
        plan_run(project, wish(augmentation="zaki"))
    with pytest.raises(InputError, match=r"crop \[8, 16, 17\]"):
        plan_run(project, wish(settings=TINY | {"crop": [8, 16, 17]}))
    with pytest.raises(InputError, match="volumes is 'yes'"):
        plan_run(project, wish(settings=TINY | {"volumes": "yes"}))
    mixed = project_of_volumes(tmp_path / "mixed", planes=2)
    assert not plan_run(mixed, wish(settings=flat)).networks[0].volumes
    with pytest.raises(InputError, match=r"2 of the 6 images of d0001 are planes \(.*p0.*p1"):
        plan_run(mixed, wish(settings=TINY | {"volumes": True}))


def test_a_grid_is_of_volumes_or_of_planes(project):
    deep = "    deep: {engine: stardist, start: random, width: [4, 8]}\n"
    write_train(project, f"train:\n  networks:\n{deep}  steps: 2\n")
    networks = plan_grid(project).networks
    assert [(n.volumes, n.settings["width"]) for n in networks] == [(True, 4), (True, 8)]
    assert [n.axes()["network"] for n in networks] == ["deep width 4", "deep width 8"]
    assert "random, 2 steps, volumes, width 4" in networks[0].caption
    flat = "    flat: {engine: unet, start: random}\n"
    write_train(project, f"train:\n  networks:\n{deep}{flat}  steps: 2\n")
    with pytest.raises(InputError, match="deep is a network for volumes, flat one for planes"):
        plan_grid(project)
    both = deep.replace("start: random", "start: shipped, volumes: true")
    write_train(project, f"train:\n  networks:\n{both}  steps: 2\n")
    with pytest.raises(ConfigError, match=r"opsef.yaml.*nuclei-stardist are of a network for pl"):
        plan_grid(project)
