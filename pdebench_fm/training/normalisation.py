"""Input normalisation (paper, A.5): fitted once, on the examples a model first sees, and kept for life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pdebench_fm.interfaces import Examples
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class InputNormalisation:
    """Scales that bring inputs to comparable size.

    If the problem is homogeneous, (f, K) and (10 f, 10 K) have the same solution and must become the same input. So
    fields and constants of each example are divided by ‖f‖ / f_ref. ‖f‖ is the root mean square over the grid, which
    does not depend on the resolution. f_ref is its median over the examples fitted to. In other problems only the
    fields are divided, by f_ref.

    Each constant is then divided by the median of its absolute raw value (a zero median counts as 1). Only examples
    whose own problem has the constant count. Outputs are not scaled.

    Args:
        homogeneous: whether the per-example scaling applies.
        field_reference: f_ref.
        constant_references: median of each constant, by channel name.
    """

    homogeneous: bool
    field_reference: float
    constant_references: Mapping[str, float]

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
                norms.append(_norm(own, inputs).double().cpu().numpy())
                for name in own.constants:
                    constants[name].append(np.abs(inputs[name].double().cpu().numpy()))
        medians = {name: float(np.median(np.concatenate(parts))) if parts else 1.0 for name, parts in constants.items()}
        references = {name: value if value > 0 else 1.0 for name, value in medians.items()}
        field_reference = float(np.median(np.concatenate(norms)))
        return cls(problem.homogeneous, field_reference if field_reference > 0 else 1.0, references)

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
        else:
            scale = torch.full_like(fields[:, 0, 0, 0], 1 / self.field_reference)
        fields = fields * scale[:, None, None, None]
        if not problem.constants:
            return fields, fields.new_zeros(len(fields), 0)
        constants = torch.stack([inputs[name] / self.constant_references[name] for name in problem.constants], dim=1)
        return fields, constants * scale[:, None] if self.homogeneous else constants

    def state(self) -> dict[str, Any]:
        """Return it as plain data, which `from_state` reads back."""
        return {
            "homogeneous": self.homogeneous,
            "field_reference": self.field_reference,
            "constant_references": dict(self.constant_references),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Build it from what `state` returned."""
        return cls(**state)


def _norm(problem: Problem, inputs: Fields) -> Tensor:
    """Root mean square of all input fields together, (batch,)."""
    squares = [inputs[name].square().mean(dim=(-2, -1)) for name in problem.input_fields]
    return sum(squares[1:], start=squares[0]).div(len(squares)).sqrt()
