"""Suites: reading and checking them."""

from pdebench_fm.suite.reading import find_suite, load_suite
from pdebench_fm.suite.schema import (
    Distribution,
    ExampleCounts,
    FineTuning,
    Profile,
    ScratchSearch,
    Suite,
    Task,
    Training,
)

__all__ = [
    "Distribution",
    "ExampleCounts",
    "FineTuning",
    "Profile",
    "ScratchSearch",
    "Suite",
    "Task",
    "Training",
    "find_suite",
    "load_suite",
]
