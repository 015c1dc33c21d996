"""How well a prediction solves the PDE, independent of the reference solution."""

from __future__ import annotations

from torch import Tensor

from pdebench_fm.interfaces import Metric, PDESystem
from pdebench_fm.interfaces.pde_system import NoResidualError
from pdebench_fm.problem import Fields, Problem


class PDEResidual(Metric):
    """Mean of ‖Lu − f‖₂ / ‖f‖₂ of the prediction, in float64; `PDESystem.residual_scale` gives ‖f‖₂.

    The residual differentiates twice, so rough errors weigh far more than in `relative_l2`. Values above 1 are usual
    even for good predictions.
    """

    @property
    def needs_system(self) -> bool:
        """The residual belongs to the PDE."""
        return True

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        """Relative residual of each example, (batch,).

        Raises:
            NoResidualError: the system has no residual.
        """
        assert system is not None
        given = {name: values.double() for name, values in inputs.items()}
        residual = system.residual(given, {name: values.double() for name, values in prediction.items()})
        if residual is None:
            raise NoResidualError(f"{type(system).__name__} has no residual")
        return residual.flatten(1).norm(dim=1) / system.residual_scale(given)
