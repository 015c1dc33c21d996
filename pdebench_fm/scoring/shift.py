"""How far a downstream distribution really is from a pre-training one: measured from what the samplers drew.

The nominal ranges of a suite do not say it: a sampler may miss its range (calibrated Ψ), or a cap may thin out some of
its values (the wavenumbers of SYS-3).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.identity import canonical_json
from pdebench_fm.data.open import SetSpec, open_set
from pdebench_fm.errors import PLUGIN_ERRORS
from pdebench_fm.interfaces import Sampler, Split
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import call

if TYPE_CHECKING:
    from pdebench_fm.data.open import Pair
    from pdebench_fm.records.record import Record

DRAWS = 4096
BINS = 20
_IN_A_BIN = 50  # values of the smaller sample, at least: of fewer, chance decides
_CHUNK = 256  # examples of a file read at once

_SHOWN_BINS = range(24, 41)
_MOST_VALUES = 64  # whole numbers that have a bin each in a histogram to look at
_AGREE = 0.005  # of overlaps: what two digits show


@dataclass(frozen=True)
class Distributions:
    """What pre-training and downstream examples drew of the physics parameter, as histograms over the same bins.

    Args:
        edges: of the bins, rising, (bins + 1,).
        ends: the smallest and the largest value drawn; the outer edges where all are the same and no whole number.
        pretraining: part of the pre-training examples in each bin, (bins,), summing to 1.
        downstream: part of the downstream examples, likewise.
    """

    parameter: str
    edges: tuple[float, ...]
    ends: tuple[float, float]
    pretraining: tuple[float, ...]
    downstream: tuple[float, ...]


Shifts: TypeAlias = Mapping[str, Distributions]
"""Task → its distributions, of the tasks where they are known."""

UNKNOWN: Shifts = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Shift:
    """A sample of the physics parameter on either side, of examples of the same system.

    Args:
        pretraining: drawn in pre-training, (`DRAWS` of each part,).
        downstream: drawn downstream, likewise.
    """

    parameter: str
    pretraining: np.ndarray
    downstream: np.ndarray

    @property
    def overlap(self) -> float:
        """∫ min(p, q), between 0 and 1; see `overlap`."""
        return overlap(self.pretraining, self.downstream)

    def histograms(self) -> Distributions:
        """Return both samples as histograms to look at: a bin for each whole number, or else bins of equal width."""
        samples = (self.pretraining, self.downstream)
        if any(sample.ndim != 1 or not np.isfinite(sample).all() for sample in samples):
            raise ValueError(f"{self.parameter} must be one finite number an example")
        pooled = np.concatenate(samples)
        low, high = float(pooled.min()), float(pooled.max())
        if _whole(pooled) and high - low < _MOST_VALUES and max(abs(low), abs(high)) < 2**52:  # half numbers exist
            edges = np.arange(low - 0.5, high + 1.0)
        else:
            edges = np.histogram_bin_edges(pooled, _fitting_bins(samples))
            low, high = float(edges[0]), float(edges[-1])
        if len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError(f"{self.parameter}: what was drawn is too close together for bins")
        p, q = (np.histogram(sample, edges)[0] / len(sample) for sample in samples)
        return Distributions(self.parameter, tuple(edges.tolist()), (low, high), tuple(p.tolist()), tuple(q.tolist()))


class RealisedShift:
    """Measures pairs of distributions."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.of_pair = cache(self._of_pair)
        """The overlap of a `Pair`, computed once; None if it has none, or a sampler fails."""
        self._column = cache(self._read)

    def _of_pair(self, pair: Pair) -> float | None:
        try:
            return self.overlap(pair.source, pair.target)
        except PLUGIN_ERRORS:
            return None

    def overlap(self, source: Sequence[SetSpec], target: Sequence[SetSpec]) -> float | None:
        """Return the overlap of what `between` returns, between 0 and 1; None if that is None."""
        shift = self.between(source, target)
        return None if shift is None else shift.overlap

    def between(self, source: Sequence[SetSpec], target: Sequence[SetSpec]) -> Shift | None:
        """Draw the physics parameter of pre-training and downstream examples.

        Compared are examples of the same system whose samplers name the same physics parameter. Of a mixture only such
        parts count; parts of other systems would make the shift look larger or smaller than it is.

        Returns:
            both samples; None where examples come from files whose suite names no ``physics``, or no part of the source
            has the target's system.
        """
        if not all(map(_is_quantified, target)):
            return None
        wanted = [self._physics(spec) for spec in target]
        given = [self._physics(spec) for spec in filter(_is_quantified, source)]
        kinds = {kind for kind, _ in wanted}
        alike = [values for kind, values in given if kinds == {kind}]
        if not alike:
            return None
        ((_, parameter),) = kinds
        return Shift(parameter, np.concatenate(alike), np.concatenate([values for _, values in wanted]))

    def redrawn(self, records: Iterable[Record], pairs: Mapping[str, Pair]) -> dict[str, Distributions]:
        """Draw again what the overlaps of some records were measured on, to be looked at.

        Args:
            records: of one suite, version and profile.
            pairs: what the tasks of that suite go from and to, by name.

        Returns:
            the distributions by task. A task is left out where records have other downstream examples than the pair or
            another overlap, or none (their pre-training is then not the suite's), and where a sampler fails.
        """
        points = grouped((record for record in records if record.kind == "point"), lambda record: record.task)
        found: dict[str, Distributions] = {}
        for task, pair in pairs.items():
            with suppress(*PLUGIN_ERRORS):  # of a sampler, or a file that is not here
                shift = self._measured(points.get(task, ()), pair)
                if shift is not None:
                    found[task] = shift.histograms()
        return found

    def _measured(self, records: Collection[Record], pair: Pair) -> Shift | None:
        """Return the shift of a pair if it is the one that the records were measured with."""
        target = _on_any_grid([spec.description for spec in pair.target])
        if any(_on_any_grid(record.described.test.plain_sets()) != target for record in records):
            return None
        known = [record.overlap for record in records if record.overlap is not None]
        shift = self.between(pair.source, pair.target) if known else None
        if shift is None or not all(abs(shift.overlap - value) <= _AGREE for value in known):
            return None
        return shift

    def _physics(self, spec: SetSpec) -> tuple[tuple[str, str], np.ndarray]:
        """((system, parameter), what was drawn of it)."""
        description = spec.description
        if spec.path is not None and spec.physics is not None:
            system = description["system"]["name"] if "system" in description else ""
            labelled = {name: value for name, value in description.items() if name != "objective"}
            return (system, spec.physics), self._column(spec.path, canonical_json(labelled), spec.physics)
        factory = self._registry.load("samplers", description["sampler"]["name"])
        settings = canonical_json(description["settings"])
        parameter, values = _drawn(factory, settings, description["data_seed"], description["split"])
        return (description["system"]["name"], parameter), values

    def _read(self, path: Path, description: str, constant: str) -> np.ndarray:
        """A constant of the examples that a set takes from its file: of all, or of `DRAWS` spread evenly."""
        examples = open_set(SetSpec(json.loads(description), path), self._registry, "cpu").examples
        count = min(len(examples), DRAWS)
        chunks = np.array_split(np.arange(count) * len(examples) // count, -(-count // _CHUNK))
        return np.concatenate([examples.batch(chunk)[0][constant].numpy().astype(np.float64) for chunk in chunks])


def _is_quantified(spec: SetSpec) -> bool:
    """Whether a set says which number of an example quantifies its physics."""
    return "sampler" in spec.description or spec.physics is not None


@lru_cache(maxsize=256)
def _drawn(factory: Callable[..., Sampler], settings: str, data_seed: int, split: Split) -> tuple[str, np.ndarray]:
    """Draw the physics parameter of examples, once a process: other models and tasks have the same distributions.

    Returns:
        its name and its values, (`DRAWS`,), not to be written to.
    """
    sampler: Sampler = call(factory, json.loads(settings), data_seed=data_seed, split=split)
    values = np.array(sampler.draw(range(DRAWS))[sampler.physics], dtype=np.float64)
    values.flags.writeable = False
    return sampler.physics, values


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return Σ min(p, q) of two samples' histograms.

    Whole numbers are compared value by value, others in `BINS` bins that hold equally many of both samples together.
    Two samples of 4,096 from one continuous distribution overlap to about 0.96, not 1. Small samples, and whole numbers
    of more values than they can tell apart, have a bin for each `_IN_A_BIN` of the smaller one, two at least.
    """
    if first.ndim != 1 or second.ndim != 1:
        raise ValueError("the physics parameter is not one number per example")
    pooled = np.concatenate([first, second])
    most = max(2, min(len(first), len(second)) // _IN_A_BIN)
    values = np.unique(pooled)
    if _whole(pooled) and len(values) <= max(most, BINS):
        edges = np.append(values, np.inf)
    else:
        edges = np.quantile(pooled, np.linspace(0, 1, min(BINS, most) + 1))
        edges[-1] = np.inf
    p, q = (np.histogram(sample, edges)[0] / len(sample) for sample in (first, second))
    return float(np.minimum(p, q).sum())


def _fitting_bins(samples: Sequence[np.ndarray]) -> int:
    """How many bins have edges near the ends of either sample: one that both end in would look as if it were shared."""
    ends = np.array([(sample.min(), sample.max()) for sample in samples])
    places = (ends - ends.min()) / (np.ptp(ends) or 1.0)
    return min(_SHOWN_BINS, key=lambda count: float(np.abs(places * count - np.round(places * count)).max()))


def _whole(values: np.ndarray) -> bool:
    return np.array_equal(values, np.round(values))


def _on_any_grid(sets: Iterable[Mapping[str, Any]]) -> str:
    """Describe sets without their grids: an example is the same function on every grid."""
    return canonical_json([{name: value for name, value in part.items() if name != "grid"} for part in sets])
