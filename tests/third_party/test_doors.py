"""Each open door of the core, used by a small plugin that imports public names only."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.metadata import EntryPoint, entry_points
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from pdebench_fm.api import make_executor
from pdebench_fm.cli.status import status
from pdebench_fm.errors import SettingError
from pdebench_fm.interfaces import Schedules
from pdebench_fm.plan.job import Job
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry import Registry
from pdebench_fm.run.runner import Reporter, run_plan
from pdebench_fm.run.work import Outcome
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.testing.claims import claims
from pdebench_fm.testing.metrics import METRIC_CHECKS, MetricSubject
from tests.support.toy import SUITE, TOY
from tests.third_party import pages
from tests.third_party.doors.elsewhere import Correlation

DOORS = [EntryPoint("elsewhere", "tests.third_party.doors.elsewhere", "pdebench_fm")]


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry([*entry_points(group="pdebench_fm"), *DOORS]).with_model(TOY)
    assert not [plugin for plugin in found.plugins if plugin.failure]
    return found


def plan_with(folder: Path, registry: Registry, protocols: str, model: str = "toy") -> Plan:
    folder.mkdir(exist_ok=True)
    path = folder / "toy.yaml"
    path.write_text(SUITE.replace("[zero-shot, fine-tune, scratch]", protocols), encoding="utf-8")
    spec = model_spec(registry, model, {"modes": 3} if model == "mode-regression" else {})
    return make_plan(load_suite(path, registry), "tiny", spec, registry, output=folder / "runs")


def test_an_executor_of_threads_runs_a_plan(tmp_path: Path, registry: Registry) -> None:
    with make_executor(registry, "threads", {"name": "pde"}, workers=1) as executor:
        assert run_plan(plan_with(tmp_path, registry, "[zero-shot, fine-tune]"), executor=executor).complete
    with pytest.raises(SettingError, match="did you mean 'name'"):
        make_executor(registry, "threads", {"nmae": "pde"})


def test_an_executor_that_takes_a_whole_plan_tells_status_what_is_queued(tmp_path: Path, registry: Registry) -> None:
    plan = plan_with(tmp_path, registry, "[zero-shot, fine-tune]")

    class CtrlC(Reporter):
        def finished(self, job: Job, outcome: Outcome) -> None:
            raise KeyboardInterrupt

    with make_executor(registry, "batch", {}, output=plan.store.output) as executor:
        assert isinstance(executor, Schedules)
        with pytest.raises(KeyboardInterrupt):
            run_plan(plan, executor=executor, reporter=CtrlC())
    shown = CliRunner().invoke(status, [str(plan.store.output)], obj=registry, standalone_mode=False).stdout
    left = len(plan.jobs) - len(list(plan.store.output.glob("jobs/*/result.json")))
    assert f"  queued: {left} PENDING (Priority)\n" in shown
    with make_executor(registry, "batch", {}, output=plan.store.output) as executor:
        assert run_plan(plan, executor=executor).complete


def test_the_executor_of_the_page_takes_what_its_command_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    _, section = pages.PAGES["my_pde"].read_text(encoding="utf-8").split("## An executor\n")
    module = ModuleType("my_pde")
    monkeypatch.setitem(sys.modules, "my_pde", module)
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], vars(module))  # type: ignore[index]
    command = shlex.split(re.search(r"^    pdefm (run .*)$", section, re.MULTILINE)[1])  # type: ignore[index]
    options = dict(pairwise(command))
    key, value = options["--executor-set"].split("=")
    found = Registry([EntryPoint("my_pde", "my_pde", "pdebench_fm")])
    with make_executor(found, options["--executor"], {key: value}, int(options["--workers"])) as executor:
        assert executor.submit(sum, [1, 2]).result() == 3


def test_a_metric_may_be_negative_and_better_when_higher(tmp_path: Path, registry: Registry) -> None:
    result = run_plan(plan_with(tmp_path, registry, "[zero-shot]", "zero"))
    assert all(-1 <= r.metrics["correlation"] <= 1 for r in result.records if r.status == "ok")


def test_two_checkpoints_are_two_models(tmp_path: Path, registry: Registry) -> None:
    ids = []
    for content in ("a", "b", "a"):
        (tmp_path / "weights").write_text(content)
        spec = model_spec(registry, "released-toy", {"checkpoint": str(tmp_path / "weights")})
        path = tmp_path / "toy.yaml"
        path.write_text(SUITE, encoding="utf-8")
        ids.append(list(make_plan(load_suite(path, registry), "tiny", spec, registry).jobs))
    assert ids[0] == ids[2]
    assert not set(ids[0]) & set(ids[1])


def test_the_gate_knows_which_way_a_metric_is_better() -> None:
    for _, check in claims(METRIC_CHECKS, MetricSubject(Correlation())):
        check()
