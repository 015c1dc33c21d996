"""Numerical solvers of the systems of `pdefm_spectral`, to compare models with: spectral, and by finite differences."""

from __future__ import annotations

from pdebench_fm.hookspecs import SolverEntry, hookimpl

_VERSION = "1"


@hookimpl
def pdefm_solvers() -> list[SolverEntry]:
    """Return both solvers on the grid of the examples and on coarser ones."""
    return [
        *(
            SolverEntry(
                _name("spectral", coarsen),
                _VERSION,
                "pdefm_solvers.spectral:Spectral",
                f"Fourier, {_grid(coarsen)}",
                arguments={"coarsen": coarsen},
            )
            for coarsen in (1, 2, 4, 8)
        ),
        *(
            SolverEntry(
                _name("fd", coarsen),
                _VERSION,
                "pdefm_solvers.finite_differences:FiniteDifferences",
                f"central differences of second order, sparse LU of SciPy, {_grid(coarsen)}",
                arguments={"coarsen": coarsen},
            )
            for coarsen in (1, 2, 4)
        ),
    ]


def _name(method: str, coarsen: int) -> str:
    return method if coarsen == 1 else f"{method}-{coarsen}"


def _grid(coarsen: int) -> str:
    return "on the grid of the examples" if coarsen == 1 else f"on a grid {coarsen} times coarser, interpolated"
