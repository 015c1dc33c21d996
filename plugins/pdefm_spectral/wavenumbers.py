"""Wavenumbers of a periodic grid, and the factors by which derivatives multiply Fourier coefficients.

Nyquist convention (even n; odd n has no such mode): the mode with index n/2 along an axis has no sine on the grid. So
its first derivative along that axis is zero, and so is the cross-derivative ∂²/∂x∂y if either index is n/2. Second
derivatives keep (2π/length · n/2)². Every real field then has real derivatives.
"""

from __future__ import annotations

import numpy as np

from pdebench_fm.problem import Grid


class AxisWavenumbers:
    """Multipliers of derivatives along one axis: ∂ → i·``first``, ∂² → −``second`` (see the Nyquist convention)."""

    def __init__(self, indices: np.ndarray, size: int, length: float) -> None:
        wavenumber = 2 * np.pi / length * indices
        self.second = wavenumber**2
        self.first = np.where(2 * np.abs(indices) == size, 0.0, wavenumber)


def axis_wavenumbers(grid: Grid) -> tuple[AxisWavenumbers, AxisWavenumbers]:
    """Return the wavenumbers along x (n//2 + 1 of them, as rfft orders them) and along y (n, as fft orders them)."""
    n = grid.size
    along_x = np.arange(n // 2 + 1)
    along_y = np.rint(np.fft.fftfreq(n, 1 / n))
    return AxisWavenumbers(along_x, n, grid.length), AxisWavenumbers(along_y, n, grid.length)
