"""Benchmark of transfer for neural operators: is a PDE foundation model worth its pre-training?

>>> import pdebench_fm
>>> result = pdebench_fm.evaluate("my-model", "smoke")  # doctest: +SKIP
>>> examples = pdebench_fm.load_examples("ood_sys1:SYS-1(1,5)", split="train", count=16, grid=64)  # doctest: +SKIP
>>> frame = pdebench_fm.load_records("runs")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from pdebench_fm._version import __version__

__all__ = ["__version__", "evaluate", "load_examples", "load_records"]

if TYPE_CHECKING:
    from pdebench_fm.api import evaluate, load_examples, load_records


def __getattr__(name: str) -> Any:
    """Import a call on first use, so that importing the package stays cheap."""
    if name in ("evaluate", "load_examples", "load_records"):
        from pdebench_fm import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
