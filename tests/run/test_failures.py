"""What records, terminal lines and logs say of a job that failed, and of those that depend on it."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from torch import Tensor, nn

from pdebench_fm.errors import UnsupportedError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, TrialSettings
from pdebench_fm.problem import Problem
from pdebench_fm.registry import Registry, registry
from pdebench_fm.run.reporting import RunProgress
from pdebench_fm.run.runner import RunResult, run_plan
from pdebench_fm.run.status import read_runs
from tests.support.toy import Toy, ToyNetwork, plan_of


class BrokenNetwork(ToyNetwork):
    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.lift(fields)  # the bug


class Broken(Toy):
    """Two convolutions, the first of which is given too few channels."""

    def build(self, problem: Problem) -> nn.Module:
        return BrokenNetwork(len(problem.inputs), self.width, len(problem.outputs))


class Refusing(Toy):
    """Finds out in its fit that it cannot take the problem."""

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        raise UnsupportedError("wants a mask")


BUG = "test_failures.py:" + next(
    str(number)
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
    if line.endswith("  # the bug")
)


def run(folder: Path, model: type[Toy]) -> tuple[RunResult, list[str]]:
    found: Registry = registry().with_model(ModelEntry("odd", "1", model, "fails"))
    plan = plan_of(folder, found, "odd", output=folder / "runs")
    shown = io.StringIO()
    with redirect_stderr(shown), RunProgress(plan, set(plan.jobs)) as reporter:
        result = run_plan(plan, reporter=reporter)
    return result, shown.getvalue().splitlines()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[str]]:
    return run(tmp_path_factory.mktemp("broken"), Broken)


def test_records_and_lines_say_in_which_line_of_a_plugin_it_failed(broken: tuple[RunResult, list[str]]) -> None:
    result, lines = broken
    assert {record.status for record in result.records} == {"failed"}
    for record in result.records:
        assert record.reason.endswith(f"({BUG})"), record.reason
        assert all(trial.reason.endswith(f"({BUG})") for trial in record.trials)
    failed = [line for line in lines if ": failed: " in line]
    assert failed
    assert all(f"({BUG})" in line and "failure.log" in line for line in failed)


def test_every_log_names_the_cause_and_the_log_of_the_first_job_to_fail(broken: tuple[RunResult, list[str]]) -> None:
    first = {}
    for log in broken[0].folder.parents[1].glob("jobs/*/failure.log"):
        text = log.read_text()
        assert BUG in text.splitlines()[0], text
        job = json.loads(log.with_name("job.json").read_text())
        if job.get("trials") or job["start"]["from"] == "job":
            first[log] = Path(text.rstrip().rpartition(": see ")[2])
    assert first
    assert {cause.name for cause in first.values()} == {"failure.log"}
    assert not first.keys() & set(first.values())  # these failed by themselves
    assert all("in forward" in cause.read_text() for cause in first.values())


def test_what_starts_from_a_pretraining_that_a_model_cannot_do_is_unsupported(tmp_path: Path) -> None:
    result, _ = run(tmp_path, Refusing)
    asked = [record for record in result.records if (record.protocol, record.examples) != ("scratch", 0)]
    assert {(record.status, record.reason) for record in asked} == {("unsupported", "wants a mask")}
    assert result.complete
    (found,) = read_runs(tmp_path, registry())
    assert found.count("done") == len(found.jobs)
