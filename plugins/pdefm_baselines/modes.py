"""Fourier coefficients of periodic fields that mean the same on every grid."""

from __future__ import annotations

import numpy as np


def coefficients(fields: np.ndarray, modes: int) -> np.ndarray:
    """Return the coefficients of |k_y| ≤ modes, 0 ≤ k_x ≤ modes; a grid must have more than 2 · modes points a side.

    Args:
        fields: (…, n, n), real.
        modes: highest wavenumber kept.

    Returns:
        (…, 2 · modes + 1, modes + 1), complex; k_y in the order 0 … modes, −modes … −1. They do not depend on n.
    """
    spectrum = np.fft.rfft2(fields, norm="forward")[..., : modes + 1]
    return np.concatenate([spectrum[..., : modes + 1, :], spectrum[..., spectrum.shape[-2] - modes :, :]], axis=-2)


def evaluate(kept: np.ndarray, n: int) -> np.ndarray:
    """Return the fields (…, n, n) that have the coefficients ``kept``, laid out as by `coefficients`, and no others."""
    modes = kept.shape[-1] - 1
    spectrum = np.zeros((*kept.shape[:-2], n, n // 2 + 1), dtype=complex)
    spectrum[..., : modes + 1, : modes + 1] = kept[..., : modes + 1, :]
    spectrum[..., n - modes :, : modes + 1] = kept[..., modes + 1 :, :]
    return np.fft.irfft2(spectrum, s=(n, n), norm="forward")
