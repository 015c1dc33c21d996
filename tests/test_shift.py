from __future__ import annotations

import numpy as np
import pytest

from pdebench_fm.data.sources import SetSpec, specify
from pdebench_fm.plugins import registry
from pdebench_fm.shift import RealisedShift, overlap
from pdebench_fm.suite import Distribution


def spec(system: str, split: str = "test", **settings: object) -> SetSpec:
    return specify(Distribution(system=system, settings=settings), registry(), split, 16, 32, 0)  # type: ignore[arg-type]


def test_whole_numbers_are_compared_value_by_value() -> None:
    first, second = np.array([1.0, 2, 3, 4] * 10), np.array([3.0, 4, 5, 6] * 5)
    assert overlap(first, second) == pytest.approx(0.5)
    assert overlap(first, first[::2] * 0 + 9) == 0.0
    assert overlap(first, np.repeat(first, 3)) == pytest.approx(1.0)


def test_a_part_in_common_is_found() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.uniform(0, 2, 20_000), generator.uniform(1, 3, 20_000)
    assert overlap(first, second) == pytest.approx(0.5, abs=0.03)
    assert overlap(first, first + 5) == 0.0
    assert overlap(first, generator.uniform(0, 2, 20_000)) > 0.96


def test_the_shifts_of_the_papers_first_system() -> None:
    shifts = RealisedShift(registry())
    source = [spec("poisson", "pretraining", eigenvalue=[1, 5])]
    found = [
        shifts.overlap(source, [spec("poisson", eigenvalue=ends)]) for ends in ([1, 2.5], [2.5, 7.5], [5, 10], [10, 20])
    ]
    # Uniform on (1, 5): densities are 1/4, and 1/1.5, 1/5, 1/5, 1/10.
    assert found == [pytest.approx(1.5 / 4, abs=0.05), pytest.approx(2.5 / 5, abs=0.05), 0.0, 0.0]


def test_the_calibrated_ratio_overlaps_where_its_nominal_ranges_do_not() -> None:
    shifts = RealisedShift(registry())
    found = shifts.overlap(
        [spec("advection-diffusion", "pretraining", ratio=[0.2, 1])], [spec("advection-diffusion", ratio=[1, 2])]
    )
    assert found is not None
    assert 0.05 < found < 0.4


def test_of_a_mixture_only_the_same_system_counts() -> None:
    shifts = RealisedShift(registry())
    poisson = spec("poisson", "pretraining", eigenvalue=[1, 5])
    helmholtz = spec("helmholtz", "pretraining", wavenumber=[5, 9])
    target = [spec("poisson", eigenvalue=[1, 2.5])]
    assert shifts.overlap([poisson, helmholtz], target) == shifts.overlap([poisson], target)
    assert shifts.overlap([helmholtz], target) is None


def test_of_examples_from_files_nothing_is_known() -> None:
    file = SetSpec({"file": "0" * 64, "split": "test", "count": 4})
    poisson = spec("poisson", eigenvalue=[1, 5])
    assert RealisedShift(registry()).overlap([poisson], [file]) is None
    assert RealisedShift(registry()).overlap([file], [poisson]) is None
