"""Baselines that a network should beat: a regression per Fourier mode, the mean solution, and zero."""

from __future__ import annotations

from pdebench_fm.hookspecs import ModelEntry, hookimpl


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Return ``mode-regression``, ``mean`` and ``zero``."""
    return [
        ModelEntry(
            "mode-regression",
            "1",
            "pdefm_baselines.mode_regression:ModeRegression",
            "ridge regression of each Fourier mode of the solution; set modes and degree",
        ),
        ModelEntry("mean", "1", "pdefm_baselines.reference:Mean", "the mean training solution, whatever the input"),
        ModelEntry("zero", "1", "pdefm_baselines.reference:Zero", "zero, whatever the input: a relative error of 1"),
    ]
