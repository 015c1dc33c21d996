"""Finite differences, as textbooks have them: central, of second order, and a sparse LU factorisation for each example.

SciPy's SuperLU is the direct solver. A periodic square of 64² points has 4,096 unknowns, for which multigrid has no
advantage yet.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
import torch
from pdefm_spectral.common import ConstantCoefficientSystem
from scipy.sparse.linalg import splu

from pdebench_fm.interfaces import PDESystem
from pdebench_fm.problem import Fields, Grid
from pdefm_solvers.coarse import coarse_grid, every, interpolate


class FiniteDifferences:
    """−div(K∇u) + v·∇u − ωu = f by central differences, in float64.

    Without ω the mean of f is ignored and u has zero mean: one value is fixed, then the mean is subtracted.

    Args:
        system: of `pdefm_spectral`.
        coarsen: solve with every ``coarsen``-th point, and interpolate.

    Raises:
        UnsupportedError: it cannot solve the system on this grid.
    """

    def __init__(self, system: PDESystem, coarsen: int = 1) -> None:
        grid = coarse_grid(system, coarsen)
        assert isinstance(system, ConstantCoefficientSystem)
        self._coarsen = coarsen
        self._size = system.problem.grid.size
        self._names = system.constants
        # Minimum degree is best for symmetric matrices. With a velocity, pivoting undoes it: 12 times slower at 64².
        self._ordering = "COLAMD" if "v1" in self._names else "MMD_AT_PLUS_A"
        self._singular = "omega" not in self._names
        self._pattern, self._terms = _terms(grid, self._names, self._singular)

    def __call__(self, inputs: Fields) -> Fields:
        """Return the solution of a batch, (batch, n, n)."""
        coarse = every(inputs, self._coarsen)
        source = coarse["source"].double().cpu().numpy()
        coefficients = np.stack([coarse[name].double().cpu().numpy() for name in self._names], axis=1)
        solved = np.stack([self._solve(f, c) for f, c in zip(source, coefficients, strict=True)])
        return {"solution": interpolate(torch.from_numpy(solved).to(inputs["source"]), self._size)}

    def _solve(self, source: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
        """Return u, (n, n)."""
        pattern = self._pattern
        matrix = sparse.csc_matrix((coefficients @ self._terms, pattern.indices, pattern.indptr), pattern.shape)
        factors = splu(matrix, permc_spec=self._ordering)
        if not self._singular:
            solved: np.ndarray = factors.solve(source.ravel())
            return solved.reshape(source.shape)
        solution = np.zeros(source.size)
        solution[1:] = factors.solve((source - source.mean()).ravel()[1:])
        return (solution - solution.mean()).reshape(source.shape)


def _terms(grid: Grid, names: tuple[str, ...], singular: bool) -> tuple[sparse.csc_matrix, np.ndarray]:
    """Return the sparsity of the matrix, and what it has there for each coefficient, (coefficients, entries)."""
    n, h = grid.size, grid.spacing
    ones = np.ones(n)
    first = sparse.diags([-ones[1:], ones[1:], [-1.0], [1.0]], [-1, 1, n - 1, 1 - n]) / (2 * h)
    second = sparse.diags([ones[1:], -2 * ones, ones[1:], [1.0], [1.0]], [-1, 0, 1, n - 1, 1 - n]) / h**2
    same = sparse.identity(n)
    # Arrays are indexed [y, x].
    found = {
        "k11": -sparse.kron(same, second),
        "k22": -sparse.kron(second, same),
        "k12": -2 * sparse.kron(first, first),
        "v1": sparse.kron(same, first),
        "v2": sparse.kron(first, same),
        "omega": -sparse.identity(n * n),
    }
    used = [sparse.csc_matrix(found[name])[singular:, singular:] for name in names]
    pattern = sparse.csc_matrix(sum(abs(matrix) for matrix in used))
    pattern.sort_indices()
    columns = np.repeat(np.arange(pattern.shape[1]), np.diff(pattern.indptr))
    return pattern, np.stack([np.asarray(matrix[pattern.indices, columns]).ravel() for matrix in used])
