"""How far a downstream distribution really is from a pre-training one: measured from what the samplers drew.

The nominal ranges of a suite do not say it: a sampler may miss its range (calibrated Ψ), or a cap may thin out some of
its values (the wavenumbers of SYS-3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pdebench_fm.data.sources import SetSpec, make_sampler
from pdebench_fm.identity import canonical_json
from pdebench_fm.plugins import Registry

DRAWS = 4096
BINS = 20


class RealisedShift:
    """Measures pairs of distributions; what a sampler drew is kept for the next pair.

    Args:
        registry: where samplers come from.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._drawn: dict[str, tuple[tuple[str, str], np.ndarray]] = {}

    def overlap(self, source: Sequence[SetSpec], target: Sequence[SetSpec]) -> float | None:
        """Return the overlap of the physics parameter's distributions, between 0 and 1: ∫ min(p, q).

        Compared are examples of the same system whose samplers name the same physics parameter. Of a mixture only such
        parts count; parts of other systems would make the shift look larger or smaller than it is.

        Args:
            source: what the model was pre-trained on.
            target: the downstream examples.

        Returns:
            the overlap; None where examples come from files, or no part of the source has the target's system.
        """
        if any("sampler" not in spec.description for spec in target):
            return None
        wanted = [self._physics(spec) for spec in target]
        given = [self._physics(spec) for spec in source if "sampler" in spec.description]
        kinds = {kind for kind, _ in wanted}
        alike = [values for kind, values in given if kinds == {kind}]
        if not alike:
            return None
        return overlap(np.concatenate(alike), np.concatenate([values for _, values in wanted]))

    def _physics(self, spec: SetSpec) -> tuple[tuple[str, str], np.ndarray]:
        """((system, parameter), what was drawn of it)."""
        key = canonical_json(dict(spec.description))
        if key not in self._drawn:
            sampler = make_sampler(spec.description, self._registry)
            values = np.asarray(sampler.draw(range(DRAWS))[sampler.physics], dtype=np.float64)
            self._drawn[key] = (spec.description["system"]["name"], sampler.physics), values
        return self._drawn[key]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return Σ min(p, q) of two samples' histograms.

    Whole numbers are compared value by value, others in `BINS` bins that hold equally many of both samples together.
    Two samples of 4,096 from one continuous distribution overlap to about 0.96, not 1.
    """
    pooled = np.concatenate([first, second])
    if np.array_equal(pooled, np.round(pooled)):
        edges = np.append(np.unique(pooled), np.inf)
    else:
        edges = np.quantile(pooled, np.linspace(0, 1, BINS + 1))
        edges[-1] = np.inf
    p, q = (np.histogram(sample, edges)[0] / len(sample) for sample in (first, second))
    return float(np.minimum(p, q).sum())
