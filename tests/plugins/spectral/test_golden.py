"""What is drawn does not change without a version: exact hashes of what is exact, tolerances for the rest.

After a deliberate change bump the version in `pdefm_spectral.versions`, add a line to the CHANGELOG, and rewrite the
file with ``PDEFM_REWRITE_GOLDEN=1 python -m pytest tests/plugins/spectral/test_golden.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pdefm_spectral import versions

from .helpers import CALIBRATED, CASES, EXACT, HELMHOLTZ, POISSON, Case

GOLDEN = Path(__file__).parents[2] / "golden" / "draws.json"
IDS = [*range(32), 1000, 32767]
# Sums and products of raw bits: the same on every machine. Ψ, K, v and the peak go through libm or sums of products.
EXACTLY = {
    "poisson": ("weights", "eigenvalue", "theta"),
    "advection-diffusion": ("weights", "eigenvalue", "theta", "target_ratio", "phi"),
    "exact": ("weights", "eigenvalue", "theta", "target_ratio", "phi"),
    "helmholtz": ("weights", "wavenumber"),
}
VERSIONS = {
    POISSON.name: versions.POISSON,
    CALIBRATED.name: versions.ADVECTION_DIFFUSION,
    EXACT.name: versions.ADVECTION_DIFFUSION,
    HELMHOLTZ.name: versions.HELMHOLTZ,
}


def observed(case: Case) -> dict[str, Any]:
    drawn = case.sample(data_seed=0, split="train").draw(IDS)
    exact = {
        name: hashlib.sha256(np.ascontiguousarray(drawn[name], dtype="<f8").tobytes()).hexdigest()
        for name in EXACTLY[case.name]
    }
    close = {name: drawn[name][:4].tolist() for name in sorted(set(drawn) - set(exact))}
    return {"version": VERSIONS[case.name], "exact": exact, "close": close}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_are_those_of_their_version(case: Case):
    now = observed(case)
    if os.environ.get("PDEFM_REWRITE_GOLDEN"):
        stored = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps({**stored, case.name: now}, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())[case.name]
    assert now["version"] == golden["version"]
    assert now["exact"] == golden["exact"]
    assert set(now["close"]) == set(golden["close"])
    for name, values in golden["close"].items():
        np.testing.assert_allclose(now["close"][name], values, rtol=1e-9, err_msg=name)
