"""A released model: somebody's checkpoint of fixed channels and resolution, and the adapter that brings it here."""

from pdebench_fm.hookspecs import ModelEntry, hookimpl


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Return ``released-poisson``; new weights get a new version."""
    return [ModelEntry("released-poisson", "1", "released_model.model:ReleasedPoisson", "a released Poisson solver")]
