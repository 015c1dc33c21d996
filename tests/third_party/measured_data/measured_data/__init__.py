"""Measured fields: a suite whose examples come from HDF5 files, with no PDE behind them.

``python -m measured_data`` puts the files beside the suite. (Real measurements would be downloaded; these are made up.)
"""

from pathlib import Path

from pdebench_fm.hookspecs import SuiteEntry, hookimpl


@hookimpl
def pdefm_suites() -> list[SuiteEntry]:
    """Return ``measured``."""
    return [SuiteEntry("measured", Path(__file__).with_name("measured.yaml"), "from one heated plate to another")]
