"""Records computed again: true ones are verified, and lowered ones are caught whatever else agrees with them."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pdefm_baselines.reference import Zero

from pdebench_fm.data.hashing import hash_of
from pdebench_fm.errors import UsageError
from pdebench_fm.hookspecs import ModelEntry, SuiteEntry
from pdebench_fm.leaderboard.audit import problems
from pdebench_fm.leaderboard.badges import Badge, add_badges, badges_that_hold, read_badges
from pdebench_fm.leaderboard.evidence import against_errors
from pdebench_fm.leaderboard.plans import against_plans, misnamed
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.records.errors import FILE, digest
from pdebench_fm.records.file import collect, parse
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.prepare import prepare
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.verify import _chosen, verify
from tests.support.installed import with_toy
from tests.support.toy import mixed_weights, plan_of, run_in, toy_suite


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy suite, in which searches may go on for one rate."""
    folder = tmp_path_factory.mktemp("original")
    run_in(folder / "runs", plan_of(folder, with_toy(), extend=1))
    return folder


@pytest.fixture
def registry(original: Path) -> Registry:
    return with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(original, extend=1), ""))


def records_of(folder: Path) -> Path:
    return folder / "runs" / "toy" / "toy" / "records.jsonl"


def lower(folder: Path, line: int, factor: float = 0.9) -> None:
    """Lower a score, its interval and its errors, so that nothing contradicts anything."""
    path = records_of(folder)
    data: list[dict[str, Any]] = [json.loads(text) for text in path.read_text().splitlines()]
    record = data[line]
    kept = folder / "runs" / "jobs" / record["job_id"] / FILE
    errors = (np.load(kept) * factor).astype(np.float32)
    np.save(kept, errors)
    record["metrics"] = {name: value * factor for name, value in record["metrics"].items()}
    record["interval"] = {name: [end * factor for end in ends] for name, ends in record["interval"].items()}
    record["errors_sha256"] = digest(errors)
    path.write_text("".join(json.dumps(one) + "\n" for one in data))


def test_every_true_record_is_verified_from_its_weights(original: Path, registry: Registry) -> None:
    (found,) = verify([records_of(original)], installed=registry)
    assert found.problems == []
    assert len(found.checks) == len(records_of(original).read_text().splitlines())
    assert (found.badge.tier, found.badge.cells, found.badge.of) == (
        "scored again",
        len(found.checks),
        len(found.checks),
    )
    assert found.badge.difference < 1e-6


def test_lowered_records_that_pass_every_schema_are_caught(tmp_path: Path, original: Path, registry: Registry) -> None:
    """50 mutants, in copies of 5 runs."""
    lines = len(records_of(original).read_text().splitlines())
    drawn, caught = random.Random(1), 0
    for number in range(5):
        copy = shutil.copytree(original, tmp_path / str(number))
        mutants = drawn.sample(range(lines), 10)
        for line in mutants:
            lower(copy, line, drawn.choice([0.9, 0.95, 0.5, 1.1]))
        located = collect([records_of(copy)])
        assert not [text for _, record in located for text in problems(record)]
        assert not list(against_errors(located))
        (found,) = verify([records_of(copy)], installed=registry)
        named = {check.where for check in found.checks if check.problem}
        assert named == {f"{records_of(copy)}:{line + 1}" for line in mutants}
        caught += len(named)
    assert caught == 50


def test_training_again_needs_the_records_only(tmp_path: Path, original: Path, registry: Registry) -> None:
    alone = tmp_path / "records.jsonl"
    shutil.copy2(records_of(original), alone)
    (found,) = verify([alone], cells=3, retrain=True, installed=registry)
    assert (found.problems, len(found.checks), found.badge.tier) == ([], 3, "retrained")
    with pytest.raises(UsageError, match="weights that it chose are not in"):
        verify([alone], installed=registry)


def test_training_again_catches_weights_that_were_exchanged(tmp_path: Path, original: Path, registry: Registry) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    for line in range(len(records_of(copy).read_text().splitlines())):
        lower(copy, line)
    (found,) = verify([records_of(copy)], cells=4, retrain=True, installed=registry)
    assert len(found.problems) == 4


def test_a_copy_under_another_name_is_not_verified(tmp_path: Path, original: Path, registry: Registry) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    text = records_of(copy).read_text()
    records_of(copy).write_text(text.replace('"model": "toy"', '"model": "toy,precision=bfloat16"'))
    (found,) = verify([records_of(copy)], cells=1, installed=registry)
    assert [check.problem for check in found.checks] == [
        "model: must be 'toy', as its arguments, precision and weights say, got 'toy,precision=bfloat16'"
    ]


class Released(Zero):
    """Predicts zero, as its file says."""

    local_arguments = frozenset({"checkpoint"})

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = Path(checkpoint)

    def fingerprint(self) -> str:
        return hashlib.sha256(self.checkpoint.read_bytes()).hexdigest()


def test_a_released_model_is_verified_with_its_files(tmp_path: Path, original: Path, registry: Registry) -> None:
    installed = registry.with_model(ModelEntry("released", "1", Released, ""))
    for name, text in (("mine", "same"), ("theirs", "same"), ("other", "another")):
        (tmp_path / name).write_text(text)
    spec = model_spec(installed, "released", {"checkpoint": str(tmp_path / "mine")})
    suite = load_suite(original / "toy.yaml", installed)
    runs = run_in(tmp_path / "runs", make_plan(suite, "tiny", spec, installed)).folder

    def problems(**arguments: Any) -> list[str]:
        (found,) = verify([runs], cells=2, arguments=arguments, installed=installed)
        return found.problems

    assert problems(checkpoint=str(tmp_path / "theirs")) == []
    _, record = collect([runs])[0]
    assert misnamed(spec, record) == ""
    assert misnamed(spec, record.model_copy(update={"model": f"{record.model},precision=bfloat16"})) != ""
    with pytest.raises(UsageError, match=r"^--set: fingerprint of 'released,checkpoint=mine-.*' must be .*, got "):
        problems(checkpoint=str(tmp_path / "other"))
    with pytest.raises(UsageError, match=r"^model released: checkpoint: is required; .* with --set KEY=VALUE$"):
        problems()
    entry = ModelEntry("released", "1", Released, "", arguments={"checkpoint": str(tmp_path / "other")})
    installed = registry.with_model(entry)  # another file by default
    with pytest.raises(UsageError, match=r"was run with other files than the default: give --set checkpoint=PATH$"):
        problems()
    assert list(against_plans(collect([runs]), installed, [suite])) == []


def test_arguments_that_the_records_keep_are_not_given(original: Path, registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"^--set width: not needed, because the records of 'toy' say it$"):
        verify([records_of(original)], arguments={"width": 4}, installed=registry)
    with pytest.raises(UsageError, match=r"^--pretrained: not needed, because no record started from weights"):
        verify([records_of(original)], pretrained=original / "toy.yaml", installed=registry)


def test_a_run_from_ones_own_weights_is_verified_with_them(tmp_path: Path, original: Path, registry: Registry) -> None:
    weights = mixed_weights(original / "runs", [record for _, record in collect([records_of(original)])])
    (plan,) = prepare("toy", original / "toy.yaml", pretrained=weights, installed=registry, device="cpu")
    runs = run_in(tmp_path / "runs", plan).folder
    (found,) = verify([runs], pretrained=weights, installed=registry)
    assert (found.problems, found.badge.cells) == ([], found.badge.of)
    (found,) = verify([runs], installed=registry)
    assert found.problems == [
        f"toy v1, tiny, {plan.model.name}: 6 records started from weights with SHA-256 {hash_of(weights)[:12]}…; "
        "name their file with --pretrained"
    ]
    assert {check.record.protocol for check in found.checks} == {"scratch"}
    alone = runs / "alone.jsonl"
    alone.write_text(next(x for x in (runs / "records.jsonl").read_text().splitlines() if "zero-shot" in x))
    (found,) = verify([alone], pretrained=original / "toy.yaml", installed=registry)
    assert found.checks == ()
    assert f"{hash_of(weights)[:12]}…, not {hash_of(original / 'toy.yaml')[:12]}…; " in found.problems[0]


def test_which_cells_are_taken_is_drawn_anew_and_can_be_repeated(original: Path, registry: Registry) -> None:
    one, other = (verify([records_of(original)], cells=2, installed=registry)[0] for _ in range(2))
    assert one.badge.seed
    assert one.badge.seed != other.badge.seed
    (again,) = verify([records_of(original)], cells=2, seed=one.badge.seed, installed=registry)
    assert [check.where for check in one.checks] == [check.where for check in again.checks]
    assert again.badge.seed == one.badge.seed


def test_what_records_say_does_not_change_which_are_drawn(original: Path) -> None:
    records = collect([records_of(original)])
    edited = [(where, record.model_copy(update={"train_seconds": 1.0})) for where, record in records]
    drawn = [[where for where, _ in _chosen(some, 5, "a seed")] for some in (records, edited)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != [where for where, _ in _chosen(records, 5, "another")]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("interval", {"relative_l2": [0.0, 9.0]}, "interval.relative_l2: now it is ["),
        ("coefficient_rise", 0.9, "coefficient_rise: now it is "),
    ],
)
def test_what_else_is_computed_again_is_compared(
    tmp_path: Path, original: Path, registry: Registry, key: str, value: Any, said: str
) -> None:
    copy = shutil.copytree(original, tmp_path / "copy")
    data = [json.loads(text) for text in records_of(copy).read_text().splitlines()]
    point = next(number for number, record in enumerate(data) if record["coefficient_rise"] is not None)
    data[point][key] = value
    records_of(copy).write_text("".join(json.dumps(one) + "\n" for one in data))
    (found,) = verify([records_of(copy)], installed=registry)
    (problem,) = found.problems
    assert problem.startswith(f"{records_of(copy)}:{point + 1}: {said}")


@pytest.mark.parametrize(
    "changes", [{"interval": {}}, {"coefficient_rise": 0.9}, {"device": "an abacus"}, {"train_seconds": 0.0}]
)
def test_a_badge_is_of_everything_in_the_records(original: Path, changes: dict[str, Any]) -> None:
    first, *rest = (record for _, record in collect([records_of(original)]))
    badge = Badge.of_records([first, *rest], "retrained", 1, 0.0, "cpu")
    assert badges_that_hold([badge], [first.model_copy(update=changes), *rest]) == {}


def test_a_badge_holds_until_a_score_changes(tmp_path: Path, original: Path, registry: Registry) -> None:
    (found,) = verify([records_of(original)], cells=1, installed=registry)
    add_badges(tmp_path, [found.badge])
    add_badges(tmp_path, [found.badge])
    (badge,) = read_badges(tmp_path)
    records = [record for _, record in collect([records_of(original)])]
    assert badges_that_hold([badge], records) == {badge.group: badge}
    assert badges_that_hold([badge], records[::-1]) == {badge.group: badge}
    data = json.loads(records[0].line())
    data["metrics"]["relative_l2"] *= 0.99
    data["interval"] = {}
    changed = [parse(json.dumps(data), "here:1"), *records[1:]]
    assert badges_that_hold([badge], changed) == {}


def test_parts_that_are_verified_one_by_one_are_verified_together(tmp_path: Path, original: Path) -> None:
    records = [record for _, record in collect([records_of(original)])]
    (task, *_) = sorted({record.task for record in records})
    one, rest = ([r for r in records if (r.task == task) is first] for first in (True, False))
    add_badges(tmp_path, [Badge.of_records(one, "retrained", 1, 0.01, "cpu")])
    assert badges_that_hold(read_badges(tmp_path), records) == {}
    add_badges(tmp_path, [Badge.of_records(rest, "scored again", len(rest), 0.0, "cpu")])
    (badge,) = badges_that_hold(read_badges(tmp_path), records).values()
    assert (badge.tier, badge.cells, badge.of, badge.difference) == ("scored again", 1 + len(rest), len(records), 0.01)
    add_badges(tmp_path, [Badge.of_records(records, "retrained", 2, 0.0, "cpu")])
    assert [badge.cells for badge in read_badges(tmp_path)] == [2]
