"""Snakemake's local executor gives what ours gives."""

from __future__ import annotations

import signal

import pytest

from opsef_bridge.sweep import resume_run, status

pytest.importorskip("snakemake")


def test_the_same_result_by_snakemake(bench, make_discs):
    """With blanks and braces in the path, and an image that fails."""
    images = {"a.tif": make_discs(1), "b.tif": make_discs(2)}
    models = {"classic": {"engine": "watershed", "threshold": ["otsu", 0.8]}}
    results = []
    for name, words in [("ours {ö}", ()), ("their s {ö} 'q'", ("--engine", "snakemake"))]:
        project = bench.project(images, name=name, models=models, sweep={"crop": 64})
        (project.root / "data" / "c.tif").write_bytes(b"II*\0broken")
        if words:
            code, out, err = bench.opsef(project, "sweep", "run", "--workers", "2", *words)
            assert (code, "2 failed" in out) == (1, True), out + err
        else:
            assert bench.sweep(project).failed == 2
        found = bench.result(project)
        for row in found["outcomes"]:
            row["message"] = row["message"].replace(str(project.root), "")
        results.append(found)
        assert bench.partials(project) == []
    assert results[0] == results[1]
    assert len(results[0]["labels"]) == 4


@pytest.mark.slow
def test_ctrl_c_ends_the_jobs_too(bench, make_discs, until):
    models = {"probe": {"engine": "probe", "threshold": [0.3, 0.6]}}
    images = {f"{k}.tif": make_discs(k) for k in range(8)}
    project = bench.project(images, models=models)
    bench.hold(1)
    process = bench.start(project, "sweep", "run", "--engine", "snakemake", "--workers", "1")
    until(lambda: project.runs() and project.run().outcomes() and bench.passes() == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "sweep resume" in err
    stopped = status(project.run())
    assert (stopped.ok, stopped.failed, bench.passes()) == (2, 0, 2)
    bench.release()
    result = resume_run(project, project.run(), bench.here)
    assert (result.ok, result.exit_code) == (16, 0)
    assert bench.passes() == 9  # the pass that was cut off is made again
