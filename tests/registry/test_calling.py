"""A plugin that misbehaves costs its own part of a run, and its error names it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame
from pdefm_metrics.errors import RelativeL2
from pdefm_transfer.protocols import FineTune
from torch import Tensor

from pdebench_fm.errors import PluginError, SettingError
from pdebench_fm.hookspecs import MetricEntry
from pdebench_fm.interfaces import FitReport
from pdebench_fm.registry.calling import call_plugin, place_of, refusal_reason
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.runner import RunResult
from tests.support.installed import with_toy
from tests.support.toy import Toy, plan_of, run_in


@pytest.fixture
def registry() -> Registry:
    return with_toy()


def divide(by: int = 0) -> float:
    return 1 / by


def test_what_a_plugin_raises_names_it_and_keeps_its_traceback() -> None:
    with pytest.raises(PluginError, match=r"^model 'm': supports: ZeroDivisionError") as caught:
        call_plugin("model 'm': supports", divide)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert place_of(caught.value.__cause__) == f"test_calling.py:{divide.__code__.co_firstlineno + 1}"
    assert call_plugin("model 'm'", divide, by=2) == 0.5


def test_an_error_of_ours_passes_unchanged() -> None:
    def refuse() -> None:
        raise SettingError("width", "must be above 0")

    with pytest.raises(SettingError, match=r"^width"):
        call_plugin("model 'm'", refuse)


def test_the_place_of_an_error_is_the_plugins_own_line_not_the_librarys() -> None:
    def mean() -> Any:
        return np.mean(np.zeros(3), axis=2)

    with pytest.raises(PluginError) as caught:
        call_plugin("metric 'm'", mean)
    assert caught.value.__cause__ is not None
    assert place_of(caught.value.__cause__) == f"test_calling.py:{mean.__code__.co_firstlineno + 1}"


@pytest.mark.parametrize("answer", ["", "  ", False])
def test_a_refusal_must_give_a_reason(answer: object) -> None:
    with pytest.raises(PluginError, match=r"^model 'm': supports must return None or the reason"):
        refusal_reason("model 'm': supports", lambda: answer)
    assert refusal_reason("model 'm': supports", lambda: "too small") == "too small"
    assert refusal_reason("model 'm': supports", lambda: None) is None


class Raises(RelativeL2):
    def per_sample(self, *arguments: Any) -> Tensor:
        raise ValueError("not today")


class NaN(RelativeL2):
    def summarise(self, values: np.ndarray) -> np.ndarray:
        return values.mean(axis=-1) * np.nan


def test_a_metric_without_a_value_is_left_out_and_named(tmp_path: Path, registry: Registry) -> None:
    found = registry.with_entry("metrics", MetricEntry("odd", "1", NaN, ""))
    result = run_in(tmp_path / "runs", plan_of(tmp_path, found, "zero"))
    scored = [record for record in result.records if record.status != "unsupported"]
    assert {record.status for record in scored} == {"ok"}
    assert all("odd" not in record.metrics and "its value is" in record.notes["metric odd"] for record in scored)


def test_a_metric_that_cannot_be_loaded_is_left_out_until_it_can(tmp_path: Path, registry: Registry) -> None:
    def run_with(factory: str) -> RunResult:
        found = registry.with_entry("metrics", MetricEntry("lately", "1", factory, ""))
        return run_in(tmp_path / "runs", plan_of(tmp_path, found))

    without = run_with("no_such_module:Metric")
    assert {record.status for record in without.records} == {"ok"}
    assert all("ModuleNotFoundError" in record.notes["metric lately"] for record in without.records)
    mended = run_with("pdefm_metrics.errors:MaxError")
    assert all(record.metrics["lately"] == record.metrics["max_error"] for record in mended.records)


class NoBatch(RelativeL2):
    def per_sample(self, *arguments: Any) -> Tensor:
        return super().per_sample(*arguments).mean()


@pytest.mark.parametrize(
    ("metric", "says"), [(NoBatch, "must return (batch,), got ()"), (Raises, "ValueError: not today")]
)
def test_a_metric_that_fails_is_left_out_and_the_others_stay(
    tmp_path: Path, registry: Registry, metric: type[RelativeL2], says: str
) -> None:
    found = registry.with_entry("metrics", MetricEntry("odd", "1", metric, ""))
    result = run_in(tmp_path / "runs", plan_of(tmp_path, found))
    assert {record.status for record in result.records} == {"ok"}
    assert all({"relative_l2", "max_error"} <= record.metrics.keys() for record in result.records)
    assert all(says in record.notes["metric odd"] for record in result.records)


def test_without_the_main_score_nothing_is_done(tmp_path: Path, registry: Registry) -> None:
    found = registry.with_entry("metrics", MetricEntry("relative_l2", "1", "no_such_module:Metric", ""))
    with pytest.raises(PluginError, match="relative_l2"):
        run_in(tmp_path / "runs", plan_of(tmp_path, found))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("fit", "says"),
    [(lambda *_: sys.exit("no licence"), "SystemExit: no licence"), (lambda *_: None, "must return a FitReport")],
)
def test_a_fit_that_raises_or_returns_no_report_fails_its_job(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, fit: Callable[..., FitReport], says: str
) -> None:
    monkeypatch.setattr(Toy, "fit", fit)
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert result.records[0].status == "failed"
    assert says in result.records[0].reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("supports", lambda *_: 1 / 0),
        ("search_space", lambda *_: []),
        ("search_space", lambda *_: [{"learning_rate": math.nan}]),
        ("__init__", lambda *_, **__: 1 / 0),
    ],
)
def test_what_a_model_does_wrong_while_a_run_is_planned_names_it(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    monkeypatch.setattr(Toy, name, value)
    with pytest.raises(PluginError, match=r"^model 'toy'"):
        plan_of(tmp_path, registry)


def test_what_a_protocol_does_wrong_names_it(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTune, "sizes", lambda *_: 1 / 0)
    with pytest.raises(PluginError, match=r"^protocol 'fine-tune': sizes"):
        plan_of(tmp_path, registry)


def test_a_protocol_whose_adapt_returns_nothing_fails_its_points(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTune, "adapt", lambda *_: None)
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert {record.protocol for record in result.records if record.status != "ok"} == {"fine-tune"}


def test_a_model_may_be_registered_by_a_function_that_makes_it(
    tmp_path: Path, registry: Registry, finished_run: Callable[[Path], RunResult]
) -> None:
    expected = finished_run(tmp_path / "by_class")
    found = registry.with_entry("models", replace(registry.get("models", "toy"), factory=_made))
    result = run_in(tmp_path / "by_function", plan_of(tmp_path, found))
    assert result.complete
    assert [r.metrics for r in result.records] == [r.metrics for r in expected.records]


def _made() -> Toy:
    return Toy()


def test_nor_that_of_another_library_which_it_calls() -> None:
    def read() -> None:
        DataFrame({"a": [1]})["b"]

    with pytest.raises(PluginError) as caught:
        call_plugin("model 'm'", read)
    assert isinstance(caught.value.__cause__, KeyError)
    assert place_of(caught.value.__cause__) == f"test_calling.py:{read.__code__.co_firstlineno + 1}"
