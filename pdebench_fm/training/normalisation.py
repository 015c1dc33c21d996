"""Input normalisation (paper, A.5): fitted once, on the examples a model first sees, and kept for life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import PositiveFloat

from pdebench_fm._util.plain import Strict, read_plain
from pdebench_fm.interfaces import Examples
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    from torch import Tensor

_USUAL = (1e-3, 1e3)
"""Typical sizes of fields that a network takes as they are."""


@dataclass(frozen=True)
class InputNormalisation:
    """Scales that bring inputs to comparable size.

    If the problem is homogeneous, (f, K) and (10 f, 10 K) have the same solution and must become the same input. So
    fields and constants of each example are divided by ‖f‖ / f_ref. ‖f‖ is the root mean square over the grid, which
    does not depend on the resolution. f_ref is its median over the examples fitted to. In other problems only the
    fields are divided, by f_ref.

    Each constant is then divided by the median of its absolute raw value. Only examples whose own problem has the
    constant count. Zeros count only if there is nothing else, and then the median is 1. Outputs are not scaled.

    Norms are taken in float64, since squares of physical units such as 1e20 or 1e-25 leave float32.

    Args:
        homogeneous: whether the per-example scaling applies.
        field_reference: f_ref.
        constant_references: median of each constant, by channel name.
        field_unit: what the fields of a homogeneous problem are divided by on top, so that a network sees numbers near
            1: f_ref if that is below 1e-3 or above 1e3, otherwise 1.
    """

    homogeneous: bool
    field_reference: float
    constant_references: Mapping[str, float]
    field_unit: float = 1.0

    @classmethod
    def fit(cls, problem: Problem, examples: Examples) -> Self:
        """Fit to all of ``examples`` for a model of ``problem``; the identity if there are none."""
        if len(examples) == 0:
            return cls(False, 1.0, dict.fromkeys(problem.constants, 1.0))
        norms: list[np.ndarray] = []
        constants: dict[str, list[np.ndarray]] = {name: [] for name in problem.constants}
        for component in examples.components:
            own = component.problem
            for inputs, _ in component.batches():
                norms.append(_norm(own, inputs).cpu().numpy())
                for name in own.constants:
                    constants[name].append(np.abs(inputs[name].double().cpu().numpy()))
        reference = _median(norms)
        unit = reference if problem.homogeneous and not _USUAL[0] <= reference <= _USUAL[1] else 1.0
        return cls(problem.homogeneous, reference, {name: _median(parts) for name, parts in constants.items()}, unit)

    def __call__(self, problem: Problem, inputs: Fields) -> tuple[Tensor, Tensor]:
        """Normalise a batch.

        Args:
            problem: the problem of the model; ``inputs`` has all its input channels.
            inputs: fields (batch, n, n), constants (batch,).

        Returns:
            fields (batch, F, n, n) in the order of ``problem.input_fields`` and constants (batch, K) in that of
            ``problem.constants``.
        """
        import torch

        fields = torch.stack([inputs[name] for name in problem.input_fields], dim=1)
        if self.homogeneous:
            norm = _norm(problem, inputs)
            scale = torch.where(norm > 0, self.field_reference / norm, torch.ones_like(norm))
            scaled = fields * (scale / self.field_unit)[:, None, None, None]
        else:
            scaled = fields.double() / self.field_reference
        if not problem.constants:
            return scaled.to(fields.dtype), fields.new_zeros(len(fields), 0)
        constants = torch.stack(
            [inputs[name].double() / self.constant_references[name] for name in problem.constants], dim=1
        )
        if self.homogeneous:
            constants = constants * scale[:, None]
        return scaled.to(fields.dtype), constants.to(fields.dtype)

    def state(self) -> dict[str, Any]:
        """Return it as plain data, which `from_state` reads back."""
        return {
            "homogeneous": self.homogeneous,
            "field_reference": self.field_reference,
            "constant_references": dict(self.constant_references),
            "field_unit": self.field_unit,
        }

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Build it from what `state` returned.

        Raises:
            UsageError: a key is missing, unknown, or holds a value of another type.
        """
        return cls(**dict(read_plain(_State, state)))


class _State(Strict):
    """What `InputNormalisation.state` returns."""

    homogeneous: bool
    field_reference: PositiveFloat
    constant_references: dict[str, PositiveFloat]
    field_unit: PositiveFloat = 1.0


def _norm(problem: Problem, inputs: Fields) -> Tensor:
    """Root mean square of all input fields together, float64 (batch,)."""
    squares = [inputs[name].double().square().mean(dim=(-2, -1)) for name in problem.input_fields]
    return sum(squares[1:], start=squares[0]).div(len(squares)).sqrt()


def _median(parts: list[np.ndarray]) -> float:
    """Median of the numbers, or of those that are not zero if that is zero; 1 without any."""
    values = np.concatenate([*parts, np.zeros(0)])
    found = float(np.median(values)) if len(values) else 0.0
    if found == 0 and values.any():
        found = float(np.median(values[values > 0]))
    return found if found > 0 else 1.0
