"""The suites that ship with the benchmark: the study of arXiv 2306.00258, and a smoke suite."""

from pathlib import Path

from pdebench_fm.hookspecs import SuiteEntry, hookimpl

_INSTALLED = Path(__file__).with_name("suites")
_CHECKOUT = Path(__file__).parents[2] / "suites"

_SUMMARIES = {
    "smoke": "every system and a mixed pre-training at 32², in two minutes",
    "ood_sys1": "Poisson: SYS-1(1,5) to eigenvalues ever further out of range (paper, Table 1 and Fig. 5)",
}


@hookimpl
def pdefm_suites() -> list[SuiteEntry]:
    """Register the shipped suites."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return [SuiteEntry(name, folder / f"{name}.yaml", summary) for name, summary in _SUMMARIES.items()]
