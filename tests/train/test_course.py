"""What a training is taken up from: one checkpoint, and curves that agree with it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from opsef_bridge.errors import InputError  # noqa: E402
from opsef_bridge.train.course import CHECKPOINT, Course  # noqa: E402
from opsef_bridge.train.curves import read_curves  # noqa: E402


class Counting:
    """A training whose weights count its steps."""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)
        self.step = 0

    def state(self):
        return {"step": self.step}

    def restore(self, state):
        self.step = state["step"]

    def advance(self, steps: int) -> None:
        self.step += steps
        torch.nn.init.constant_(self.network.weight, self.step)


def go_on(course: Course, training: Counting, *val_losses: float | None) -> None:
    """Take two steps for every loss, and a checkpoint."""
    for value in val_losses:
        training.advance(2)
        course.add(1 / training.step, 0.1)
        course.judge(value)
        course.write()


def test_a_course_is_taken_up_where_its_last_checkpoint_is(tmp_path):
    first = Counting()
    course = Course(tmp_path, "key", first)
    go_on(course, first, 3.0, 1.0, 2.0)
    first.advance(2)
    course.add(0.0, 0.1)  # of steps that are lost: there is no checkpoint after them
    again = Counting()
    found = Course(tmp_path, "key", again)
    assert again.step == 6
    assert [row["step"] for row in found.rows] == [2, 4, 6]
    assert (found.best["step"], found.best["val_loss"]) == (4, 1.0)
    assert found.best["network"]["weight"].item() == 4
    assert found.rows == course.rows[:3]
    assert found.seconds >= course.rows[2]["seconds"] - 0.001  # rows are rounded


def test_patience_goes_on_counting(tmp_path):
    training = Counting()
    go_on(Course(tmp_path, "key", training), training, 1.0, 2.0)
    again = Counting()
    course = Course(tmp_path, "key", again)
    assert course.ended(1) and not course.ended(2) and not course.ended(None)
    go_on(course, again, 3.0)
    assert course.ended(2)


def test_without_validation_the_last_weights_are_kept(tmp_path):
    training = Counting()
    course = Course(tmp_path, "key", training)
    go_on(course, training, None, None)
    assert course.best["step"] == 4


def test_curves_that_were_not_written_any_more_come_from_the_checkpoint(tmp_path):
    training = Counting()
    course = Course(tmp_path, "key", training)
    go_on(course, training, 2.0)
    old = (tmp_path / "curves.csv").read_bytes()
    go_on(course, training, 1.0)
    (tmp_path / "curves.csv").write_bytes(old)  # killed between the two files
    Course(tmp_path, "key", Counting())
    assert [row["step"] for row in read_curves(tmp_path / "curves.csv")] == [2, 4]


def test_another_key_is_refused_and_nothing_is_changed(tmp_path):
    training = Counting()
    go_on(Course(tmp_path, "key", training), training, 2.0)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    other = Counting()
    with pytest.raises(InputError, match="other images, settings or first weights"):
        Course(tmp_path, "another", other)
    assert other.step == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_is_not_finished_is_no_checkpoint(tmp_path):
    (tmp_path / f".{CHECKPOINT}.partial").write_bytes(b"half")
    assert Course(tmp_path, "key", Counting()).rows == []
    assert not (tmp_path / "curves.csv").exists()


@pytest.mark.parametrize(
    "content", [7, {}, {"key": "key"}, {"key": "key", "training": {"steps": 3}}]
)
def test_a_checkpoint_of_another_version_is_told(tmp_path, content):
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match="cannot be read") as raised:
        Course(tmp_path, "key", Counting())
    assert "Delete it" in raised.value.hint
