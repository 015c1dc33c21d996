"""Conformance checks for models, distributions, metrics and protocols, yours and ours.

In your plugin's tests:

    from pdebench_fm.testing import model_checks

    @model_checks("my-model")
    def test_conformance(check):
        check()

``pdefm check model my-model`` runs the same checks; so do ``pdefm check distribution|metric|protocol``. Each check is a
function with one claim; it raises `ConformanceError` with what was expected and what came, or `Skipped` with the reason
if there is nothing to check. `in_pytest` runs one check in a test of your own.
"""

from __future__ import annotations

from pdebench_fm.testing.claims import Check, ConformanceError, Skipped, in_pytest
from pdebench_fm.testing.distributions import DISTRIBUTION_CHECKS, checks_of_distribution, distribution_checks
from pdebench_fm.testing.examples import SmoothExamples
from pdebench_fm.testing.metrics import METRIC_CHECKS, MetricSubject, checks_of_metric, metric_checks
from pdebench_fm.testing.models import MODEL_CHECKS, checks_of_model, model_checks
from pdebench_fm.testing.protocols import PROTOCOL_CHECKS, checks_of_protocol, protocol_checks

__all__ = [
    "DISTRIBUTION_CHECKS",
    "METRIC_CHECKS",
    "MODEL_CHECKS",
    "PROTOCOL_CHECKS",
    "Check",
    "ConformanceError",
    "MetricSubject",
    "Skipped",
    "SmoothExamples",
    "checks_of_distribution",
    "checks_of_metric",
    "checks_of_model",
    "checks_of_protocol",
    "distribution_checks",
    "in_pytest",
    "metric_checks",
    "model_checks",
    "protocol_checks",
]
