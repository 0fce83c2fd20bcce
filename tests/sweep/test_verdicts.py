"""Verdicts of people: written, read, taken over from a CSV, refused."""

from __future__ import annotations

import getpass
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opsef_bridge.errors import InputError, NotFoundError
from opsef_bridge.project import Project, read_csv, write_csv
from opsef_bridge.sweep import adopt, plan_batch, run_plan
from opsef_bridge.sweep.reporting import run_to_report
from opsef_bridge.sweep.verdicts import (
    COLUMNS,
    add_verdict,
    import_verdicts,
    read_verdicts,
    verdicts_file,
)
from tests.running import run_opsef
from tests.small_projects import Here, discs, swept


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return swept(tmp_path / "p", {"a.tif": discs(1), "b.tif": discs(2)})


def ids(project: Project) -> tuple[str, str]:
    first, second = (entry.id for entry in project.images())
    return first, second


def said(project: Project) -> list[tuple[str, str, str]]:
    return [(one.author, one.variant, one.verdict) for one in read_verdicts(project)]


def test_the_last_verdict_of_each_person_counts(project):
    a, b = ids(project)
    for author, image, verdict in [
        ("Ann", a, "good"), ("Bob", a, "missed"), ("Ann", a, "over"), ("Ann", b, "under"),
    ]:  # fmt: skip
        add_verdict(project, image, "v0001", verdict, author=author)
    found = {(one.author, one.image): one.verdict for one in read_verdicts(project, "run-0001")}
    assert found == {("Ann", a): "over", ("Bob", a): "missed", ("Ann", b): "under"}
    assert len(read_csv(verdicts_file(project))) == 4  # nothing is changed
    assert read_verdicts(project, "run-0002") == []
    add_verdict(project, a, "v0001", "none", author="Ann")
    assert ("Ann", a) not in {(one.author, one.image) for one in read_verdicts(project)}


def test_slugs_are_ids_and_a_request_counts_once(project):
    slug = project.run().plan()["variants"][1]["slug"]
    a, _ = ids(project)
    for _ in range(2):
        one = add_verdict(project, a, slug, "good", author="Ann", request="q-1")
    assert (one.variant, one.run) == ("v0002", "run-0001")
    assert [row["request"] for row in read_csv(verdicts_file(project))] == ["q-1"]


def test_what_a_person_added_to_the_file_stays(project):
    a, b = ids(project)
    row = dict(zip(COLUMNS, ["1", "Ann", a, "run-0001", "v0001", "good", "q"], strict=True))
    write_csv(verdicts_file(project), [row | {"why": "at noon"}], [*COLUMNS, "why"])
    add_verdict(project, b, "v0001", "over", author="Bob")
    rows = read_csv(verdicts_file(project))
    assert [row["why"] for row in rows] == ["at noon", ""]


def test_many_at_once_are_all_there(project):
    a, _ = ids(project)
    with ThreadPoolExecutor(8) as pool:
        tasks = [
            pool.submit(add_verdict, project, a, "v0001", "good", author=f"p{n}") for n in range(24)
        ]
        for task in tasks:
            task.result(timeout=60)
    assert len(read_verdicts(project)) == 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "i00009-x"}, "i00009-x"),
        ({"variant": "v0099"}, "v0099"),
        ({"run": "run-0009"}, "run-0009"),
        ({"verdict": "fine"}, "'fine' is no verdict"),
        ({"verdict": ""}, "'' is no verdict"),
    ],
)
def test_what_there_is_not_is_refused(project, change, message):
    a, _ = ids(project)
    row = {"image": a, "run": "run-0001", "variant": "v0001", "verdict": "good"} | change
    with pytest.raises((InputError, NotFoundError), match=message):
        add_verdict(
            project, row["image"], row["variant"], row["verdict"], run=row["run"], author="Ann"
        )
    good = row | {"image": a, "run": "run-0001", "variant": "v0001", "verdict": "good"}
    file = project.root / "verdicts.csv"
    write_csv(file, [good, row], list(row))
    with pytest.raises(InputError, match=f"line 3: .*{message}"):
        import_verdicts(project, file, author="Ann")
    assert not verdicts_file(project).exists()  # the good line neither


def test_an_image_that_the_run_did_not_see_is_refused(project):
    (project.root / "data" / "c.tif").write_bytes((project.root / "data" / "a.tif").read_bytes())
    from opsef_bridge.sweep import plan_sweep

    plan_sweep(project)  # imports it
    with pytest.raises(NotFoundError, match="run-0001 has no image"):
        add_verdict(project, project.images()[2].id, "v0001", "good")


def test_a_file_is_taken_over_once_and_by_its_times(project):
    a, b = ids(project)
    file = project.root / "exported.csv"
    row = {"image": a, "run": "run-0001", "variant": "v0001"}
    write_csv(
        file,
        [
            row | {"verdict": "good", "at": "2021-05-04T12:30:59.123Z"},
            row | {"verdict": "over", "at": "2021-05-04T14:31:00+02:00", "author": "Bob"},
            row | {"verdict": "under", "at": "2001-01-01T00:00:00Z", "variant": "v0002"},
            row | {"verdict": "missed", "image": b},
        ],
        ["at", "image", "run", "variant", "verdict", "author"],
    )
    now = add_verdict(project, a, "v0002", "good", author="Ann")
    assert len(import_verdicts(project, file, author="Ann")) == 4
    assert import_verdicts(project, file, author="Ann") == []
    # What Ann said this year is not undone by what she said in 2001.
    assert sorted(said(project)) == [
        ("Ann", "v0001", "good"), ("Ann", "v0001", "missed"), ("Ann", "v0002", "good"),
        ("Bob", "v0001", "over"),
    ]  # fmt: skip
    times = {one.author: one.at for one in read_verdicts(project) if one.image == a}
    assert times["Bob"] == "2021-05-04T12:31:00+00:00"
    assert times["Bob"] < now.at


def test_what_a_clock_ahead_said_does_not_win_for_ever(project):
    a, _ = ids(project)
    file = project.root / "exported.csv"
    row = {"image": a, "run": "run-0001", "variant": "v0001", "verdict": "good"}
    write_csv(file, [row | {"at": "2999-01-01T00:00:00Z"}], ["at", *row])
    [one] = import_verdicts(project, file, author="Ann")
    assert one.at < "2999"
    add_verdict(project, a, "v0001", "over", author="Ann")
    assert said(project) == [("Ann", "v0001", "over")]
    assert import_verdicts(project, file, author="Ann") == []


@pytest.mark.parametrize("name", ["", "   ", "\t\n"])
def test_verdicts_without_a_name_are_those_of_the_user(project, name):
    a, b = ids(project)
    assert add_verdict(project, a, "v0001", "good", author=name).author == getpass.getuser()
    file = project.root / "e.csv"
    file.write_text(f"image,run,variant,verdict\n{b},run-0001,v0002,good\n", "utf-8")
    assert import_verdicts(project, file, author=name)[0].author == getpass.getuser()
    assert add_verdict(project, a, "v0001", "good", author=" Ann ").author == "Ann"


def test_a_batch_has_no_report(project, monkeypatch, capfd):
    def report(*words: str) -> tuple[int, str, str]:
        return run_opsef(monkeypatch, capfd, "-p", project.root, "report", "--no-browser", *words)

    adopt(project, "v0001")
    assert run_plan(project, plan_batch(project), Here()).failed == 0
    assert project.runs() == ["run-0001", "run-0002"]
    code, out, _ = report()
    assert code == 0 and out.strip().endswith("/run-0001/report.html")
    code, _, error = report("run-0002")
    assert code == 2 and "run-0002 is a batch, and a batch has no report" in error
    assert "opsef report run-0001" in error
    code, _, error = report("run-0009")
    assert code == 2 and "there is no run 'run-0009'" in error
    project.run("run-0001").report_file.unlink()
    code, _, error = report()
    assert code == 2 and "run-0001 has no report yet" in error and "resume run-0001" in error


def test_there_may_be_no_run_with_a_report():
    with pytest.raises(NotFoundError, match="no run with a report yet"):
        run_to_report({})
    with pytest.raises(NotFoundError, match="no run with a report yet"):
        run_to_report({"run-0001": "batch"})
    purposes = {"run-0001": "sweep", "run-0002": "refine", "run-0003": "batch"}
    assert run_to_report(purposes) == "run-0002"
    assert run_to_report(purposes, "run-0001") == "run-0001"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no verdicts"),
        ("image,run,variant,verdict\n", "holds no verdicts"),
        ("image,run\na,b\n", "has no column variant, verdict"),
        ("image;run;variant;verdict;at\nIMAGE;run-0001;v0001;good;noon\n", "line 2: 'noon' is no"),
    ],
)
def test_a_file_that_is_no_export(project, text, message):
    file = project.root / "x.csv"
    file.write_text(text.replace("IMAGE", ids(project)[0]), "utf-8")
    with pytest.raises(InputError, match=message):
        import_verdicts(project, file)


def test_commands(project, monkeypatch, capfd):
    a, b = ids(project)

    def run(*words: str) -> tuple[int, str, str]:
        return run_opsef(monkeypatch, capfd, "-p", project.root, "verdicts", *words)

    assert "no verdicts yet" in run("list")[1]
    assert run("add", a, "v0001", "over", "--author", "Ann")[0] == 0
    file = project.root / "e.csv"
    file.write_text(f"image,run,variant,verdict\n{b},run-0001,v0002,good\n", "utf-8")
    assert run("import", file, "--author", "Bob")[1].startswith("1 new verdict ")
    code, out, _ = run("list", "--run", "run-0001", "--json")
    assert code == 0 and [(one["author"], one["verdict"]) for one in json.loads(out)] == [
        ("Ann", "over"), ("Bob", "good"),
    ]  # fmt: skip
    assert "over" in run("list")[1]
    code, _, error = run("add", a, "v0001", "fine")
    assert code == 2 and "'fine' is no verdict" in error and "missed" in error
    assert run("import", project.root / "none.csv")[0] == 2
    assert run("list", "--run", "run-0007")[0] == 2
