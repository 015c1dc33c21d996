"""The protocols of pdefm_adaptation in a suite, with models of several kinds."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from pdebench_fm.errors import SuiteError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry import Registry
from pdebench_fm.run.runner import run_plan
from pdebench_fm.suite.reading import load_suite
from tests.support.toy import SUITE, TOY

NETWORK = ("head-only", "frozen-body", "lora", "lora(rank=2)", "last-layer-ridge")
USED = "zero-shot, head-only, frozen-body, lora, {lora: {rank: 2}}, last-layer-ridge, in-context"


@pytest.fixture(scope="module")
def registry() -> Registry:
    doors = EntryPoint("elsewhere", "tests.third_party.doors.elsewhere", "pdebench_fm")
    return Registry([*entry_points(group="pdebench_fm"), doors]).with_model(TOY)


def plan_with(folder: Path, registry: Registry, protocols: str, model: str = "toy") -> Plan:
    folder.mkdir(exist_ok=True)
    path = folder / "toy.yaml"
    path.write_text(SUITE.replace("[zero-shot, fine-tune, scratch]", f"[{protocols}]"), encoding="utf-8")
    spec = model_spec(registry, model, {"modes": 3} if model == "mode-regression" else {})
    suite = load_suite(path, registry)
    return make_plan(suite, "tiny", spec, registry, output=folder / "runs", tasks=["B from poisson"])


@pytest.mark.parametrize(("model", "network"), [("toy", "ok"), ("own-toy", "ok"), ("mode-regression", "unsupported")])
def test_all_are_scored_or_refused(model: str, network: str, tmp_path: Path, registry: Registry) -> None:
    result = run_plan(plan_with(tmp_path, registry, USED, model))
    found = {(r.protocol, r.status) for r in result.records if r.kind == "point"}
    assert found == {("zero-shot", "ok"), ("in-context", "ok"), *((name, network) for name in NETWORK)}
    assert not run_plan(plan_with(tmp_path, registry, USED, model)).changed


def test_arguments_of_a_protocol_are_checked_in_the_suite(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(SuiteError, match=r"toy\.yaml:\d+:\d+: protocols\[1\]: .*did you mean 'rank'"):
        plan_with(tmp_path, registry, "zero-shot, {lora: {rnak: 2}}")
