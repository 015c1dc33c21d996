"""The spectral solver of `pdefm_spectral` on a coarser grid."""

from __future__ import annotations

from pdebench_fm.interfaces import PDESystem
from pdebench_fm.problem import Fields
from pdefm_solvers.coarse import coarse_grid, every, interpolate


class Spectral:
    """Solves with every ``coarsen``-th point of the source, and interpolates the solution.

    Args:
        system: of `pdefm_spectral`.
        coarsen: 1 for the grid of the examples, where it computes what the reference solutions are.

    Raises:
        UnsupportedError: it cannot solve the system on this grid.
    """

    def __init__(self, system: PDESystem, coarsen: int = 1) -> None:
        self._coarsen = coarsen
        self._size = system.problem.grid.size
        self._coarse = type(system)(coarse_grid(system, coarsen))  # type: ignore[call-arg]

    def __call__(self, inputs: Fields) -> Fields:
        """Return the solution of a batch, (batch, n, n)."""
        solved = self._coarse.solve(every(inputs, self._coarsen))
        return {name: interpolate(field, self._size) for name, field in solved.items()}
