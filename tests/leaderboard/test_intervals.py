"""Intervals of scores and ranks: known answers, pairing, and what a reader sees of them."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdebench_fm._util.bootstrap import resamples
from pdebench_fm.leaderboard import Rules, add, build, check
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.evidence import errors_of
from pdebench_fm.leaderboard.intervals import SeedScore, compare, draw_scores, groups, rank_ranges, win_shares
from pdebench_fm.leaderboard.standing import group, standings
from pdebench_fm.records.errors import FILE, archive_of, digest, write_archive
from tests.support.records import append, make_record, make_suite

EXAMPLES = np.random.default_rng(0).gamma(4.0, 0.25, 256)


def point(error, examples=None):
    return SeedScore(error) if examples is None else SeedScore(float(np.mean(error * examples)), error * examples)


def interval(draws, model=0):
    return np.exp(np.quantile(draws.drawn[model], (0.025, 0.975)))


def ranking(*records, errors=None):
    cells = {record.cell for record in records if record.kind == "point"}
    (found,) = group(records, Rules(lambda *_: cells))
    return {standing.model: standing for standing in standings(found, errors=errors)}


def test_over_test_examples_the_interval_is_that_of_their_mean():
    draws = draw_scores({"test": {"one": [[point(0.1, EXAMPLES)]]}})
    half = 1.96 * 0.1 * EXAMPLES.std() / math.sqrt(len(EXAMPLES))
    mean = 0.1 * EXAMPLES.mean()
    assert math.exp(draws.scores[0]) == pytest.approx(mean)
    assert interval(draws) == pytest.approx([mean - half, mean + half], rel=0.02)
    assert draws.over == "test examples of this task only; another training often falls outside"


@pytest.mark.parametrize("logs", [[0.0, 1.0, 2.0, 3.0], np.linspace(-1, 1, 10)])
def test_over_tasks_the_interval_is_that_of_student(logs):
    draws = draw_scores({f"test {n}": {"one": [[point(math.exp(log))]]} for n, log in enumerate(logs)})
    quantile = {4: 3.182, 10: 2.262}[len(logs)]
    half = quantile * np.std(logs, ddof=1) / math.sqrt(len(logs))
    assert np.log(interval(draws)) == pytest.approx([np.mean(logs) - half, np.mean(logs) + half], abs=0.12 * half)


def test_over_seeds_it_covers_what_another_seed_might_have_given():
    same, apart = ([[point(0.1 * factor) for factor in factors]] for factors in ([1, 1, 1], [0.8, 1, 1.25]))
    draws = draw_scores({"test": {"same": same, "apart": apart}})
    assert interval(draws, 0) == pytest.approx([0.1, 0.1])
    low, high = interval(draws, 1)
    assert low < 0.08 < 0.125 < high


def test_what_all_models_have_in_common_cancels():
    """One model is 10% worse everywhere. Tasks and examples differ by far more."""
    tests = {
        f"test {n}": {name: [[point(factor * scale, EXAMPLES[::-1] if n else EXAMPLES)]] for name, factor in MODELS}
        for n, scale in enumerate((0.01, 0.1, 1.0, 0.3))
    }
    draws = draw_scores(tests)
    assert interval(draws, 0)[1] > 3 * interval(draws, 1)[0]
    assert compare(draws.drawn).tolist() == [[0, -1], [1, 0]]
    assert win_shares(draws.drawn)[0, 1] == 1.0
    unpaired = {name: {m: [[SeedScore(0.1 * f, spread=0.1)]] for m, f in MODELS} for name in tests}
    assert compare(draw_scores(unpaired).drawn).tolist() == [[0, 0], [0, 0]]


MODELS = (("better", 1.0), ("worse", 1.1))


def test_a_model_has_the_same_interval_whatever_others_there_are():
    def tests(*names):
        return {str(n): {m: [[SeedScore(0.1 * (n + 1), spread=0.1)]] for m in names} for n in range(4)}

    alone, second = draw_scores(tests("one")), draw_scores(tests("other", "one"))
    assert np.array_equal(alone.drawn[0], second.drawn[1])


def test_two_equal_models_are_both_first_or_second():
    found = ranking(*make_suite("one", seeds=2), *make_suite("two", seeds=2), *make_suite("worse", 9.0, seeds=2))
    sure = {name: standing.uncertainty for name, standing in found.items()}
    assert [sure[name].rank for name in ("one", "two", "worse")] == [(1, 2), (1, 2), (3, 3)]
    assert [sure[name].groups for name in ("one", "two", "worse")] == ["a", "a", "b"]
    assert 0.3 < sure["one"].wins["two"] < 0.7
    assert sure["one"].wins["worse"] == 1.0
    assert not sure["one"].preview


def test_equal_errors_tie():
    tests = {str(n): {m: [[point(0.1 * (n + 1), EXAMPLES)]] for m in ("one", "two", "three")} for n in range(5)}
    draws = draw_scores(tests)
    assert (win_shares(draws.drawn) == 0.5).all()
    assert [found.tolist() for found in rank_ranges(compare(draws.drawn))] == [[1, 1, 1], [3, 3, 3]]


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(range(n * n))))))
def test_two_models_share_a_letter_exactly_if_they_cannot_be_told_apart(drawn):
    count, apart = drawn
    order = np.zeros((count, count), dtype=int)
    for pair in apart:
        i, j = sorted(divmod(pair, count))
        if i != j:
            order[i, j], order[j, i] = -1, 1
    letters = groups(order, np.arange(count))
    for i in range(count):
        for j in range(count):
            assert bool(set(letters[i]) & set(letters[j])) == (order[i, j] == 0)


def test_a_model_between_two_groups_has_both_letters():
    assert groups(np.array([[0, 0, -1], [0, 0, 0], [1, 0, 0]]), np.array([0.1, 0.2, 0.3])) == ["a", "ab", "b"]


def test_one_seed_is_a_preview():
    assert ranking(*make_suite())["conv-small"].uncertainty.preview
    assert not ranking(*make_suite(seeds=3))["conv-small"].uncertainty.preview


def test_records_without_kept_errors_have_the_intervals_that_they_state():
    records = [make_record(error=0.1), make_record(protocol="scratch", error=0.2)]
    (standing,) = ranking(*records).values()
    assert standing.uncertainty.score == pytest.approx((0.09, 0.11), rel=0.03)
    assert (
        standing.uncertainty.over
        == "test examples of this task only; another training often falls outside (by the records' intervals)"
    )
    errors = 0.1 * EXAMPLES / EXAMPLES.mean()
    hashed = [record.model_copy(update={"errors_sha256": digest(errors)}) for record in records]
    kept = ranking(*hashed, errors={digest(errors): errors})
    assert (
        kept["conv-small"].uncertainty.over == "test examples of this task only; another training often falls outside"
    )


def test_two_measurements_of_one_job_have_each_their_own_errors(tmp_path):
    for suite, factor in (("one", 0.1), ("two", 0.2)):
        record = make_record(suite=suite, job=make_record().job, errors_sha256=digest(factor * EXAMPLES))
        path = tmp_path / "records" / suite / "smoke" / f"{record.model}.jsonl"
        append(path, [record])
        archive_of(path).write_bytes(write_archive({digest(factor * EXAMPLES): factor * EXAMPLES}))
    board = Board.load(tmp_path)
    assert len({record.job_id for *_, record in board.stored}) == 1
    assert errors_of(board.stored).keys() == {digest(factor * EXAMPLES) for factor in (0.1, 0.2)}


def test_an_incomplete_model_has_no_interval():
    found = ranking(*make_suite("whole"), *make_suite("part")[:-1])
    assert found["part"].uncertainty is None
    assert found["whole"].uncertainty.wins == {}


@pytest.fixture
def board(tmp_path):
    """A board with kept errors: two models that cannot be told apart, and one that is worse."""
    random = np.random.default_rng(1)
    for model, factor in (("one", 1.0), ("two", 1.0), ("worse", 3.0)):
        for task in ("A", "B", "C"):
            for arm in ("fine-tune", "scratch"):
                errors = (factor * EXAMPLES * random.uniform(0.9, 1.1, 256)).astype(np.float32)
                values = errors.astype(np.float64)
                low, high = np.quantile(values[resamples(256, "test examples")].mean(axis=1), [0.025, 0.975])
                record = make_record(model, task, arm, error=float(values.mean()), errors_sha256=digest(errors))
                record = record.model_copy(update={"interval": {"relative_l2": (float(low), float(high))}})
                job = tmp_path / "runs" / "jobs" / record.job_id
                job.mkdir(parents=True)
                np.save(job / FILE, errors)
                append(tmp_path / "runs" / "smoke" / model / "records.jsonl", [record])
    add(tmp_path / "board", [tmp_path / "runs"])
    build(tmp_path / "board", Rules(planned))
    return tmp_path / "board"


def planned(*_):
    return {make_record("any", task, arm).cell for task in "ABC" for arm in ("fine-tune", "scratch")}


def test_the_generated_files_have_intervals_and_rank_ranges(board):
    rows = list(csv.DictReader(io.StringIO((board / "leaderboard.csv").read_text(encoding="utf-8"))))
    assert [(row["model"], row["rank_low"], row["rank_high"], row["groups"]) for row in rows[:2]] == [
        (rows[0]["model"], "1", "2", "a"),
        (rows[1]["model"], "1", "2", "a"),
    ]
    assert (rows[2]["model"], rows[2]["rank_low"], rows[2]["groups"]) == ("worse", "3", "b")
    for row in rows:
        assert float(row["score_low"]) < float(row["score"]) < float(row["score_high"])
        assert (row["preview"], row["seeds"]) == ("True", "1")
        assert row["interval_over"] == "3 downstream tasks, test examples"
    shown = json.loads((board / "leaderboard.json").read_text(encoding="utf-8"))["ranking"]
    assert [row["score_low"] for row in shown] == [float(row["score_low"]) for row in rows]
    assert {each["against"]: each["probability"] for each in shown[0]["wins"]}["worse"] == 1.0
    text = (board / "README.md").read_text(encoding="utf-8")
    assert "| 1 (1–2) (preview) |" in " ".join(text.split())
    assert "95% intervals over 3 downstream tasks, test examples." in text


def test_a_board_with_kept_errors_is_reproduced_by_its_check(board):
    assert check(board, Rules(planned)) == []
    text = (board / "README.md").read_bytes()
    build(board, Rules(planned))
    assert (board / "README.md").read_bytes() == text
