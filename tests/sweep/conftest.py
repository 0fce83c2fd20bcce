"""A bench for whole projects: made in a temporary folder, run, and compared."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from opsef_bridge.engines.registry import engine_class
from opsef_bridge.images import read_labels
from opsef_bridge.project import Project, read_csv
from opsef_bridge.sweep import Executor, Result, plan_sweep, run_plan
from tests.running import wait_until
from tests.small_projects import Here

PLUGINS = Path(__file__).parent / "plugins"
EXAMPLES = Path(__file__).parents[2] / "examples" / "data" / "images"
PROBE = {"probe": {"engine": "probe", "threshold": [0.4, 0.6]}}


class Bench:
    """Projects in a temporary folder."""

    examples = EXAMPLES
    here = Here()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "passes.txt"
        self.deadly = folder / "deadly"
        self.held = folder / "held"

    def project(
        self,
        files: dict[str, np.ndarray | Path] | None = None,
        *,
        name: str = "project",
        models: dict[str, Any] = PROBE,
        **sections: Any,
    ) -> Project:
        """Make a project of images by file name (arrays, or files to copy)."""
        root = self.folder / name
        files = {"a.tif": discs(1), "b.tif": discs(2)} if files is None else files
        (root / "data").mkdir(parents=True, exist_ok=True)
        for file, image in files.items():
            if isinstance(image, Path):
                shutil.copy(image, root / "data" / file)
            else:
                tifffile.imwrite(root / "data" / file, image)
        self.configure(root, models=models, **sections)
        return Project(root)

    @staticmethod
    def configure(root: Path, *, models: dict[str, Any] = PROBE, **sections: Any) -> None:
        """Write ``opsef.yaml``."""
        images = {"source": ["data/*"], **sections.pop("images", {})}
        settings = {"opsef": 1, "images": images, "models": models, **sections}
        (root / "opsef.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")

    @staticmethod
    def sweep(project: Project, executor: Executor | None = None) -> Result:
        """Plan and run, by default in this process."""
        return run_plan(project, plan_sweep(project), executor or Here())

    def passes(self) -> int:
        """How often `predict` of the probe was called, in whatever process."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def hold(self, passes: int) -> None:
        """Let the probe make so many passes; the next one waits for `release`."""
        self.held.write_text(str(passes))

    def release(self) -> None:
        """Let the passes that are held go on."""
        self.held.unlink()

    @staticmethod
    def outcomes(project: Project, run: str | None = None) -> dict[tuple[str, str], dict[str, Any]]:
        """Outcomes by the number of the image (``i00001``) and the id of the variant."""
        return {(o["image"][:6], o["variant"]): o for o in project.run(run).outcomes()}

    @staticmethod
    def labels(project: Project, run: str | None = None) -> dict[tuple[str, str], np.ndarray]:
        """Label images by image and slug of the variant."""
        folder = project.run(run)
        slugs = {v["id"]: v["slug"] for v in folder.plan()["variants"]}
        files = sorted((folder.root / "labels").glob("*/*.tif"))
        return {(file.stem, slugs[file.parent.name]): read_labels(file) for file in files}

    def result(self, project: Project, run: str | None = None) -> dict[str, Any]:
        """All that a run found, apart from what takes time."""
        folder = project.run(run)
        rows = [row | {"seconds": ""} for row in read_csv(folder.variants_file)]
        outcomes = [row | {"seconds": ""} for row in read_csv(folder.outcomes_file)]
        labels = {key: array.tolist() for key, array in self.labels(project, run).items()}
        files = {
            p.relative_to(folder.root).as_posix()
            for p in folder.root.rglob("*")
            if p.suffix in (".tif", ".zip", ".csv", ".html", ".done")
        }
        return {"variants": rows, "outcomes": outcomes, "labels": labels, "files": files}

    @staticmethod
    def partials(project: Project) -> list[Path]:
        """Half-written files."""
        return [p for p in project.root.rglob("*") if ".partial" in p.name]

    def start(self, project: Project, *words: str, **more: Any) -> subprocess.Popen[str]:
        """Start ``opsef -p PROJECT ...`` as a process group of its own."""
        command = [sys.executable, "-m", "opsef_bridge", "-p", str(project.root), *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder,
            start_new_session=True, **more,
        )  # fmt: skip

    def run_python(self, code: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python code with arguments."""
        return subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120,
            cwd=self.folder, check=False,
        )  # fmt: skip

    def opsef(self, project: Project, *words: str, **more: Any) -> tuple[int, str, str]:
        """Run ``opsef -p PROJECT ...``; return exit code, stdout and stderr."""
        process = self.start(project, *words, **more)
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode, out, err


def discs(seed: int, shape: tuple[int, int] = (72, 96), radius: int = 9) -> np.ndarray:
    """Return dim and bright discs that do not touch, on an even ground, as uint8."""
    rng = np.random.default_rng(seed)
    image = np.full(shape, 10, np.uint8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    step = 2 * radius + 4
    for top in range(0, shape[0] - step + 1, step):
        for left in range(0, shape[1] - step + 1, step):
            disc = (y - top - step / 2) ** 2 + (x - left - step / 2) ** 2 < radius**2
            image[disc] = rng.integers(100, 240)
    return image


@pytest.fixture(scope="session")
def make_discs() -> Callable[..., np.ndarray]:
    return discs


@pytest.fixture(scope="session")
def probe_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what an installed package ``probe-engine`` would leave there."""
    folder = tmp_path_factory.mktemp("site")
    metadata = folder / "probe_engine-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-engine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opsef_bridge.engines]\nprobe = probe_engine:Probe\nweighed = probe_engine:Weighed\n"
    )
    return folder


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers keep the modules that they compiled, so that they start fast."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture(scope="module")
def probe_on_path(probe_site: Path, bytecode: Path) -> Iterator[None]:
    """Install the engine ``probe``, for workers too, while a module of tests needs it."""
    paths = [str(probe_site), str(PLUGINS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, *paths])
        patch.setenv("PYTHONPATH", os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("PYTHONPYCACHEPREFIX", str(bytecode))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        engine_class.cache_clear()
        yield
    engine_class.cache_clear()


@pytest.fixture
def bench(tmp_path: Path, probe_on_path: None, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path)
    monkeypatch.setenv("PROBE_LOG", str(made.log))
    monkeypatch.setenv("PROBE_DEADLY", str(made.deadly))
    monkeypatch.setenv("PROBE_HELD", str(made.held))
    return made


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], Any]], Any]:
    """Return ``until(condition, timeout=60)``, which waits for it to become true."""
    return wait_until
