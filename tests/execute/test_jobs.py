"""Units grouped into jobs, the Snakefile of them, profiles by name, and words for failures."""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.errors import ConfigError, NotFoundError, WorkerError
from opsef_bridge.execute import ClusterJob, Unit, find_profile, group_units, run_snakemake, slurm
from opsef_bridge.execute.jobs import MOST
from opsef_bridge.execute.leash import until_marked
from opsef_bridge.execute.profiles import read_profile, shipped_profiles
from opsef_bridge.execute.snakefile import TRIES, snakefile
from opsef_bridge.execute.snakemake import _problems, _slurm_options
from opsef_bridge.project import Project, Run

MAKES = (("i", "v", "k"),)


def sweep_of(count: int) -> list[Unit]:
    """Units that make labels, then ranking, stacks and report."""
    made = [Unit(f"u{k:04d}", "predict", "probe", makes=MAKES) for k in range(count)]
    rank = Unit("r", "rank", "rank", needs=tuple(unit.id for unit in made))
    stacks = [Unit(f"c{k}", "compare", "compare", needs=("r",)) for k in range(2)]
    report = Unit("z", "report", "report", needs=("r", "c0", "c1"))
    return [*made, rank, *stacks, report]


def test_a_small_sweep_is_one_job():
    (job,) = group_units(sweep_of(4), slots=100, seconds=lambda unit: 2.0)
    assert job.units == tuple(unit.id for unit in sweep_of(4))
    assert (job.needs, job.threads, job.seconds) == ((), 1, 16.0)


def test_a_large_one_has_jobs_of_minutes_and_one_behind_them():
    jobs = group_units(sweep_of(200), slots=2, seconds=lambda unit: 2.0 if unit.makes else None)
    assert [len(job.units) for job in jobs] == [100, 100, 4]
    assert jobs[2].needs == ("cpu-0001", "cpu-0002")


@pytest.mark.parametrize(
    ("minutes", "slots", "jobs"),
    [(19, 2, 2), (21, 2, 4), (41, 2, 6), (1.5, 2, 1), (3, 100, 3), (999, 100, 100)],
)
def test_a_level_is_cut_into_whole_rounds_of_jobs(minutes, slots, jobs):
    units = sweep_of(600)[:600]
    made = group_units(units, slots=slots, seconds=lambda unit: minutes * 60 / 600)
    assert len(made) == jobs
    assert sum(len(job.units) for job in made) == 600


def test_waiting_ends_with_the_mark_of_a_job_not_with_the_time(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "cpu-0001.ok").touch()
    mark = threading.Timer(0.2, (tmp_path / "jobs" / "cpu-0002.ok").touch)

    async def wait() -> None:
        waiting = asyncio.create_task(until_marked(tmp_path, 3600))
        mark.start()
        await asyncio.wait_for(waiting, 60)

    asyncio.run(wait())
    asyncio.run(asyncio.wait_for(until_marked(tmp_path, 0), 60))


@given(
    costs=st.lists(st.floats(0, 1000), min_size=1, max_size=20),
    slots=st.integers(1, 20),
    data=st.data(),
)
def test_every_open_unit_is_in_one_job_behind_what_it_needs(costs, slots, data):
    units = []
    for k in range(len(costs)):
        earlier = st.lists(st.integers(0, k - 1), max_size=3, unique=True) if k else st.just([])
        needs = [f"u{n}" for n in data.draw(earlier)]
        wanted = {"gpu": 1} if data.draw(st.booleans()) else {}
        units.append(Unit(f"u{k}", "k", "t", needs=tuple(needs), resources=wanted))
    done = {unit.id for unit in units[: data.draw(st.integers(0, len(units)))]}
    cost = dict(zip((unit.id for unit in units), costs, strict=True))
    jobs = group_units(units, done=done, slots=slots, seconds=lambda unit: cost[unit.id])
    placed = [unit for job in jobs for unit in job.units]
    assert sorted(placed) == sorted(unit.id for unit in units if unit.id not in done)
    ended: set[str] = set(done)
    names: set[str] = set()
    by_id = {unit.id: unit for unit in units}
    for job in jobs:
        assert set(job.needs) <= names
        before = set(done).union(*(one.units for one in jobs if one.name in job.needs))
        for unit in job.units:
            assert set(by_id[unit].needs) <= ended
            assert job.name.startswith("gpu" if by_id[unit].resources else "cpu")
            inside = set(job.units[: job.units.index(unit)])
            assert set(by_id[unit].needs) <= before | inside
            ended.add(unit)
        names.add(job.name)
        assert len(job.units) == 1 or sum(cost[u] for u in job.units) <= 2 * MOST + max(costs)


def run_rule(text: str, job: str, attempt: int) -> dict[str, object]:
    """Evaluate the head of a Snakefile, and what its functions say of a job."""
    known: dict[str, object] = {}
    exec(text.split("\nrule all:")[0], known)
    where, number = job.split("-")
    wildcards = SimpleNamespace(number=number)
    return {
        "needs": known["needs"](where, wildcards),
        "command": known["command"](where, wildcards, attempt),
        "mem_mb": known["asked"](where, wildcards, "mem_mb", attempt),
        "minutes": known["asked"](where, wildcards, "minutes", attempt),
    }


def test_a_snakefile_knows_needs_quotes_and_what_a_retry_gets():
    jobs = [
        ClusterJob("cpu-0001", ("u0001", "u0002"), seconds=600),
        ClusterJob("gpu-0002", ("u0003",), needs=("cpu-0001",), mem_mb=500),
    ]
    text = snakefile("/a b/{c}/it's", "run-0001", jobs)
    first = run_rule(text, "cpu-0001", 1)
    words = shlex.split(first["command"])
    assert words[words.index("-p") + 1] == "/a b/{c}/it's"
    assert words[words.index("unit") : words.index("||")] == [
        "unit", "run", "u0001", "u0002", "--run", "run-0001", "--tried-again",
    ]  # fmt: skip
    assert (first["needs"], first["mem_mb"], first["minutes"]) == ([], 4000, 30)
    last = run_rule(text, "gpu-0002", TRIES)
    assert (last["needs"], last["mem_mb"], last["minutes"]) == (["jobs/cpu-0001.ok"], 1500, 30)
    assert "--tried-again" not in last["command"]


@pytest.mark.parametrize(("done", "code"), [((1, 2), 0), ((1,), 1), ((), 1)])
def test_a_job_has_failed_if_a_unit_is_not_done(tmp_path, done, code):
    text = snakefile("p", "r", [ClusterJob("cpu-0001", ("u1", "u2"))])
    command = run_rule(text, "cpu-0001", 1)["command"]
    (tmp_path / "units").mkdir()
    for number in done:
        (tmp_path / f"units/u{number}.done").touch()
    shell = "false" + command[command.index(" ||") :]
    assert subprocess.run(["bash", "-c", shell], cwd=tmp_path, check=False).returncode == code


def test_profiles_have_names_and_may_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert shipped_profiles() == ["local", "slurm-cpu", "slurm-gpu"]
    for name in shipped_profiles():
        assert read_profile(find_profile(Path(name)))["executor"] == name.partition("-")[0]
    mine = tmp_path / "snakemake" / "slurm-cpu"
    mine.mkdir(parents=True)
    (mine / "config.yaml").write_text("jobs: 7\nlatency_wait: 3\n")
    assert find_profile("slurm-cpu") == mine / "config.yaml"
    assert read_profile(mine / "config.yaml") == {"jobs": 7, "latency-wait": 3}
    assert find_profile(mine) == find_profile(mine / "config.yaml")
    for wrong in ("nowhere", tmp_path, "a/slurm-cpu"):
        with pytest.raises(NotFoundError, match="slurm-gpu"):
            find_profile(wrong)
    for text in ("[", "- a\n", "just words"):
        (mine / "config.yaml").write_text(text)
        with pytest.raises(ConfigError):
            read_profile(mine / "config.yaml")


def test_without_sbatch_it_says_so_before_anything_starts(tmp_path, monkeypatch):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    run = Project(tmp_path).new_run()
    with pytest.raises(WorkerError, match="no command sbatch"):
        run_snakemake(str(tmp_path), run, sweep_of(1), profile="slurm-cpu")
    assert not run.snakefile.exists()


SAID = """\
    SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: gpu7
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    sbatch call:
"""


def test_problems_are_told_in_words_of_their_cause(tmp_path):
    run = Run(tmp_path / "run-0001")
    jobs = [
        ClusterJob("cpu-0001", ("u1", "u2")),
        ClusterJob("cpu-0002", ("u3",), needs=("cpu-0001",)),
    ]
    refused = _problems(run, jobs, SAID, tmp_path / "log")
    assert "invalid partition specified: gpu7" in str(refused["u1"])
    assert "needs cpu-0001, which failed" in str(refused["u3"])
    killed = _problems(run, jobs, "SLURM status is: 'OUT_OF_MEMORY'.", tmp_path / "log")
    assert "OUT_OF_MEMORY" in str(killed["u2"])
    run.log_file("cpu-0001").parent.mkdir(parents=True)
    run.log_file("cpu-0001").write_text("noise\nopsef: the weights are gone (Get them)\n")
    own = _problems(run, jobs, "something", tmp_path / "log")
    assert "the weights are gone" in str(own["u1"])
    run.done_file("u1").parent.mkdir()
    for unit in ("u1", "u2", "u3"):
        run.done_file(unit).touch()
    assert _problems(run, jobs, SAID, tmp_path / "log") == {}


LOCKED_UP = """
import sys, time
from pathlib import Path
from opsef_bridge.execute import leash
Path(sys.argv[1]).write_text("up")
import snakemake.cli
snakemake.cli.main = lambda words: time.sleep(600)
leash.main()
"""


def test_snakemake_ends_with_the_process_that_started_it(tmp_path):
    pytest.importorskip("snakemake")
    child = subprocess.Popen(
        [sys.executable, "-c", LOCKED_UP, str(tmp_path / "up")],
        stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert child.stdin is not None
    end = time.monotonic() + 60
    while not (tmp_path / "up").exists():
        assert time.monotonic() < end and child.poll() is None
        time.sleep(0.01)
    assert child.poll() is None
    child.stdin.close()  # as the system does when the parent is gone
    assert child.wait(60) == -signal.SIGKILL


def test_sbatch_options_where_sacct_is_off(tmp_path, monkeypatch):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    run = Project(tmp_path).new_run()
    kind = "accounting_storage/none"
    monkeypatch.setattr(slurm, "check_slurm", lambda: None)
    monkeypatch.setattr(slurm, "_ask", lambda *words: f"AccountingStorageType   = {kind}\n")
    prefix = ["--slurm-jobname-prefix", slurm.job_prefix(run.root)]
    without = ["--slurm-no-account", "--slurm-status-command", "squeue"]
    assert _slurm_options(run, {}) == prefix + without
    named = {"slurm-no-account": True, "slurm-status-command": "sacct"}
    assert _slurm_options(run, named) == prefix
    kind = "accounting_storage/slurmdbd"
    assert _slurm_options(run, {}) == prefix


def test_only_the_jobs_of_the_run_are_its_own(tmp_path, monkeypatch):
    run = Project(tmp_path).new_run().root
    mine, other = slurm.job_prefix(run), slurm.job_prefix(run.with_name("run-0002"))
    lines = [f"7|RUNNING|{mine}_1", f"8|PENDING|{mine}_1", f"9|PENDING|{other}_1"]
    cancelled = []

    def ask(*words: str) -> str:
        if words[0] == "scancel":
            cancelled.extend(words[1:])
            return ""
        return "\n".join(lines)

    monkeypatch.setattr(slurm, "_ask", ask)
    monkeypatch.setattr(slurm.shutil, "which", lambda name: name)
    assert slurm.jobs_of(run) == {"7": "RUNNING", "8": "PENDING"}
    assert (slurm.cancel_jobs(run, only_waiting=True), cancelled) == (1, ["8"])
    assert slurm.cancel_jobs(run) == 2
