"""Suites: reading and checking them."""

from pdebench_fm.suite.reading import find_suite, load_suite
from pdebench_fm.suite.scale import ExampleCounts, FineTuning, Profile, ScratchSearch, Training
from pdebench_fm.suite.schema import Distribution, Suite, Task

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
