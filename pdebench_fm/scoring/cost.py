"""What a prediction costs: floating-point operations, time and memory.

Counted are the operations that `torch.utils.flop_counter` knows (products, convolutions, attention) and Fourier
transforms: 5 n log2 n for n complex points, half of it for real ones. Elementwise operations are left out. A product of
complex numbers counts as four.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, flop_registry, sdpa_flop_count

from pdebench_fm._util.text import named, quoted
from pdebench_fm._util.timing import now
from pdebench_fm.data.open import OpenSet
from pdebench_fm.errors import PLUGIN_ERRORS
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.problem import Problem
from pdebench_fm.scoring.point import predict
from pdebench_fm.training import NetworkModel
from pdebench_fm.training.calling import call_network, empty_inputs, without_memory

_REPEATS = 3
_LONG = 0.25
"""Seconds after which a batch is not predicted again."""


@dataclass(frozen=True)
class Cost:
    """What it costs to predict.

    Args:
        flops: operations for one example; None if the model computes outside torch.
        peak_memory: bytes; on a GPU the most that torch allocated while a batch was predicted, on a CPU the largest
            resident size of the process so far, training included. None if the system does not tell.
        inference_seconds: for one example, in a batch, see `fastest`.
        inference_batch: examples of that batch.
        inference_device: where, e.g. ``cpu (x86_64), threads: 1``.
    """

    flops: int | None = None
    peak_memory: int | None = None
    inference_seconds: float | None = None
    inference_batch: int | None = None
    inference_device: str | None = None


def measure_cost(model: OperatorModel, opened: OpenSet, device: str, where: str) -> tuple[Cost, dict[str, str]]:
    """Measure what predictions of a model cost, in a few predictions.

    Args:
        where: the device as records name it.

    Returns:
        the cost, and a note if it could not be measured: what is asked beyond the score must not cost it.
    """
    problem, batch = opened.examples.problem, min(CHUNK, len(opened.examples))
    try:
        inputs, target = opened.examples.batch(range(batch))
        one = {name: value[:1] for name, value in inputs.items()}
        flops = count_flops(lambda: model.predict(problem, one))
        if cuda := device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        seconds = fastest(lambda: predict(model, problem, inputs, target), device)
        memory = torch.cuda.max_memory_allocated(device) if cuda else largest_resident_size()
        return Cost(flops or None, memory, seconds / batch, batch, where), {}
    except PLUGIN_ERRORS as error:
        return Cost(), {"cost": quoted(f"not measured: {named(error)}")}


def fastest(work: Callable[[], Any], device: str) -> float:
    """Return the seconds of the fastest of three calls; of fewer if they take long.

    Of one thread on a CPU it is processor time, which other processes on the machine do not change.
    """
    times: list[float] = []
    spent = 0.0
    while len(times) < _REPEATS and spent < _LONG:
        start, busy = now(device), time.process_time()
        work()
        took, busy = now(device) - start, time.process_time() - busy
        spent += took
        times.append(min(took, busy) if device == "cpu" else took)
    return max(min(times), 1e-9)


def largest_resident_size() -> int | None:
    """Return the most bytes of memory that this process has had; None on systems that do not tell."""
    with suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None


def count_network(model: NetworkModel, built_for: Problem, asked: Problem) -> int:
    """Count the operations of one prediction on torch's meta device, which has shapes and no data.

    Args:
        model: need not have weights.
        built_for: what its network is built for.
        asked: has the grid of the examples.
    """
    network = without_memory(model.build, built_for).eval()
    inputs = empty_inputs(built_for.on(asked.grid), 1)
    return count_flops(lambda: call_network(network, *inputs, len(built_for.outputs)))


def count_flops(work: Callable[[], Any]) -> int:
    """Return the floating-point operations of a call."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with torch.no_grad(), counter:
        work()
    return int(counter.get_total_flops())


def _transform(field: Tensor, dim: list[int], *_: Any, out_val: Tensor, **__: Any) -> int:
    """Count a Fourier transform; the longer side of a real one has its points."""
    points = math.prod(max(field.shape[axis], out_val.shape[axis]) for axis in dim)
    transforms = max(field.numel(), out_val.numel()) // max(points, 1)
    real = not (field.is_complex() and out_val.is_complex())
    return round((2.5 if real else 5) * points * math.log2(max(points, 1)) * transforms)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))  # type: ignore[no-untyped-call]


def _product(operation: Any) -> Callable[..., int]:
    def count(*args: Any, out_val: Tensor, **given: Any) -> int:
        return int(flop_registry[operation](*args, **given, out_val=out_val)) * (4 if out_val.is_complex() else 1)

    return count


_ATEN = torch.ops.aten
_PRODUCTS = (_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm)
_FORMULAS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((_ATEN._fft_r2c, _ATEN._fft_c2r, _ATEN._fft_c2c), _transform),
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    **{operation: _product(operation) for operation in _PRODUCTS},
}
for _formula in _FORMULAS.values():
    _formula._get_raw = True  # type: ignore[attr-defined]  # they look at tensors, not only at shapes
