import csv
import io
import math
import statistics

import pytest

from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard import RefusedError, Rules, add, build, check
from pdebench_fm.leaderboard.standing import group, standings
from tests.support.records import append, make_pretraining, make_record, make_suite, make_trial, with_job

FILES = ("README.md", "index.html", "leaderboard.csv", "leaderboard.json")


@pytest.fixture
def board(tmp_path):
    """Build a leaderboard from records; returns its folder."""

    def make(*records, planned=None):
        append(tmp_path / "run" / "records.jsonl", records)
        add(tmp_path / "board", [tmp_path / "run"])
        build(tmp_path / "board", Rules(planned) if planned else Rules())
        return tmp_path / "board"

    return make


def ranking(*records, planned=None):
    """Standings where the suite plans every cell that any of the records has, or as given."""
    (found,) = group(records, Rules(planned or (lambda *_: cells_of(records))))
    return standings(found)


def cells_of(records):
    return {record.cell for record in records if record.kind == "point"}


def point(protocol, examples, error, **changes):
    return make_record(protocol=protocol, examples=examples, error=error, **changes)


def test_the_score_is_the_geometric_mean_over_scored_cells_of_the_median_over_seeds():
    records = [point("zero-shot", 0, 0.5), point("scratch", 16, 0.9)]
    records += [point("fine-tune", 16, error, seed=seed) for seed, error in enumerate((0.1, 0.2, 0.9))]
    records += [point("scratch", 16, 0.9, seed=seed) for seed in (1, 2)]
    (standing,) = ranking(*records)
    assert standing.score == pytest.approx(math.sqrt(0.5 * 0.2))
    assert standing.gain == pytest.approx(0.9 / 0.2)
    assert standing.rank == 1


def test_better_scores_come_first_and_equal_ones_share_a_rank():
    found = ranking(*make_suite("worse"), *make_suite("best", 0.5), *make_suite("equal", 0.5))
    assert [(s.model, s.rank) for s in found] == [("best", 1), ("equal", 1), ("worse", 3)]


def test_cost_counts_every_trial_once_with_the_pretraining_and_without_scratch():
    pretraining = make_pretraining(trials=(make_trial(train_seconds=100.0),))
    tuned = make_record(trials=(make_trial(1e-3, train_seconds=10.0), make_trial(1e-2, 0.2, train_seconds=20.0)))
    shared = make_record(task="SYS-1(1,2.5)", trials=tuned.trials)
    scratch = point("scratch", 16, 0.5, trials=(make_trial(train_seconds=7.0),))
    (standing,) = ranking(pretraining, tuned, shared, scratch)
    assert (standing.train_seconds, standing.scratch_seconds) == (130.0, 7.0)


def test_who_misses_a_cell_that_another_model_has_is_not_ranked():
    found = ranking(*make_suite("whole"), *make_suite("part", 0.5)[:-1])
    assert [(s.model, s.rank) for s in found] == [("whole", 1), ("part", None)]
    assert found[1].reason == "1 cell missing (first: SYS-1(5,10), scratch, N = 64, seed 0)"


def test_complete_is_what_the_suite_plans():
    records = make_suite()
    cells = cells_of(records)
    assert ranking(*records, planned=lambda *_: cells)[0].rank == 1
    more = cells | {point("fine-tune", 128, 0.1).cell}
    assert ranking(*records, planned=lambda *_: more)[0].rank is None
    extra = [*records, *make_suite(seeds=2)[7:]]
    assert ranking(*extra, planned=lambda *_: cells)[0].score == ranking(*records)[0].score


def test_diverged_stands_last_but_is_never_dropped():
    broken = [*make_suite("diverging", 0.1)[:-1], point("scratch", 64, 0.1, model="diverging", status="diverged")]
    lacking = make_suite("lacking")[:-1]
    refusing = [*make_suite("refusing")[:-1], point("scratch", 64, 0.1, model="refusing", status="unsupported")]
    found = ranking(*broken, *lacking, *refusing, *make_suite("whole"))
    assert [s.model for s in found] == ["whole", "lacking", "refusing", "diverging"]
    assert [s.rank for s in found] == [1, None, None, None]
    assert "1 cell unsupported (SYS-1(5,10), scratch, N = 64, seed 0: it was unsupported)" in found[2].reason
    assert "diverged" in found[3].reason


def test_versions_and_profiles_are_never_mixed():
    records = [make_record(), make_record(suite_version=2), make_record(profile="lite"), make_record(suite="other")]
    assert [(g.suite, g.profile, g.suite_version, len(g.records)) for g in group(records)] == [
        ("other", "smoke", 1, 1),
        ("smoke", "lite", 1, 1),
        ("smoke", "smoke", 2, 1),
        ("smoke", "smoke", 1, 1),
    ]


def test_the_files_are_the_same_bytes_every_time(board):
    folder = board(*make_suite(seeds=2), *make_suite("other", 0.5, seeds=2))
    before = {name: (folder / name).read_bytes() for name in FILES}
    build(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert check(folder) == []
    assert b"\r" not in b"".join(before.values())


def test_the_csv_has_a_row_for_every_model(board):
    folder = board(*make_suite(), *make_suite("other", 0.5)[:-1], planned=lambda *_: cells_of(make_suite()))
    rows = list(csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text(encoding="utf-8"))))
    assert [(row["model"], row["rank"]) for row in rows] == [("conv-small", "1"), ("other", "")]
    assert float(rows[0]["score"]) == pytest.approx(ranking(*make_suite())[0].score, rel=1e-5)
    assert [row["saving_bounds"] for row in rows] == ["4 > of 4", ""]
    assert rows[1]["saving"] == ""
    assert "missing" in rows[1]["reason"]


def test_data_savings_say_how_many_are_bounds(board):
    scratch = [point("scratch", size, error) for size, error in ((10, 0.4), (40, 0.1))]
    tuned = [point("fine-tune", size, error) for size, error in ((10, 0.2), (40, 0.05))]
    text = (board(*scratch, *tuned) / "README.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if "records/smoke/smoke/conv-small.jsonl)" in line)
    assert "| 1.41 × (1 \\> of 2) |" in " ".join(row.split())  # 20 / 10, and more than 40 / 40


def test_the_ranking_shows_cost_beside_the_score(board):
    text = (board(*make_suite()) / "README.md").read_text(encoding="utf-8")
    header, _, row = [line for line in text.splitlines() if line.startswith("|")][:3]
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    scores = {"verified", "score", "gain over own scratch", "data saving"}  # one that all rows lack is left out
    assert set(columns) == {"model", *scores, "open searches by arm", "parameters", "training"}
    shown = dict(zip(columns, (cell.strip() for cell in row.strip("|").split("|")), strict=True))
    assert (shown["training"], shown["parameters"]) == ("38 s", "67,281")
    assert shown["open searches by arm"] == "pretraining 0 of 1, fine-tune 0 of 4, scratch 0 of 4"


@pytest.mark.parametrize(
    ("rises", "flag"),
    [
        ((0.0, 0.02, 3.0), "conv-small hardly uses its coefficients on all tasks (+2% in all)."),
        ((0.5, 2.0, 9.0), ""),
        ((-0.3,), ""),
        ((-0.5, 0.01, 0.45), ""),  # it falls about as often as it rises
    ],
)
def test_a_model_that_does_not_use_its_coefficients_is_flagged(board, rises, flag):
    tuned = [
        point("fine-tune", size, 0.1, coefficient_rise=rise) for size, rise in zip((10, 40, 80), rises, strict=False)
    ]
    scratch = [point("scratch", size, 0.2, coefficient_rise=50.0) for size in (10, 40, 80)[: len(rises)]]
    folder = board(*scratch, *tuned)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert next((line for line in text.splitlines() if "hardly uses" in line), "") == flag
    (kept,) = csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text(encoding="utf-8")))
    assert float(kept["coefficients"]) == statistics.median(rises)


def test_a_task_without_use_of_its_coefficients_and_points_without_the_measurement_are_shown(board):
    far = [
        point("fine-tune", size, 0.1, task="SYS-1(10,20)", coefficient_rise=rise)
        for size, rise in ((10, 0.01), (40, -0.03), (80, None))
    ]
    near = [point("fine-tune", size, 0.1, coefficient_rise=3.0) for size in (10, 40, 80)]
    folder = board(*near, *far)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "conv-small hardly uses its coefficients on SYS-1(10,20) (+300% in all)." in text
    (kept,) = csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text(encoding="utf-8")))
    assert (kept["unused_on"], kept["coefficients_unmeasured"]) == ("SYS-1(10,20)", "1")


def test_older_versions_of_a_suite_are_folded_away(board):
    text = (board(*make_suite(), *make_suite(suite_version=2)) / "README.md").read_text(encoding="utf-8")
    newest, _, older = text.partition("<details>")
    assert "## smoke v2" in newest
    assert "<summary>smoke v1, profile smoke: superseded</summary>\n\n" in older
    assert older.rstrip().endswith("</details>")


def test_check_says_where_a_generated_file_differs(board):
    folder = board(*make_suite())
    file = folder / "leaderboard.csv"
    file.write_text(file.read_text() + "x\n")
    (said,) = check(folder)
    assert said.startswith(f"{file}:3: differs from what the records give; run pdefm leaderboard build")
    file.unlink()
    assert check(folder) == [f"{file}: missing; run pdefm leaderboard build, or name another --directory"]


def test_build_refuses_records_that_were_tampered_with(board):
    folder = board(*make_suite())
    path = folder / "records/smoke/smoke/conv-small.jsonl"
    path.write_text(path.read_text().replace('"test_examples": 256', '"test_examples": 0', 1))
    with pytest.raises(RefusedError, match=r"conv-small\.jsonl:1: test_examples is 0"):
        build(folder)


def test_an_empty_leaderboard_can_be_built_and_checked(tmp_path):
    assert [path.name for path in build(tmp_path)] == [*FILES]
    assert check(tmp_path) == []


@pytest.mark.parametrize("name", ["=1+1", "a|b", "fno\u00a064k", "fn\u043e-64k", "fno-64k\ufe0f", "*fno*"])
def test_a_model_cannot_look_like_another_or_like_a_formula(board, name):
    with pytest.raises(RecordError, match="must be"):
        board(make_record(name))


def test_a_model_started_from_weights_of_the_users_own_is_shown_and_not_ranked():
    def from_weights(record):
        if record.protocol not in ("zero-shot", "fine-tune"):
            return record
        started = with_job(record, start={"from": "weights", "sha256": "ab" * 32})
        return started.model_copy(update={"pretrain_job_id": None})

    theirs = [from_weights(record) for record in make_suite("theirs") if record.kind == "point"]
    ours, other = ranking(*make_suite("ours"), *theirs)
    assert (ours.model, ours.rank) == ("ours", 1)
    assert (other.model, other.rank, other.score) == ("theirs", None, None)
    assert "starts from weights of the user's own (SHA-256 abababab" in other.reason
