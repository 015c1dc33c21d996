"""An executor of threads, a metric that is better when higher, and a model released as a file of weights."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pdebench_fm.hookspecs import ExecutorEntry, MetricEntry, ModelEntry, hookimpl
from pdebench_fm.interfaces import Metric, PDESystem
from pdebench_fm.problem import Fields, Problem
from tests.support.toy import Toy

_HERE = "tests.third_party.doors.elsewhere"


@hookimpl
def pdefm_executors() -> list[ExecutorEntry]:
    return [ExecutorEntry("threads", "1", f"{_HERE}:threads", "a pool of threads")]


@hookimpl
def pdefm_metrics() -> list[MetricEntry]:
    return [MetricEntry("correlation", "1", f"{_HERE}:Correlation", "of prediction and truth")]


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    return [ModelEntry("released-toy", "1", f"{_HERE}:Released", "a toy that arrives in a file")]


def threads(workers: int = 1, name: str = "jobs") -> Executor:
    return ThreadPoolExecutor(workers, thread_name_prefix=name)


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
