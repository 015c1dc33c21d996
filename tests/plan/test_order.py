"""In which order jobs may run, how long they take side by side, and the chain that bounds it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from pdebench_fm.errors import UnknownNameError, UsageError
from pdebench_fm.plan.estimate import estimate
from pdebench_fm.plan.gpus import GPUS, find_gpu
from pdebench_fm.plan.job import Job, Point, Trial
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.order import Order, longest_chain, wall_seconds
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry import registry
from pdebench_fm.suite.reading import load_suite
from tests.support.installed import with_toy
from tests.support.toy import plan_of, run_in, toy_suite


def test_time_falls_with_workers_down_to_the_longest_chain(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_toy())
    jobs = list(plan.jobs.values())
    seconds = {job.id: float(number + 1) for number, job in enumerate(jobs)}
    times = [wall_seconds(jobs, seconds, workers) for workers in (1, 2, 4, len(jobs))]
    chain = longest_chain(jobs, seconds)
    assert times[0] == pytest.approx(sum(seconds.values()))
    assert times == sorted(times, reverse=True)
    assert times[-1] == pytest.approx(sum(seconds[job.id] for job in chain))
    assert all(earlier.id in later.parents for earlier, later in itertools.pairwise(chain))


def test_of_the_longest_chain_only_what_is_left_counts(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_toy())
    left = [job for job in plan.jobs.values() if not isinstance(job, Trial)]
    seconds = {job.id: 1.0 for job in left}
    assert len(longest_chain(left, seconds)) == 2  # the pre-training's score, then that of zero-shot
    assert longest_chain([], {}) == []
    assert wall_seconds([], {}, 8) == 0


def everything(order: Order) -> list[Job]:
    """Submit all that may be submitted."""
    found = []
    while (job := order.pop()) is not None:
        found.append(job)
        order.submitted(job)
    return found


def test_a_plan_is_submitted_at_once_parents_first(tmp_path: Path) -> None:
    jobs = list(plan_of(tmp_path, with_toy()).jobs.values())
    order = Order(jobs)
    submitted = everything(order)
    assert {job.id for job in submitted} == {job.id for job in jobs}
    places = {job.id: place for place, job in enumerate(submitted)}
    assert all(places[parent] < places[job.id] for job in jobs for parent in job.parents)
    for job in submitted:
        order.ended(job)
    assert order.pop() is None  # nothing is submitted twice


def test_a_point_that_may_add_trials_waits_for_the_end_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_toy())
    point = next(job for job in plan.jobs.values() if isinstance(job, Point) and len(job.trials) > 1)
    trials = [plan.jobs[id] for id in point.trials]
    order = Order([*trials, replace(point, extend=1)])
    assert [job.id for job in everything(order)] == list(point.trials)
    for trial in trials:
        assert order.pop() is None
        order.ended(trial)
    assert isinstance(order.pop(), Point)


def test_a_trial_that_two_points_add_is_submitted_once_and_both_wait_for_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_toy())
    point = next(job for job in plan.jobs.values() if isinstance(job, Point) and job.trials)
    added = plan.trial(point.trials[0])
    both = [replace(point, trials=(), start=replace(point.start, job=None), seed=n, extend=1) for n in (0, 1)]
    order = Order(both)
    assert everything(order) == both
    for one in both:
        order.put_back(one, [added])
    assert everything(order) == [added]
    order.ended(added)
    assert everything(order) == both
    order.put_back(both[0], [added])  # its result is there by now, and is found again
    assert everything(order) == [added]


def test_a_faster_gpu_takes_less_time(tmp_path: Path) -> None:
    found = registry()
    suite = load_suite(toy_suite(tmp_path), found)
    plan = make_plan(suite, "tiny", model_spec(found, "unet", {"width": 4, "levels": 1}), found)
    slow, fast = (estimate(plan, plan.jobs, GPUS[name]).seconds for name in ("v100", "h200"))
    assert slow >= fast > 0


def test_the_files_of_a_run_are_those_of_its_estimate(tmp_path: Path) -> None:
    found = registry()
    suite = load_suite(toy_suite(tmp_path), found)
    spec = model_spec(found, "unet", {"width": 4, "levels": 1})
    plan = make_plan(suite, "tiny", spec, found, output=tmp_path / "runs")
    cost = estimate(plan, plan.jobs)
    run_in(tmp_path / "runs", plan)
    written = list((tmp_path / "runs" / "jobs").rglob("*"))
    assert len(written) == cost.files
    assert cost.bytes / 2 < sum(path.stat().st_size for path in written if path.is_file()) < 2 * cost.bytes


def test_an_unknown_gpu_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'h200'"):
        find_gpu("h201")


def test_a_model_that_is_no_network_has_no_cost_on_a_gpu(tmp_path: Path) -> None:
    found = with_toy()
    plan = make_plan(load_suite(toy_suite(tmp_path), found), "tiny", model_spec(found, "zero"), found)
    with pytest.raises(UsageError, match="--device h200: the operations of zero cannot be counted"):
        estimate(plan, plan.jobs, GPUS["h200"])
