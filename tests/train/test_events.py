"""Event files for TensorBoard, read by TensorBoard: they join after a kill, without doubles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from opsef_bridge.errors import WorkerError  # noqa: E402
from opsef_bridge.testing.learners import discs  # noqa: E402
from opsef_bridge.train import events  # noqa: E402
from opsef_bridge.train.curves import COLUMNS, read_curves  # noqa: E402
from opsef_bridge.train.kinds import run_unit  # noqa: E402
from opsef_bridge.train.loop import Settings, UNetLearner  # noqa: E402
from opsef_bridge.train.networks import TrainPlan  # noqa: E402
from opsef_bridge.train.places import network_folder  # noqa: E402
from opsef_bridge.train.planning import RunWish, plan_grid, plan_run  # noqa: E402
from opsef_bridge.train.running import open_training  # noqa: E402
from opsef_bridge.train.training import train  # noqa: E402
from tests.train.training_project import dataset_project, write_train  # noqa: E402

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason="the package tensorboard is not installed"
)

SMALL = Settings(steps=7, batch=1, crop=16, width=2, depth=1, warm_up=1, bfloat16=False)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


READ = """
import json, sys, types
sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")  # without TensorFlow: quick
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = {}
for folder in sys.argv[1:]:
    board = EventAccumulator(folder).Reload()
    found[folder] = {
        tag: [(e.step, e.value, e.wall_time) for e in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
    }
print(json.dumps(found))
"""


def board(*folders):
    """Return what TensorBoard shows of folders: by tag steps, values and seconds."""
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, folders)], capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout).values())


def same_as(shown, rows) -> bool:
    """Whether TensorBoard shows these rows, each once and in order."""
    first = rows[0]["seconds"]
    for tag in events.TAGS:
        told = [row for row in rows if row[tag] is not None]
        steps, values, times = zip(*shown[tag], strict=True) if told else ((), (), ())
        assert list(steps) == [row["step"] for row in told]
        assert list(values) == pytest.approx([row[tag] for row in told])
        start = shown["loss"][0][2]
        assert [t - start for t in times] == pytest.approx(
            [row["seconds"] - first for row in told], abs=0.5
        )
    return True


def rows_of(*steps: int):
    """Rows, a second for each step, with a validation loss at even steps."""
    return [
        dict(zip(COLUMNS, (n, 1 / n, 2 / n if n % 2 == 0 else None, 0.1, float(n)), strict=True))
        for n in steps
    ]


@needs_tensorboard
def test_what_was_lost_and_done_again_stands_there_once(tmp_path):
    kept = rows_of(1, 2)
    first = events.EventFile([], tmp_path)
    first.add(kept)
    first.add(rows_of(3, 4))
    first.file.write_bytes(first.file.read_bytes()[:-7])  # killed while it wrote
    again = events.EventFile(kept, tmp_path)
    again.add(rows_of(3))
    again.add(rows_of(4))
    assert list(tmp_path.iterdir()) == [again.file]
    assert again.file.name > first.file.name
    (shown,) = board(tmp_path)
    assert same_as(shown, rows_of(1, 2, 3, 4))


@needs_tensorboard
def test_a_board_that_looks_on_forgets_what_is_done_again(tmp_path):
    first = events.EventFile(rows_of(1, 2, 3), tmp_path).file
    before = first.read_bytes()
    events.EventFile(rows_of(1, 2), tmp_path)
    first.write_bytes(before)  # as if it had been read already
    (shown,) = board(tmp_path)
    assert [step for step, *_ in shown["loss"]] == [1, 2]


@needs_tensorboard
def test_a_training_that_was_stopped_joins_its_curves(tmp_path):
    def kill(step, loss):
        if step in stops:
            stops.remove(step)
            raise KeyboardInterrupt

    stops = [1, 3, 6]
    how = {"val": [discs(2)], "every": 2, "tensorboard": True, "report": kill}
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(UNetLearner(), [discs(1)], SMALL, tmp_path, **how)
    train(UNetLearner(), [discs(1)], SMALL, tmp_path, **how)
    (file,) = tmp_path.glob(events.FILES)
    assert os.uname().nodename not in file.name
    (shown,) = board(tmp_path)
    assert same_as(shown, read_curves(tmp_path / "curves.csv"))
    assert len(shown["loss"]) == SMALL.steps


def trained(project, plan):
    """Carry out the units of a plan in which networks are trained."""
    run = open_training(project, plan)
    for unit in run.plan()["units"]:
        if unit["kind"] in ("train-dataset", "train"):
            run_unit(str(project.root), run.id, unit["id"], lambda *told: None)
    return run


CONFIG = """\
train:
  networks: {unet: {engine: unet, batch: 2, crop: 64, width: 8, depth: 2, bfloat16: false}}
  order: [joint, sequential]
  steps: 3
  every: 2
"""


@needs_tensorboard
def test_the_plan_says_whether_files_are_written(tmp_path):
    project = dataset_project(tmp_path / "p")
    write_train(project, CONFIG)
    plain = plan_grid(project)
    run = trained(project, plain)
    assert not list(run.root.rglob(events.FILES))
    write_train(project, CONFIG + "  tensorboard: true\n")
    plan = plan_grid(project)
    assert plan.key == plain.key and plan.tensorboard
    assert open_training(project, plan).id == run.id and run.plan()["tensorboard"] is True
    # A larger grid takes networks over and tells of them, too.
    write_train(project, CONFIG + "  tensorboard: true\n  seed: [0, 1]\n")
    larger = plan_grid(project)
    run = trained(project, larger)
    folders = [network_folder(run, one.id) for one in larger.networks]
    assert len(folders) == 4
    places = sorted({file.parent for folder in folders for file in folder.rglob("curves.csv")})
    assert len(places) == 2 + 2 * 2
    for shown, place in zip(board(*places), places, strict=True):
        assert len(list(place.glob(events.FILES))) == 1
        assert same_as(shown, read_curves(place / "curves.csv"))


@needs_tensorboard
def test_tensorflow_stays_out(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from opsef_bridge.train import events\n"
        "rows = [{'step': 1, 'loss': 1.0, 'val_loss': None, 'rate': 0.1, 'seconds': 1.0}]\n"
        "events.EventFile(rows, pathlib.Path(sys.argv[1])).add(rows)\n"
        "assert 'tensorboard' in sys.modules\n"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_without_the_package_it_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    project = dataset_project(tmp_path / "p")
    monkeypatch.setattr(events, "find_spec", lambda name: None)
    with pytest.raises(WorkerError, match="not installed") as told:
        plan_run(project, RunWish("unet", start="random", tensorboard=True))
    assert "pip install tensorboard" in told.value.hint
    write_train(project, "train:\n  networks: {u: {engine: unet}}\n  tensorboard: true\n")
    with pytest.raises(WorkerError, match="tensorboard"):
        plan_grid(project)
    with pytest.raises(WorkerError, match="tensorboard"):
        events.EventFile([], tmp_path)
    assert not list(tmp_path.glob("events*")) and not project.trainings_folder.exists()


def test_plans_of_before_have_no_event_files():
    plan = TrainPlan.from_json({"key": "k", "purpose": "grid", "networks": [], "device": "cpu"})
    assert plan.tensorboard is False
