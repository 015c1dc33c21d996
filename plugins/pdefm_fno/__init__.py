"""The Fourier neural operator, in the paper's four sizes and any other."""

from __future__ import annotations

from pdebench_fm.hookspecs import ModelEntry, hookimpl

VERSION = "1"


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Return ``fno`` (width 32, modes 16 unless set otherwise) and the paper's sizes; all are one family."""
    summaries = {
        "fno": (32, 16, "Fourier neural operator; set width and modes"),
        "fno-64k": (16, 4, "the paper's 64K FNO: 67,281 parameters on SYS-1"),
        "fno-1m": (16, 16, "the paper's 1M FNO: 1,050,321 parameters on SYS-1"),
        "fno-16m": (32, 32, "the paper's 16M FNO: 16,783,777 parameters on SYS-1"),
        "fno-256m": (128, 32, "the paper's 256M FNO: 268,535,425 parameters on SYS-1"),
    }
    return [
        ModelEntry(name, VERSION, "pdefm_fno.model:FNO", summary, {"width": width, "modes": modes}, family="fno")
        for name, (width, modes, summary) in summaries.items()
    ]
