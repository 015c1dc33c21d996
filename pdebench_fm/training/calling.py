"""Calling a network: what it is given, what it must return, what is said if it returns something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pdebench_fm.errors import RunError
from pdebench_fm.problem import Problem


def call_network(module: nn.Module, fields: Tensor, constants: Tensor, outputs: int) -> Tensor:
    """Return the prediction of a network.

    Args:
        fields: (batch, F, n, n).
        constants: (batch, K).

    Returns:
        (batch, outputs, n, n).
    """
    try:
        prediction = module(fields, constants)
    except RuntimeError as error:
        if torch.is_grad_enabled() or "does not require grad" not in str(error):
            raise
        raise RunError(
            "the network takes a derivative, and predictions are made without gradients: compute it inside "
            "'with torch.enable_grad():'"
        ) from error
    wanted = (len(fields), outputs, *fields.shape[-2:])
    if not isinstance(prediction, Tensor):
        raise RunError(f"the network must return a tensor {wanted}, got {_named(prediction)}: return only the tensor")
    if prediction.shape != wanted:
        got = tuple(prediction.shape)
        raise RunError(f"the network must return {wanted}, got {got}{_way_out(got, wanted)}")
    if not prediction.is_floating_point():
        raise RunError(f"the network must return real numbers, got {prediction.dtype}")
    return prediction


def without_memory(build: Callable[[Problem], nn.Module], problem: Problem) -> nn.Module:
    """Build a network on torch's meta device, which has shapes and no data: any size takes a moment."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return build(problem)


def seed_random(seed: int, device: torch.device | str) -> None:
    """Seed what draws random numbers on a device and on the CPU.

    On the CPU alone `torch.manual_seed` takes 0.7 ms, nearly all for a traceback in case there are GPUs.
    """
    if torch.device(device).type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def empty_inputs(problem: Problem, batch: int) -> tuple[Tensor, Tensor]:
    """Return what a network `without_memory` takes: fields (batch, F, n, n) and constants (batch, K)."""
    size = problem.grid.size
    fields = torch.empty(batch, len(problem.input_fields), size, size, device="meta")
    return fields, torch.empty(batch, len(problem.constants), device="meta")


def count_parameters(module: nn.Module) -> int:
    """Return the number of weights; a complex weight counts as two."""
    return sum(weight.numel() * (2 if weight.is_complex() else 1) for weight in module.parameters())


def real_dtype(module: nn.Module) -> torch.dtype:
    """Return the real type that a network computes in; that of its parts if its weights are complex."""
    weights = (p.dtype.to_real() for p in module.parameters() if p.is_floating_point() or p.is_complex())
    return next(weights, torch.get_default_dtype())


def _named(value: Any) -> str:
    kind = type(value).__name__
    return f"a {kind} of {len(value)}" if isinstance(value, tuple | list | dict) else f"a {kind}"


def _way_out(got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    batch, channels, *size = wanted
    if got == (batch, *size, channels):
        return ": channels come second, use permute(0, 3, 1, 2)"
    if channels == 1 and got == (batch, *size):
        return ": use unsqueeze(1)"
    return ""
