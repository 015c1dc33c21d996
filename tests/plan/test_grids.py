"""A profile's test grids: trained on one grid, scored on others too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pdebench_fm._util.grouping import grouped
from pdebench_fm.errors import SuiteError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import expected_rows
from pdebench_fm.registry import Registry, registry
from pdebench_fm.run.runner import run_plan
from pdebench_fm.suite.reading import load_suite
from tests.support.toy import SUITE, TOY


@pytest.fixture(scope="module")
def found() -> Registry:
    return registry().with_model(TOY)


def plan_with(folder: Path, found: Registry, grids: str, model: str = "toy", **arguments: int) -> Plan:
    folder.mkdir(exist_ok=True)
    path = folder / "toy.yaml"
    text = SUITE.replace("grid: 16\n", f"grid: 16\n    test_grids: {grids}\n")
    path.write_text(text.replace("fine-tune, scratch", "fine-tune, in-context, scratch"), encoding="utf-8")
    suite = load_suite(path, found)
    tasks = [task.name for task in suite.tasks_at(suite.profile("tiny")) if task.downstream == "B"]
    spec = model_spec(found, model, arguments)
    return make_plan(suite, "tiny", spec, found, output=folder / "runs", tasks=tasks)


def test_a_model_is_scored_on_other_grids_and_fitted_on_one(tmp_path: Path, found: Registry) -> None:
    without, plan = plan_with(tmp_path / "none", found, "[]"), plan_with(tmp_path, found, "[8, 24]")
    trials = {job.id for job in plan.jobs.values() if job.kind == "trial"}
    assert trials == {job.id for job in without.jobs.values() if job.kind == "trial"}
    assert set(without.jobs) <= set(plan.jobs)
    result = run_plan(plan)
    points = [record for record in result.records if record.kind == "point"]
    assert {record.status for record in points} == {"ok"}
    tasks = {record.task: {of["grid"] for of in record.job["test"]["sets"]} for record in points}
    assert tasks == {"B from poisson": {16}, "B from poisson on 8²": {8}, "B from poisson on 24²": {24}}
    assert {of["grid"] for record in points for of in record.job["train"]["sets"]} == {16}
    errors = {r.task: r.metrics["relative_l2"] for r in points if (r.protocol, r.examples) == ("fine-tune", 8)}
    assert len(set(errors.values())) == 3
    expected = {row for row in expected_rows(plan.suite, "tiny", found) if row[0].startswith("B")}
    assert {(r.task, r.protocol, r.examples, r.seed) for r in points} == expected


def test_points_on_several_grids_share_the_trials_that_a_search_adds(tmp_path: Path, found: Registry) -> None:
    plan = plan_with(tmp_path, found, "[8, 24]\n    extend: 1")
    with ThreadPoolExecutor(2) as executor:  # so that a second point asks while a trial of the first is running
        records = run_plan(plan, executor=executor).records
    assert {record.status for record in records} == {"ok"}
    tuned = grouped([r for r in records if r.trials and r.kind == "point"], lambda r: (r.protocol, r.examples))
    tried = [[{trial.job_id for trial in record.trials} for record in of] for of in tuned.values()]
    assert all(one == of[0] for of in tried for one in of)
    assert any(len(of[0]) == 3 for of in tried)


def test_a_grid_that_the_model_cannot_take_has_unsupported_rows(tmp_path: Path, found: Registry) -> None:
    plan = plan_with(tmp_path, found, "[8, 24]", "fno", width=2, modes=8, layers=1)
    assert {row.task: bool(row.unsupported) for row in plan.rows if row.kind == "point"} == {
        "B from poisson": False,
        "B from poisson on 8²": True,
        "B from poisson on 24²": False,
    }


def test_a_task_with_the_name_of_another_on_a_test_grid_is_refused(tmp_path: Path, found: Registry) -> None:
    text = SUITE.replace("grid: 16\n", "grid: 16\n    test_grids: [24]\n").replace(
        "C from mixed", "B from poisson on 24²"
    )
    (tmp_path / "toy.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(
        SuiteError, match=r"profiles\.tiny\.test_grids: task 'B from poisson on 24²' has the name of a task on"
    ):
        load_suite(tmp_path / "toy.yaml", found)


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ("[24, 16]", r"toy\.yaml:19:22: profiles\.tiny\.test_grids\[1\]: must differ .* got 16"),
        ("[24, 24]", r"toy\.yaml:19:22: profiles\.tiny\.test_grids\[1\]: must differ .* got 24"),
        ("[4]", r"test_grids\[0\]: must be at least 8"),
    ],
)
def test_grids_that_say_nothing_are_refused(grids: str, message: str, tmp_path: Path, found: Registry) -> None:
    with pytest.raises(SuiteError, match=message):
        plan_with(tmp_path, found, grids)


def test_files_have_one_grid(tmp_path: Path, found: Registry) -> None:
    path = tmp_path / "toy.yaml"
    files = "{files: {train: a.h5, validation: a.h5, test: a.h5}}"
    text = SUITE.replace("B: {system: poisson, eigenvalue: [5, 10]}", f"B: {files}")
    path.write_text(text.replace("grid: 16\n", "grid: 16\n    test_grids: [8]\n"), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"test_grids: distribution 'B' is read from files, which have one grid"):
        load_suite(path, found)
