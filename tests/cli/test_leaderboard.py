import csv
import json
import shutil
from pathlib import Path

import pytest
from pdefm_transfer.protocols import FineTune

from pdebench_fm.cli import main
from pdebench_fm.cli.leaderboard import planned_cells
from pdebench_fm.cli.run import run
from pdebench_fm.errors import PluginError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry.discovery import registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.scale import MOST_SEEDS
from tests.support.records import append, make_record, make_suite, with_job
from tests.support.toy import run_in


@pytest.fixture
def pdefm(capsys):
    """Run a command; returns its exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return run


@pytest.fixture
def runs(tmp_path):
    append(tmp_path / "runs" / "smoke" / "conv-small" / "records.jsonl", make_suite(suite="unheard-of"))
    append(tmp_path / "runs" / "smoke" / "other" / "records.jsonl", make_suite("other", 0.5, suite="unheard-of"))
    return tmp_path / "runs"


def test_add_build_check_from_nothing(pdefm, runs, tmp_path):
    at = ("--directory", tmp_path / "board")
    assert pdefm("leaderboard", "add", runs, *at)[:2] == (0, "22 added, 0 replaced, 0 already there\n")
    code, out, _ = pdefm("leaderboard", "build", *at)
    assert (code, len(out.splitlines())) == (0, 4)
    assert pdefm("leaderboard", "check", *at)[0] == 0


def test_a_protocol_that_is_broken_here_takes_no_rank_away_in_silence(monkeypatch):
    version = load_suite(registry().get("suites", "smoke").path).version
    assert planned_cells("smoke", version, "smoke")
    assert planned_cells("smoke", version, "no such profile") is None
    monkeypatch.setattr(FineTune, "sizes", lambda *_: 1 / 0)
    with pytest.raises(PluginError, match=r"^protocol 'fine-tune': sizes: ZeroDivisionError: division by zero$"):
        planned_cells("smoke", version, "smoke")


def test_adding_again_says_what_is_there_already(pdefm, runs, tmp_path):
    at = ("--directory", tmp_path / "board")
    pdefm("leaderboard", "add", runs, *at)
    code, out, err = pdefm("leaderboard", "add", runs / "smoke" / "other" / "records.jsonl", *at)
    assert (code, out) == (0, "0 added, 0 replaced, 11 already there\n")
    assert err.count("already at") == 11


def test_what_gives_way_is_named(pdefm, runs, tmp_path):
    at = ("--directory", tmp_path / "board")
    pdefm("leaderboard", "add", runs, *at)
    path = tmp_path / "fewer" / "records.jsonl"
    path.parent.mkdir()
    path.write_text("".join((runs / "smoke/other/records.jsonl").read_text().splitlines(keepends=True)[:-1]))
    code, out, err = pdefm("leaderboard", "add", path, "--replace", *at)
    assert (code, out) == (0, "0 added, 0 replaced, 10 already there, 1 removed\n")
    assert [line for line in err.splitlines() if ".jsonl:11: removed: " in line]


def test_a_refused_record_is_named_and_nothing_is_added(pdefm, runs, tmp_path):
    file = runs / "smoke" / "conv-small" / "records.jsonl"
    line = json.loads(make_record(seed=7).line())
    line["metrics"]["relative_l2"] = -1
    with file.open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    code, out, err = pdefm("leaderboard", "add", runs, "--directory", tmp_path / "board")
    assert (code, out) == (2, "")
    assert f"{file}:12: metrics.relative_l2: must be at least 0, got -1" in err
    assert not (tmp_path / "board").exists()


def test_every_refusal_is_shown(pdefm, tmp_path):
    file = tmp_path / "records.jsonl"
    append(file, [make_record(seed=seed, error=1e9) for seed in range(3)])
    code, _, err = pdefm("leaderboard", "add", file, "--directory", tmp_path / "board")
    assert code == 1
    assert [f"{file}:{n}: relative_l2: must be " in err for n in (1, 2, 3)] == [True] * 3
    assert "nothing added" in err
    assert "Traceback" not in err


def test_check_fails_and_names_what_differs(pdefm, runs, tmp_path):
    at = ("--directory", tmp_path / "board")
    pdefm("leaderboard", "add", runs, *at)
    pdefm("leaderboard", "build", *at)
    readme = tmp_path / "board" / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert "67,281" in text
    readme.write_text(text.replace("67,281", "67,282", 1), encoding="utf-8")
    code, out, _ = pdefm("leaderboard", "check", *at)
    assert code == 1
    assert str(readme) in out


OWN_SUITE = """\
name: unheard-of
version: 1
description: A suite of one's own.
default_profile: tiny
distributions: {d: {system: poisson, eigenvalue: [1, 5]}}
pretraining: {poisson: [d]}
tasks: [{name: one, pretraining: poisson, downstream: d, shift: none}]
protocols: [zero-shot, fine-tune, scratch]
profiles:
  tiny:
    grid: 32
    examples: {pretraining: 8, validation: 4, test: 4, downstream: [2, 4]}
    training: {epochs: 2, learning_rates: [1e-3]}
    fine_tuning: {epochs: 2, learning_rates: [1e-3]}
"""


@pytest.fixture
def own_run(tmp_path):
    """Score a model on a suite of one's own, which stays in ``own.yaml``; returns the folder of the run."""
    (tmp_path / "own.yaml").write_text(OWN_SUITE, encoding="utf-8")
    found = registry()
    plan = make_plan(load_suite(tmp_path / "own.yaml"), "tiny", model_spec(found, "mode-regression"), found)
    assert run_in(tmp_path / "own", plan).complete
    return tmp_path / "own"


def test_records_that_a_suite_of_ones_own_does_not_plan_are_refused_where_its_file_is_given(pdefm, own_run, tmp_path):
    board = ("--directory", tmp_path / "board")
    edited = tmp_path / "edited.yaml"
    edited.write_text(OWN_SUITE.replace("fine_tuning: {epochs: 2", "fine_tuning: {epochs: 3"), encoding="utf-8")
    code, _, err = pdefm("leaderboard", "add", own_run, *board, "--suite", edited)
    assert (code, "its job is not what unheard-of v1 plans" in err) == (1, True)
    assert not (tmp_path / "board").exists()
    assert pdefm("leaderboard", "add", own_run, *board, "--suite", tmp_path / "own.yaml")[0] == 0
    pdefm("leaderboard", "build", *board)
    assert pdefm("leaderboard", "check", *board)[0] == 0
    code, out, _ = pdefm("leaderboard", "check", *board, "--suite", edited)
    assert (code, "its job is not what unheard-of v1 plans" in out) == (1, True)
    code, out, err = pdefm("leaderboard", "build", *board, "--suite", edited)
    assert (code, out, "its job is not what unheard-of v1 plans" in err) == (1, "", True)


def test_a_suite_of_ones_own_is_ranked_where_its_file_is_given(pdefm, own_run, tmp_path):
    board = ("--directory", tmp_path / "board")
    pdefm("leaderboard", "add", own_run, *board)
    ranks = []
    for own in ((), ("--suite", tmp_path / "own.yaml")):
        assert pdefm("leaderboard", "build", *board, *own)[0] == 0
        assert pdefm("leaderboard", "check", *board, *own)[0] == 0
        with (tmp_path / "board" / "leaderboard.csv").open(encoding="utf-8") as file:
            ranks += [row["rank"] for row in csv.DictReader(file)]
    assert ranks == ["", "1"]
    code, out, _ = pdefm("leaderboard", "check", *board)
    assert (code, "give --suite FILE for unheard-of v1" in out) == (1, True)
    (tmp_path / "same.yaml").write_text(OWN_SUITE, encoding="utf-8")
    code, _, err = pdefm("leaderboard", "build", *board, *own, "--suite", tmp_path / "same.yaml")
    assert (code, "are both suite 'unheard-of' v1" in err) == (2, True)
    (tmp_path / "own.yaml").write_text("name: [", encoding="utf-8")
    code, _, err = pdefm("leaderboard", "build", *board, "--suite", tmp_path / "own.yaml")
    assert (code, "own.yaml" in err, "Traceback" in err) == (2, True, False)


def test_figures_are_drawn_from_folders(pdefm, runs, tmp_path):
    code, out, err = pdefm("figures", runs, "--output", tmp_path / "figures")
    assert code == 0
    assert sorted(out.splitlines()) == sorted(map(str, (tmp_path / "figures").iterdir()))
    assert len(out.splitlines()) == 4
    made = "figures made (PNG and PDF): 1 errors, 1 savings"
    assert err == f"{made}; the records do not allow sizes, parameters, mixtures, seeds, cases\n"


def test_a_model_in_two_runs_is_named_with_their_folders(pdefm, tmp_path):
    for name in ("first", "second"):
        made = [with_job(make_record(examples=size), of=name) for size in (16, 64)]
        append(tmp_path / name / "tiny" / "records.jsonl", made)
    runs = (tmp_path / "first", tmp_path / "second")
    code, out, _ = pdefm("compare", *runs)
    assert (code, *(f"{made[0].model} ({name})" in out for name in ("first", "second"))) == (0, True, True)
    code, out, err = pdefm("figures", *runs, "--output", tmp_path / "figures", "--kind", "errors")
    assert (code, "differ" in err) == (0, False)
    _, once, _ = pdefm("compare", runs[0])
    assert pdefm("compare", *runs[:1] * 2)[1] == once


def test_tables_and_figures_show_another_metric(pdefm, tmp_path):
    metrics = {"metrics": {"relative_l2": 0.1, "worst": 3.25}, "interval": {}}
    append(tmp_path / "records.jsonl", [make_record(examples=size, **metrics) for size in (16, 64)])
    code, out, _ = pdefm("compare", tmp_path / "records.jsonl", "--metric", "worst")
    assert (code, "3.25" in out, "0.100" in out, "Median worst over seeds" in out) == (0, True, False, True)
    code, out, _ = pdefm("figures", tmp_path / "records.jsonl", "--metric", "worst", "--output", tmp_path / "figures")
    assert (code, all("-errors-worst-" in path for path in out.splitlines())) == (0, True)
    code, _, err = pdefm("compare", tmp_path / "records.jsonl", "--metric", "worse")
    assert (code, "did you mean 'worst'" in err) == (2, True)
    code, _, err = pdefm("compare", tmp_path / "records.jsonl", "--metric", "worst", "--json")
    assert (code, err) == (2, "pdefm: --json prints every metric: leave out --metric\n")


def test_figures_say_where_records_of_two_budgets_are_drawn_together(pdefm, tmp_path):
    budgets = [{"epochs": count, "steps": None, "batch_size": 8} for count in (3, 4000)]
    made = [make_record(seed=seed, budget=budget) for seed, budget in enumerate(budgets)]
    append(tmp_path / "records.jsonl", made)
    code, out, err = pdefm("figures", tmp_path / "records.jsonl", "--output", tmp_path / "figures", "--kind", "errors")
    assert (code, len(out.splitlines()), len(err.splitlines())) == (0, 2, 2)
    where = tmp_path / "records.jsonl"
    wanted = "budget.epochs 4000 differs from 3"
    assert err.startswith(f"shown together: {where}:2: {wanted} at {where}:1: ")


def test_figures_of_one_kind_are_drawn_alone(pdefm, runs, tmp_path):
    code, out, err = pdefm("figures", runs, "--output", tmp_path / "figures", "--kind", "savings")
    assert (code, len(out.splitlines()), err) == (0, 2, "figures made (PNG and PDF): 1 savings\n")
    assert pdefm("figures", runs, "--kind", "saving")[0] == 2


def test_a_kind_that_the_records_do_not_allow_says_what_it_needs(pdefm, runs, tmp_path):
    code, out, err = pdefm("figures", runs, "--output", tmp_path / "figures", "--kind", "seeds")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "nothing to draw: seeds needs scores of two seeds of one point" in err
    assert not (tmp_path / "figures").exists()


def test_figures_without_a_score_fail_in_one_line(pdefm, tmp_path):
    append(tmp_path / "records.jsonl", [make_record(status="failed")])
    code, _, err = pdefm("figures", tmp_path)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "errors needs a record with a score" in err


@pytest.mark.parametrize("command", [("leaderboard", "add"), ("figures",)])
def test_a_folder_without_records_and_a_file_of_others_are_bad_usage(pdefm, tmp_path, command):
    folder = tmp_path / "runs" / "jobs" / "ab"
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text('{"epoch": 1}\n', encoding="utf-8")
    later = tmp_path / "later.jsonl"
    later.write_text(make_record().line().replace('"schema": 1', '"schema": 2') + "\n", encoding="utf-8")
    at = ("--directory", tmp_path / "board") if command != ("figures",) else ("--output", tmp_path / "figures")
    for given, message in (
        (tmp_path / "runs", "holds no records.jsonl"),
        (tmp_path / "runs" / "jobs", "holds no records.jsonl"),
        (folder, "holds no records.jsonl"),
        (folder / "history.jsonl", "history.jsonl:1: schema: "),
        (later, "later.jsonl:1: schema: must be 1, got 2"),
    ):
        code, out, err = pdefm(*command, given, *at)
        assert (code, out, len(err.splitlines()), message in err) == (2, "", 1, True), err
    assert not (tmp_path / "board").exists()


def test_a_misspelt_directory_is_not_made_into_a_leaderboard(pdefm, tmp_path):
    for there in (False, True):
        code, out, err = pdefm("leaderboard", "build", "--directory", tmp_path / "typo")
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "--directory" in err
        assert (tmp_path / "typo").exists() == there
        (tmp_path / "typo").mkdir(exist_ok=True)
    assert list((tmp_path / "typo").iterdir()) == []


def test_a_run_has_no_more_seeds_than_a_suite():
    (seeds,) = (option.type for option in run.params if option.name == "seeds")
    assert seeds.max == MOST_SEEDS


def test_a_missing_path_is_bad_usage(pdefm, tmp_path):
    for command in (("leaderboard", "add"), ("figures",)):
        assert pdefm(*command, tmp_path / "none")[0] == 2


@pytest.mark.parametrize("name", registry().names("suites"))
def test_complete_is_what_a_shipped_suite_plans(name):
    suite = load_suite(name)
    cells = planned_cells(name, suite.version, suite.default_profile)
    tasks = suite.tasks_at(suite.profiles[suite.default_profile])
    assert {cell.task for cell in cells} == {task.name for task in tasks}
    assert planned_cells(name, suite.version + 1, suite.default_profile) is None


def test_nothing_is_planned_where_the_suite_or_profile_is_unknown():
    assert planned_cells("unheard-of", 1, "smoke") is None


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The results of a run of the suite ``smoke``."""
    plan = make_plan(load_suite("smoke"), "smoke", model_spec(registry(), "zero"), registry())
    return run_in(tmp_path_factory.mktemp("scored") / "runs", plan).folder


def test_verify_scores_kept_weights_again_and_leaves_a_badge(pdefm, scored, tmp_path):
    at = ("--directory", tmp_path / "board")
    code, out, _ = pdefm("leaderboard", "verify", scored, "--cells", 2, "--seed", "7", "--badge", *at)
    assert (code, out.split(": ")[1]) == (0, "2 of 2 records agree (scored again; largest difference 0; seed 7)\n")
    assert pdefm("leaderboard", "add", scored, *at)[0] == 0
    assert pdefm("leaderboard", "build", *at)[0] == 0
    (badge,) = json.loads((tmp_path / "board" / "verified.json").read_text(encoding="utf-8"))
    assert (badge["model"], badge["tier"], badge["cells"], badge["seed"]) == ("zero", "scored again", 2, "7")


def test_verify_names_the_record_that_is_wrong(pdefm, scored, tmp_path):
    runs = scored.parents[1]
    path = Path(shutil.copytree(runs, tmp_path / "runs")) / scored.relative_to(runs) / "records.jsonl"
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if json.loads(line)["status"] == "ok")
    record = json.loads(lines[number])
    record["metrics"]["relative_l2"], record["interval"] = 0.9, {}
    path.write_text("\n".join([*lines[:number], json.dumps(record), *lines[number + 1 :]]) + "\n")
    code, out, err = pdefm("leaderboard", "verify", path)
    assert err == "", err
    assert (code, out.splitlines()[0]) == (
        1,
        f"{path}:{number + 1}: relative_l2: computed again it is 1, stated is 0.9",
    )
