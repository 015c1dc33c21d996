"""Executors of threads and of whole plans, a metric better when higher, and a model released as a file of weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from pdebench_fm.hookspecs import ExecutorEntry, MetricEntry, ModelEntry, hookimpl
from pdebench_fm.interfaces import (
    Budget,
    Examples,
    FitContext,
    FitReport,
    Metric,
    OperatorModel,
    PDESystem,
    QueuedJob,
    Task,
    TrialSettings,
)
from pdebench_fm.problem import Channel, Fields, Problem
from pdebench_fm.training import fit_network
from tests.support.toy import Toy, ToyNetwork

_HERE = "tests.third_party.doors.elsewhere"


@hookimpl
def pdefm_executors() -> list[ExecutorEntry]:
    return [
        ExecutorEntry("threads", "1", f"{_HERE}:threads", "a pool of threads"),
        ExecutorEntry(
            "batch", "1", f"{_HERE}:Batch", "a plan at once, one job after the other", queue=f"{_HERE}:queue"
        ),
    ]


@hookimpl
def pdefm_metrics() -> list[MetricEntry]:
    return [MetricEntry("correlation", "1", f"{_HERE}:Correlation", "of prediction and truth")]


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    return [
        ModelEntry("released-toy", "1", f"{_HERE}:Released", "a toy that arrives in a file"),
        ModelEntry("own-toy", "1", f"{_HERE}:Own", "a toy that is no NetworkModel"),
    ]


def threads(workers: int = 1, name: str = "jobs") -> Executor:
    return ThreadPoolExecutor(workers, thread_name_prefix=name)


class Batch(Executor):
    """Takes a whole plan and remembers it in the folder of results."""

    def __init__(self, output: Path) -> None:
        self._submitted = output / "batch.json"
        self._pool = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._pool.submit(fn, *args, **kwargs)

    def schedule(self, tasks: Sequence[Task]) -> list[Future[Any]]:
        self._submitted.write_text(json.dumps([task.key for task in tasks]))
        return [self._pool.submit(task.call) for task in tasks]  # those that others wait for come first

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait, cancel_futures=cancel_futures)


def queue(output: Path) -> dict[str, QueuedJob]:
    jobs = json.loads((output / "batch.json").read_text()) if (output / "batch.json").exists() else []
    return {id: QueuedJob(f"job-{number}", "PENDING (Priority)") for number, id in enumerate(jobs)}


class Correlation(Metric):
    """Pearson correlation over the grid, −1 … 1."""

    better: ClassVar[Literal["lower", "higher"]] = "higher"

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        each = []
        for name in problem.output_names:
            a, b = (x[name].double().flatten(1) for x in (prediction, target))
            a, b = (x - x.mean(dim=1, keepdim=True) for x in (a, b))
            each.append((a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-300))
        return torch.stack(each).mean(dim=0)


class Released(Toy):
    """Identified by its checkpoint and not only by the checkpoint's name."""

    def __init__(self, checkpoint: str = "", width: int = 4) -> None:
        super().__init__(width)
        self.checkpoint = checkpoint

    def fingerprint(self) -> str:
        return hashlib.sha256(Path(self.checkpoint).read_bytes()).hexdigest() if self.checkpoint else ""


class Own(OperatorModel):
    """Reads the source alone, with a network that it keeps, saves and calls itself."""

    has_network: ClassVar[bool] = True

    def __init__(self) -> None:
        self._network = ToyNetwork(1, 4, 1)

    def supports(self, problem: Problem) -> str | None:
        return None if Channel("source") in problem.inputs else "it reads a source"

    @property
    def network(self) -> nn.Module:
        return self._network

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._network.parameters())

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        torch.manual_seed(seed)
        self._network = ToyNetwork(1, 4, 1)

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        return fit_network(self.network, _source, ("solution",), train, validation, budget, trial, context)

    @torch.no_grad()
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return {"solution": self._network(*_source(None, inputs))[:, 0]}

    def save(self, path: Path) -> None:
        save_model(self._network, str(path / "weights"))

    def load(self, path: Path, device: str = "cpu") -> None:
        load_model(self._network, path / "weights")


def _source(_: Examples | None, inputs: Fields) -> tuple[Tensor, Tensor]:
    source = inputs["source"][:, None]
    return source, source.new_zeros(len(source), 0)
