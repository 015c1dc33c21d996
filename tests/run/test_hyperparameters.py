"""What a search space says it tries is what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.errors import PluginError
from pdebench_fm.hookspecs import ModelEntry, ProtocolEntry
from pdebench_fm.interfaces import FitReport, OperatorModel, TransferProtocol, TrialSettings
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry import Registry
from pdebench_fm.run.work import Outcome, Setting, Work
from pdebench_fm.run.worker import Worker
from tests.support.installed import with_toy
from tests.support.toy import Toy, plan_of


class Embedding(Toy):
    """Searches over what the training loop does not take."""

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{"learning_rate": rate, "embedding_factor": factor} for rate in rates for factor in (1, 2)]


class NoRate(Toy):
    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{}]


class OwnFit(Embedding):
    """Has a fit of its own; says whether it reads the factor."""

    reads = False

    def fit(self, *arguments: Any) -> FitReport:  # type: ignore[misc]
        trial: TrialSettings = arguments[3]
        if self.reads:
            assert trial.hyperparameters["embedding_factor"] in (1, 2)
        return super().fit(*arguments)


class OwnFitThatReads(OwnFit):
    reads = True


class Scaled(TransferProtocol):
    """From scratch, with one more hyperparameter."""

    starts_from = "initialised"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{"learning_rate": rate, "factor": 2.0} for rate in rates]


class ScaledAndRead(Scaled):
    def adapt(self, *arguments: Any) -> FitReport:
        assert dict(arguments[4].hyperparameters)["factor"] == 2.0
        return super().adapt(*arguments)


class ScaledAndForgotten(Scaled):
    def adapt(self, *arguments: Any) -> FitReport:
        return super().adapt(*arguments)


def model(kind: type[OperatorModel]) -> Registry:
    return with_toy().with_entry("models", ModelEntry("toy", "1", kind, "under test"))


def protocol(kind: type[TransferProtocol]) -> Registry:
    return with_toy().with_entry("protocols", ProtocolEntry("scratch", "1", kind, "under test"))


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        (model(Embedding), "search_space gives 'embedding_factor', which the training loop does not take; it takes"),
        (model(NoRate), "search_space lacks a rate; it takes learning_rate"),
        (protocol(Scaled), "protocol 'scratch': search_space gives 'factor', which the training loop does not take"),
    ],
    ids=["model", "no rate", "protocol"],
)
def test_the_training_loop_knows_what_it_takes(tmp_path: Path, registry: Registry, said: str) -> None:
    with pytest.raises(PluginError, match=said):
        plan_of(tmp_path, registry)


def first_trial(folder: Path, registry: Registry, label: str) -> Outcome:
    plan: Plan = plan_of(folder, registry)
    job = next(job for job in plan.jobs.values() if isinstance(job, Trial) and label in job.label)
    return Worker(Setting(label, registry, JobStore(folder), "cpu")).do(Work(job, {}))


@pytest.mark.parametrize(
    ("registry", "name"),
    [
        (model(OwnFit), "embedding_factor"),
        (model(OwnFitThatReads), ""),
        (protocol(ScaledAndForgotten), "factor"),
        (protocol(ScaledAndRead), ""),
    ],
    ids=["model", "model that reads", "protocol", "protocol that reads"],
)
def test_a_name_that_nothing_reads_fails_the_trial(tmp_path: Path, registry: Registry, name: str) -> None:
    outcome = first_trial(tmp_path, registry, "scratch · N=4")
    wanted = f"search_space gives {name!r}, which neither model nor protocol reads" if name else ""
    assert (outcome.status, outcome.reason) == ("failed" if name else "ok", wanted)
