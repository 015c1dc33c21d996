"""Unsupervised pre-training after arXiv 2402.15734: give back fields that are masked, or seen on a coarse grid."""

from pdebench_fm.hookspecs import ObjectiveEntry, hookimpl


@hookimpl
def pdefm_objectives() -> list[ObjectiveEntry]:
    """Register the objectives."""
    return [
        ObjectiveEntry(
            "masked", "1", "pdefm_objectives.masked:Masked", "fill in masked squares; set ratio and squares"
        ),
        ObjectiveEntry(
            "super-resolution",
            "1",
            "pdefm_objectives.super_resolution:SuperResolution",
            "refine averages over squares of points; set factor",
        ),
    ]
