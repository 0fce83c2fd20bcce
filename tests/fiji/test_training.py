"""Train From Corrections: in Jython, and in a real ImageJ window against the real service."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from opsef_bridge.engines import list_weights
from opsef_bridge.project import Project
from opsef_bridge.service.forms import checked, read_request
from opsef_bridge.service.trained import TRAINABLE
from tests.train.corrected_project import make_corrected

from .conftest import LIBRARY
from .test_imagej import LIMIT, Service, app, service, talk
from .test_library import names_of, passed

__all__ = ["app", "service"]  # fixtures

HERE = Path(__file__).parent
CHECKS = "training_checks.jy"


@pytest.fixture(scope="module")
def training_checks(checks: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    folder = tmp_path_factory.mktemp("training") / "demo"
    folder.mkdir()
    (folder / "opsef.yaml").write_text("opsef: 1\n")
    done = checks(CHECKS, OPSEF_PROJECT=str(folder))
    # What was written into the inbox is what the service understands.
    project = Project(folder)
    found = [read_request(project, file.stem)[0] for file in folder.glob("inbox/*.json")]
    assert Counter(one.kind for one in found) == {"train": 2, "promote": 2}
    assert all(checked(one) for one in found)
    return done


@pytest.mark.parametrize("name", names_of(CHECKS))
def test_training(training_checks: dict[str, str | None], name: str) -> None:
    passed(training_checks, name)


def test_weights_that_are_offered_without_a_service_are_all_that_come_along() -> None:
    text = (LIBRARY / "opsef_fiji" / "training.py").read_text()
    names = ast.literal_eval(text[text.index("SHIPPED = ") + 10 : text.index("MINUTES = ")])
    assert sorted(names) == [one.name for one in list_weights() if one.engine in TRAINABLE]


def test_training_in_the_window(
    display: str, app: Path, classes: Path, service: Service, tmp_path: Path
) -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    project = make_corrected(service.root / "cells")
    make_corrected(service.root / "few", 2, 1)
    pictures = Path(os.environ.get("OPSEF_SCREENSHOTS") or tmp_path / "pictures")
    file, _ = service.invite("Ada", tmp_path)
    told = {"app": str(app), "classes": str(classes), "pictures": str(pictures),
            "invitation": str(file)}  # fmt: skip
    command = [sys.executable, str(HERE / "loop_training.py"), json.dumps(told)]
    code, said, output = talk(command, {}, LIMIT)
    assert code == 0 and "PASSED" in said, output[-6000:]
    assert project.trainings() == ["train-0001"]
    [weights] = [one for one in list_weights([project.models_folder]) if one.name == "better"]
    assert weights.card["promotion"]["parent"]["name"] == "nuclei-unet"
