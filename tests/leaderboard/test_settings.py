"""Records of one suite, version and profile that were made with different settings do not stand in one table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm._util.identity import job_id
from pdebench_fm.leaderboard import RefusedError, add, build, check
from pdebench_fm.leaderboard.audit import disagreements
from pdebench_fm.leaderboard.store import write
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.records.record import Record
from pdebench_fm.suite.reading import load_suite
from tests.support.installed import with_toy
from tests.support.records import append, make_record, make_suite, make_trial, with_job
from tests.support.toy import run_in


def found(records: Iterable[Record]) -> list[str]:
    return [f"{where} {what}" for where, what in disagreements([(f"at:{i}", r) for i, r in enumerate(records, 1)])]


def point(examples: int, *spent: tuple[int, int], **changes: Any) -> Record:
    """A record with a trial for each (epochs, steps)."""
    base = {"examples": examples, "seed": changes.get("seed", 0), "model": changes.get("model", "conv-small")}
    trials = [
        make_trial(rate, 0.1, epochs=epochs, steps=steps, job_id=job_id({**base, "rate": rate}))
        for rate, (epochs, steps) in zip((1e-3, 1e-2, 1e-1), spent, strict=False)
    ]
    return make_record(examples=examples, trials=tuple(trials), **changes)


def twice(examples: int, epochs: int, steps: int, **changes: Any) -> Record:
    """A record with two trials that spent the same."""
    return point(examples, (epochs, steps), (epochs, steps), **changes)


# The suite was edited, its version was not ---------------------------------------------------------------------------


SUITE = """\
name: own
version: 1
description: One task.
default_profile: tiny
distributions: {A: {system: poisson, eigenvalue: [1, 5]}, B: {system: poisson, eigenvalue: [5, 10]}}
pretraining: {poisson: [A]}
tasks: [{name: B from A, pretraining: poisson, downstream: B, shift: med}]
protocols: [zero-shot, fine-tune, scratch]
profiles:
  tiny:
    grid: 16
    examples: {pretraining: 8, validation: 8, test: 8, downstream: [4]}
    training: {epochs: 2, batch_size: 8, learning_rates: [1e-3]}
    fine_tuning: {epochs: 2, learning_rates: [1e-4]}
    seeds: 2
"""


def records_of(folder: Path, old: str = "", new: str = "", precision: str = "float32") -> list[Record]:
    """Run the suite, with a piece of its text replaced."""
    registry = with_toy()
    path = folder / "own.yaml"
    assert old in SUITE
    path.write_text(SUITE.replace(old, new, 1), encoding="utf-8")
    plan = make_plan(load_suite(path, registry), "tiny", model_spec(registry, "toy"), registry, precision=precision)
    return run_in(folder / "runs", plan).records


def second_seed_of(after: list[Record], before: list[Record]) -> list[Record]:
    """What an interrupted run of the edited suite leaves: where there are two seeds, the second is its own."""
    return [new if new.seed == 1 else old for old, new in zip(before, after, strict=True)]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return records_of(tmp_path_factory.mktemp("before"))


FINE_TUNING = "fine_tuning: {epochs: 2"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (FINE_TUNING, "fine_tuning: {epochs: 4", "budget.epochs 4 differs from 2"),
        (FINE_TUNING, "fine_tuning: {steps: 5", "budget.epochs None differs from 2"),
        (FINE_TUNING, "fine_tuning: {batch_size: 2, epochs: 2", "budget.batch_size 2 differs from 8"),
        (
            "learning_rates: [1e-4]",
            "learning_rates: [1e-2]",
            "trials.hyperparameters.0.learning_rate 0.01 differs from 0.0001",
        ),
        (FINE_TUNING, "fine_tuning: {validation: 4, epochs: 2", "validation_examples 4 differs from 8"),
        (" training: {epochs: 2", " training: {epochs: 3", "job.start.job "),
        ("[1, 5]", "[1, 4]", "job.start.job "),
        ("grid: 16", "grid: 18", "job.test.sets.0.grid 18 differs from 16"),
        ("[5, 10]", "[5, 9]", "job.test.sets.0.settings.eigenvalue.1 9.0 differs from 10.0"),
        ("downstream: [4]", "downstream: [4], pool: 32", "job.train.sets.0.count 32 differs from 8"),
    ],
)
def test_an_edit_of_the_suite_is_found_between_the_seeds_of_one_cell(
    tmp_path: Path, before: list[Record], old: str, new: str, message: str
) -> None:
    after = records_of(tmp_path, old, new)
    lines = found(second_seed_of(after, before))
    assert any(message in line for line in lines), lines
    assert found(before) == found(after) == []


def test_such_records_are_neither_added_nor_built_nor_in_order(tmp_path: Path, before: list[Record]) -> None:
    """Fine-tuning was done before the edit, scratch after it: the gain would be one of steps."""
    after = records_of(tmp_path, FINE_TUNING, "fine_tuning: {epochs: 9")
    mixed = [new if new.protocol == "scratch" else old for old, new in zip(before, after, strict=True)]
    append(tmp_path / "mixed.jsonl", mixed)
    wanted = "budget.epochs 9 differs from 2"
    with pytest.raises(RefusedError, match=f"nothing added: .*mixed.jsonl:.* {wanted} at .*mixed.jsonl:"):
        add(tmp_path / "board", [tmp_path / "mixed.jsonl"])
    assert not (tmp_path / "board").exists()
    write(tmp_path / "board", [("mixed:1", record) for record in mixed], (), {})
    with pytest.raises(RefusedError, match=f"nothing built: .*{wanted}"):
        build(tmp_path / "board")
    assert any(wanted in line for line in check(tmp_path / "board"))


def test_two_precisions_are_found(tmp_path: Path, before: list[Record]) -> None:
    after = records_of(tmp_path, precision="float64")
    assert any("precision float64 differs from float32" in line for line in found(second_seed_of(after, before)))


def test_the_first_two_records_that_disagree_are_named_once() -> None:
    given = [with_job(make_record(seed=seed), training=str(seed // 2)) for seed in range(6)]
    (line,) = found(given)
    assert line.startswith("at:3 job.training 1 differs from 0 at at:1: ")


# What a budget is ----------------------------------------------------------------------------------------------------


def given(epochs: int | None, **changes: Any) -> Record:
    """A record of a budget."""
    return make_record(budget={"epochs": epochs, "steps": None if epochs else 5, "batch_size": 8}, **changes)


def test_fine_tuning_and_scratch_of_all_models_have_one_budget_and_other_arms_their_own() -> None:
    ours = [given(2), given(2, protocol="scratch"), given(2, model="other", examples=64)]
    assert found([*ours, given(9, protocol="head-only"), given(40, kind="pretraining", protocol="pretraining")]) == []
    for other in (given(3, protocol="scratch"), given(3, model="other"), given(None, examples=64)):
        (line,) = found([*ours, other])
        assert line.startswith("at:4 budget.epochs ")


def test_a_record_older_than_budgets_says_nothing_of_one() -> None:
    assert found([given(2), make_record(seed=1), make_record("zero-shot", examples=0)]) == []


# What may stand side by side -----------------------------------------------------------------------------------------


def test_models_may_search_spaces_of_their_own_and_start_where_they_like() -> None:
    ridge = make_trial(1e-3, hyperparameters={"ridge": 1e-4}, epochs=1, steps=0)
    ours, theirs = make_suite("ours"), make_suite("theirs")
    theirs = [r.model_copy(update={"trials": (ridge,)}) if r.trials else r for r in theirs]
    weights = [
        with_job(r, start={"from": "weights", "sha256": "ab" * 32}) if r.protocol != "scratch" else r
        for r in make_suite("weights")
        if r.kind == "point"
    ]
    lost = [
        make_record("lost", status=status, seed=i) for i, status in enumerate(("failed", "unsupported", "diverged"))
    ]
    assert found([*ours, *theirs, *weights, *lost]) == []


def test_two_files_of_weights_are_two_models() -> None:
    given = [
        with_job(make_record(task=task), start={"from": "weights", "sha256": sha * 32})
        for task, sha in (("one", "ab"), ("two", "cd"))
    ]
    assert any("job.start.sha256" in line for line in found(given))


def test_records_older_than_a_key_and_other_versions_and_profiles_are_not_compared() -> None:
    given = [make_record(validation_examples=size, seed=seed) for seed, size in enumerate((None, 32, None))]
    assert found(given) == []
    base = make_record()
    others = [base.model_copy(update={"precision": "float64", key: value}) for key, value in OTHERS.items()]
    assert found([base, *others]) == []


OTHERS = {"suite": "other", "suite_version": 2, "profile": "other"}
