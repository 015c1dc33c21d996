"""Solvers on a leaderboard: measured by the command, checked, shown beside the models, never ranked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pdebench_fm.cli.leaderboard import solvers as command
from pdebench_fm.errors import RecordError
from pdebench_fm.hookspecs import SolverEntry, SuiteEntry
from pdebench_fm.leaderboard import Rules, build, check
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.lines import read
from pdebench_fm.leaderboard.page import make_rows
from pdebench_fm.leaderboard.solvers import solver_problems, solvers_of, write_solvers
from pdebench_fm.leaderboard.standing import group
from pdebench_fm.leaderboard.store import write
from pdebench_fm.records.solver import SolverRecord
from pdebench_fm.registry.discovery import Registry
from tests.support.installed import with_toy
from tests.support.records import make_record, make_solver, make_suite
from tests.support.toy import toy_suite


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    found = with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(tmp_path_factory.mktemp("toy")), ""))
    return found.with_entry("solvers", SolverEntry("broken", "1", "no_such_module:Solver", ""))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Path:
    """A board with the spectral solver on three grids; 16 points a side have none that is 8 times coarser."""
    board = tmp_path_factory.mktemp("board")
    names = ("spectral", "spectral-2", "spectral-4", "spectral-8")
    words = ["toy", "--directory", str(board), "--examples", "6"]
    for name in names:
        words += ["--solver", name]
    result = CliRunner().invoke(command, words, obj=registry)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("left out: spectral-8 on ") == 2
    return board


def test_the_command_measures_every_task_and_measures_again(measured: Path, registry: Registry) -> None:
    found = [record for _, record in read(measured / "solvers", SolverRecord)]
    assert [(r.task, r.solver) for r in found] == [
        (task, solver)
        for task in ("B from poisson", "C from mixed")
        for solver in ("spectral", "spectral-2", "spectral-4")
    ]
    exact, half, quarter = found[:3]
    assert exact.error == 0 < half.error < quarter.error < 1
    assert {(r.test_examples, r.inference_batch) for r in found} == {(6, 6)}
    assert all(r.inference_device.endswith("threads: 1") for r in found)
    assert list(solver_problems(read(measured / "solvers", SolverRecord), measured, registry)) == []
    again = write_solvers(measured, found)
    assert [record for _, record in read(measured / "solvers", SolverRecord)] == found
    assert again == [measured / "solvers" / "toy" / "tiny.jsonl"]


def test_a_solver_that_cannot_be_imported_is_named(tmp_path: Path, registry: Registry) -> None:
    result = CliRunner().invoke(command, ["toy", "--solver", "broken", "--directory", str(tmp_path)], obj=registry)
    assert "broken" in str(result.exception)
    assert not (tmp_path / "solvers").exists()


MUTANTS: dict[str, tuple[dict[str, Any], str]] = {
    "another test set": ({"test": [{"count": 8, "data_seed": 7}]}, "test: these examples are not those of"),
    "another task": ({"task": "D"}, "task: toy has no task 'D'"),
    "another suite": ({"suite": "toys"}, "belongs in"),
    "another version": ({"version": "2"}, "version: spectral is version 1 here, got 2"),
    "other arguments": ({"arguments": {"coarsen": 2}}, "arguments: must be those of spectral"),
    "a fast solver": ({"inference_seconds": 1e-12}, "inference_seconds: must be from"),
    "a slow solver": ({"inference_seconds": 1e300}, "inference_seconds: must be from"),
    "a large error": ({"error": 1e9, "interval": [1e9, 1e9]}, "error: must be at most"),
    "an interval elsewhere": ({"interval": [0.5, 0.6]}, "must be inside its interval"),
    "more examples": ({"test_examples": 9}, "test_examples must be at most those of test, 8, got 9"),
    "a negative error": ({"error": -1.0}, "error: must be at least 0"),
    "an unknown key": ({"rank": 1}, "rank: unknown key"),
    "no batch": ({"inference_batch": 0}, "inference_batch: must be more than 0"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_changed_line_is_refused(tmp_path: Path, measured: Path, registry: Registry, name: str) -> None:
    changes, message = MUTANTS[name]
    text = (measured / "solvers" / "toy" / "tiny.jsonl").read_text().splitlines()[0]
    path = tmp_path / "solvers" / "toy" / "tiny.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**json.loads(text), **changes}) + "\n")
    checked: Callable[[Any], list[str]] = lambda located: list(solver_problems(located, tmp_path, registry))  # noqa: E731
    (wrong, *_) = check(tmp_path, Rules(check_solvers=checked))
    assert wrong.startswith(f"{path}:1: ")
    assert message in wrong


def test_lines_out_of_order_and_twice_are_refused(tmp_path: Path, measured: Path, registry: Registry) -> None:
    lines = (measured / "solvers" / "toy" / "tiny.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "solvers" / "toy" / "tiny.jsonl"
    path.parent.mkdir(parents=True)
    for wrong in ([lines[1], lines[0]], [lines[0], lines[0]]):
        path.write_text("".join(wrong))
        found = list(solver_problems(read(tmp_path / "solvers", SolverRecord), tmp_path, registry))
        assert found == [f"{path}:2: is out of order, or there twice"]
    path.write_text("half a li")
    with pytest.raises(RecordError, match=r"tiny.jsonl:1: "):
        read(tmp_path / "solvers", SolverRecord)


TASKS = ("SYS-1(1,2.5)", "SYS-1(5,10)")


def test_solvers_are_shown_beside_the_models_and_not_ranked(tmp_path: Path) -> None:
    write(tmp_path, [("here:1", record) for record in make_suite()], (), {})
    planned = {record.cell for record in make_suite() if record.kind == "point"}
    build(tmp_path, Rules(lambda *_: planned))
    before = (tmp_path / "leaderboard.csv").read_text()
    write_solvers(tmp_path, [make_solver("fd", error, task) for error, task in zip((0.01, 0.04), TASKS, strict=True)])
    assert any("README.md" in line for line in check(tmp_path, Rules(lambda *_: planned)))
    build(tmp_path, Rules(lambda *_: planned))
    assert check(tmp_path, Rules(lambda *_: planned)) == []
    assert (tmp_path / "leaderboard.csv").read_text() == before
    readme = (tmp_path / "README.md").read_text()
    assert "| fd" in readme
    assert "0.0200" in readme  # the geometric mean
    shown = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [(row["solver"], row["task"]) for row in shown["solvers"]] == [("fd", task) for task in TASKS]
    assert "fd" not in {row["model"] for row in shown["ranking"]}


def test_a_study_shows_solvers_of_its_own_test_examples_only() -> None:
    (found,) = group(make_suite())
    elsewhere = make_solver("fd", task=TASKS[0], test=({"count": 256, "data_seed": 9},))
    assert solvers_of(found, [elsewhere, make_solver(profile="lite"), make_solver(task="other")]) == []
    (one,) = solvers_of(found, [make_solver("fd", 0.1, TASKS[0])])
    assert one.error is None  # it lacks a task
    exact, coarse = solvers_of(
        found, [make_solver(name, error, task) for task in TASKS for name, error in (("fd", 0.1), ("exact", 0.0))]
    )
    assert (exact.solver, exact.error, coarse.solver) == ("exact", 0.0, "fd")
    assert coarse.error == pytest.approx(0.1)


def test_what_a_prediction_costs_is_shown_if_records_say_it() -> None:
    cost = {"flops": 10**6, "peak_memory": 10**9, "inference_seconds": 1e-3, "inference_batch": 64}
    records = [*make_suite("new", **cost, inference_device="cpu, threads: 1"), *make_suite("old")]
    rules = Rules(lambda *_: {r.cell for r in records if r.kind == "point"})
    rows = make_rows(Board(Path(), [("file:1", record) for record in records], rules=rules))
    new, old = (next(row for row in rows["ranking"] if row["model"] == name) for name in ("new", "old"))
    assert (new["flops"], new["inference_seconds"], new["memory"]) == (10**6, 1e-3, 10**9)
    assert new["inference_on"] == "cpu, threads: 1, batch: 64"
    assert (old["flops"], old["inference_seconds"], old["memory"], old["inference_on"]) == (None, None, None, "")
    cell = next(row for row in rows["cells"] if row["model"] == "new")
    assert (cell["flops"], cell["inference_seconds"]) == (10**6, 1e-3)
    assert make_record().flops is None
