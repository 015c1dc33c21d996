from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pdefm_transfer.protocols import FineTune

from pdebench_fm.errors import PluginError
from pdebench_fm.hookspecs import SuiteEntry
from pdebench_fm.leaderboard.plans import against_plans
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.records.record import Record
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.prepare import prepare
from pdebench_fm.suite.reading import load_suite
from tests.support.installed import with_toy
from tests.support.toy import Toy, mixed_weights, run_in, toy_suite


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Everything installed, and the suite ``toy``."""
    return with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(tmp_path), ""))


MADE: dict[tuple[str, str, str], list[Record]] = {}


def records_of(folder: Path, registry: Registry, model: str = "zero", old: str = "", new: str = "") -> list[Record]:
    """Run the suite, with one piece of its text replaced; the same only once, since records cannot be changed."""
    folder.mkdir(exist_ok=True)
    path = toy_suite(folder)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    if (model, old, new) not in MADE:
        plan = make_plan(load_suite(path, registry), "tiny", model_spec(registry, model), registry)
        MADE[model, old, new] = run_in(folder / "runs", plan).records
    return MADE[model, old, new]


def found(records: list[Record], registry: Registry) -> set[str]:
    return {what for _, what in against_plans([("here:1", record) for record in records], registry)}


def test_a_protocol_that_is_broken_here_does_not_let_records_pass_unseen(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = records_of(tmp_path / "run", registry)
    monkeypatch.setattr(FineTune, "sizes", lambda *_: 1 / 0)
    with pytest.raises(PluginError, match=r"^protocol 'fine-tune': sizes: ZeroDivisionError"):
        found(records, registry)


@pytest.mark.parametrize("model", ["zero", "toy"])
def test_records_of_the_suite_are_what_it_plans(tmp_path: Path, registry: Registry, model: str) -> None:
    assert found(records_of(tmp_path / "run", registry, model), registry) == set()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("eigenvalue: [5, 10]", "eigenvalue: [1, 1]", "its data are not those of toy v1, profile tiny"),
        ("test: 8", "test: 4", "its data are not those of toy v1, profile tiny"),
        ("fine_tuning: {epochs: 2", "fine_tuning: {epochs: 4", "its job is not what toy v1 plans"),
        ("downstream: [4, 8]", "downstream: [4, 6]", "toy v1 plans no such point"),
    ],
)
def test_records_of_an_easier_suite_of_the_same_name_are_not(
    tmp_path: Path, registry: Registry, old: str, new: str, message: str
) -> None:
    texts = found(records_of(tmp_path / "run", registry, "zero", old, new), registry)
    assert any(text.startswith(message) for text in texts), texts


def test_another_configuration_does_not_pass_under_the_registered_name(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "run").mkdir()
    suite = load_suite(toy_suite(tmp_path / "run"), registry)
    spec = model_spec(registry, "toy", {"width": 2})
    records = run_in(tmp_path / "run" / "runs", make_plan(suite, "tiny", spec, registry)).records
    assert {record.model for record in records} == {"toy,width=2"}
    assert found(records, registry) == set()
    for name in ("toy", "toy,width=3"):
        renamed = [record.model_copy(update={"model": name}) for record in records]
        assert found(renamed, registry) == {
            f"model: must be 'toy,width=2', as its arguments, precision and weights say, got {name!r}"
        }


@pytest.mark.parametrize("more", ["precision=bfloat16", "pretrained=0123abcd", "mine"])
def test_a_copy_does_not_pass_under_a_longer_name(tmp_path: Path, registry: Registry, more: str) -> None:
    copies = [r.model_copy(update={"model": f"toy,{more}"}) for r in records_of(tmp_path / "run", registry, "toy")]
    assert found(copies, registry) == {
        f"model: must be 'toy', as its arguments, precision and weights say, got 'toy,{more}'"
    }


def test_precision_and_weights_of_a_run_are_in_its_name(tmp_path: Path, registry: Registry) -> None:
    suite = toy_suite(tmp_path)
    plain = make_plan(load_suite(suite, registry), "tiny", model_spec(registry, "toy"), registry)
    weights = mixed_weights(tmp_path / "runs", run_in(tmp_path / "runs", plain).records)
    (plan,) = prepare("toy", suite, pretrained=weights, precision="bfloat16", installed=registry, device="cpu")
    records = run_in(tmp_path / "other", plan).records
    (name,) = {record.model for record in records}
    assert name.startswith("toy,precision=bfloat16,pretrained=")
    assert found(records, registry) == set()
    renamed = [record.model_copy(update={"model": f"{name[:-8]}01234567"}) for record in records]
    assert found(renamed, registry) == {
        f"model: must be {name!r}, as its arguments, precision and weights say, got '{name[:-8]}01234567'"
    }


def test_a_suite_that_is_given_goes_before_the_registered_one(tmp_path: Path, registry: Registry) -> None:
    records = records_of(tmp_path / "run", registry, "zero", "eigenvalue: [5, 10]", "eigenvalue: [1, 1]")
    given = load_suite(tmp_path / "run" / "toy.yaml", registry)
    located = [("here:1", record) for record in records]
    assert list(against_plans(located, registry, [given])) == []
    assert list(against_plans(located, registry)) != []


def test_a_seed_beyond_what_a_suite_can_have_is_not_planned(tmp_path: Path, registry: Registry) -> None:
    plain = [record for record in records_of(tmp_path / "run", registry) if record.protocol == "scratch"]
    assert found([*plain, plain[0].model_copy(update={"seed": 3_000_000})], registry) == {"toy v1 plans no such point"}


def test_a_model_that_is_not_installed_must_at_least_have_the_suites_data(tmp_path: Path, registry: Registry) -> None:
    plain = [r.model_copy(update={"model": "elsewhere"}) for r in records_of(tmp_path / "a", registry)]
    assert found(plain, registry) == set()
    easier = records_of(tmp_path / "b", registry, "zero", "eigenvalue: [5, 10]", "eigenvalue: [1, 1]")
    texts = found([r.model_copy(update={"model": "elsewhere"}) for r in easier], registry)
    assert texts == {"its data are not those of toy v1, profile tiny"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shift": "large"}, "shift: must be 'med', as in toy v1, got 'large'"),
        ({"under_trained": True}, "under_trained: must be False, as in toy v1, got True"),
    ],
)
def test_what_a_record_repeats_of_its_suite_is_compared(
    tmp_path: Path, registry: Registry, changes: dict[str, Any], said: str
) -> None:
    records = records_of(tmp_path / "run", registry)
    point = next(record for record in records if record.task == "B from poisson")
    assert found([point.model_copy(update=changes)], registry) == {said}


def test_a_model_that_cannot_take_the_suite_has_no_scores_on_it(tmp_path: Path, registry: Registry) -> None:
    (record, *_) = records_of(tmp_path / "run", registry, "toy")
    spec = model_spec(registry, "fno-16m")  # 32 modes need more than the grid of 16
    forged = record.model_copy(update={"model": spec.name, "model_args": dict(spec.arguments)})
    assert found([forged], registry) == {"'fno-16m' as installed here cannot take toy, profile tiny"}


def test_records_of_a_model_whose_library_is_missing_here_are_compared_like_those_of_any_other(
    tmp_path: Path, registry: Registry
) -> None:
    records = records_of(tmp_path / "run", registry, "toy")
    elsewhere = registry.with_entry("models", replace(registry.get("models", "toy"), needs={"lost": "lost"}))
    assert found(records, elsewhere) == set()
    assert found([record.model_copy(update={"examples": 5}) for record in records[-1:]], elsewhere) != set()


def test_nor_has_one_that_cannot_take_a_task_on_that_task(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = records_of(tmp_path / "run", registry, "toy")
    monkeypatch.setattr(Toy, "supports", lambda _, problem: "too wavy" if "omega" in problem.input_names else None)
    said = found([record for record in records if record.kind == "point"], registry)
    assert said == {"'toy' as installed here cannot take this: too wavy"}
