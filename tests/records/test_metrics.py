"""Records shown by another metric than the main score."""

import pytest

from pdebench_fm.errors import RunError, UnknownNameError
from pdebench_fm.records.metrics import with_scores_of
from tests.support.records import make_record

BOTH = {"metrics": {"relative_l2": 0.1, "worst": 3.0}, "interval": {"relative_l2": (0.09, 0.11), "worst": (2.0, 4.0)}}


def test_a_metric_takes_the_place_of_the_score_and_nothing_else_changes():
    record = make_record(**BOTH)
    (shown,) = with_scores_of([record], "worst")
    assert (shown.metrics, shown.interval) == ({"relative_l2": 3.0}, {"relative_l2": (2.0, 4.0)})
    assert (shown.cell, shown.learning_rate, shown.trials) == (record.cell, record.learning_rate, record.trials)
    (shown,) = with_scores_of([make_record(**BOTH | {"interval": {}})], "worst")
    assert shown.interval == {}


def test_a_point_without_it_has_failed_and_says_why():
    without = make_record(seed=1, notes={"metric worst": "was not finite"})
    _, lacking, diverged = with_scores_of(
        [make_record(**BOTH), without, make_record(seed=2, status="diverged")], "worst"
    )
    assert (lacking.status, lacking.reason, lacking.metrics) == ("failed", "was not finite", {})
    assert diverged.status == "diverged"


def test_what_no_record_has_and_what_is_no_error_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'worst'"):
        with_scores_of([make_record(**BOTH)], "wurst")
    with pytest.raises(RunError, match="metric worst: has negative values"):
        with_scores_of([make_record(metrics={"relative_l2": 0.1, "worst": -1.0})], "worst")
