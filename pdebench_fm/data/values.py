"""Find values in data files that cannot be used, before any training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from pdebench_fm._util.identity import canonical_json
from pdebench_fm.data.hashing import remember, remembered
from pdebench_fm.data.open import SetSpec, open_set
from pdebench_fm.errors import DataFileError
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry import Registry

_VERSION = "1"
_SCORED = ("validation", "test")
"""Splits whose examples get relative errors."""


def check_values(specs: Iterable[SetSpec], registry: Registry) -> None:
    """Read every set that comes from a file, and refuse values that cannot be trained on or scored.

    A set that was found good before is not read again.
    """
    keys = {canonical_json([_VERSION, dict(spec.description)]): spec for spec in specs if spec.path is not None}
    for text, spec in keys.items():
        key = hashlib.sha256(text.encode("ascii")).hexdigest()
        if remembered("values", key) == "good":
            continue
        opened = open_set(spec, registry, "cpu")
        problem = opened.examples.problem
        for number, (_, target) in enumerate(opened.examples.batches()):
            if spec.description["split"] in _SCORED:
                check_target(opened.name, problem, target, number * CHUNK)
        remember("values", key, "good")


def check_target(name: str, problem: Problem, target: Fields, start: int) -> None:
    """Blame the data for what would otherwise look like a model that diverged.

    A reference solution that is zero everywhere, or not finite, has no relative error.

    Args:
        target: reference solutions, (batch, n, n) each.
        start: number of the first example.
    """
    largest = np.max([target[name].abs().amax(dim=(-2, -1)).cpu().numpy() for name in problem.output_names], axis=0)
    usable = np.isfinite(largest) & (largest > 0)
    if not usable.all():
        first = int(np.flatnonzero(~usable)[0])
        what = "zero everywhere" if largest[first] == 0 else "not finite"
        raise DataFileError(
            f"{name}: the reference solution of example {start + first} is {what}: relative errors are not defined"
        )
