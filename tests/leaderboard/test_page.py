"""The rows of the page, and what its file holds. `test_page_in_chromium` opens it."""

import hashlib
import json
import math
import re
import shlex
import statistics
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from pdebench_fm.cli import main
from pdebench_fm.cli.run import run
from pdebench_fm.leaderboard import Rules, add, build, check
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.page import make_rows, pack, render_page
from pdebench_fm.leaderboard.page.cells import command
from pdebench_fm.leaderboard.page.columns import CELLS, FILTERS, RANKING
from pdebench_fm.records.file import parse
from tests.support.records import append, make_record, make_suite, make_trial

ROOT = Path(__file__).parents[2]
VENDORED = {  # as published on the npm registry
    "d3-7.9.2.min.js": "912111098ea99503a6f4967361d2bbdc9dbf58cf9c678c8e27e5b02d1a07f0c1",
    "plot-0.6.17.min.js": "4358086467740777dd788d6b27a95cebdbaefdd50c730a3060117073bd7134cb",
    "htm-preact-3.1.1.min.js": "62c4ffea400078c0eda7f435b22726b4961ebdf74c8506f188e92bec41d8ac51",
}


def rows_of(*records):
    planned = {record.cell for record in records if record.kind == "point"}
    return make_rows(Board(Path(), [("file:1", record) for record in records], rules=Rules(lambda *_: planned)))


def cell(rows, **wanted):
    (found,) = [row for row in rows["cells"] if all(row[key] == value for key, value in wanted.items())]
    return found


def unpack(table):
    rows = [{} for _ in range(table["count"])]
    for key, column in table["columns"].items():
        if isinstance(column, dict) and "at" in column:
            column = [column["values"][index] for index in column["at"]]
        elif isinstance(column, dict):
            inner = iter(unpack(column["rows"]))
            column = [[next(inner) for _ in range(count)] for count in column["counts"]]
        for row, value in zip(rows, column, strict=True):
            row[key] = value
    return rows


def test_a_cell_is_the_median_over_its_seeds_with_the_gain_over_scratch():
    rows = rows_of(*make_suite(seeds=3))
    tuned = cell(rows, task="SYS-1(5,10)", arm="fine-tune", n=16)
    scratch = cell(rows, task="SYS-1(5,10)", arm="scratch", n=16)
    assert tuned["error"] == pytest.approx(statistics.median(r["error"] for r in tuned["records"]))
    assert tuned["error_low"] < tuned["error"] < tuned["error_high"]
    assert tuned["gain"] == pytest.approx(scratch["error"] / tuned["error"], rel=1e-5)
    assert (tuned["seeds"], tuned["seeds_of"], scratch["gain"]) == (3, 3, None)


def test_the_best_scratch_arm_is_named_and_chosen_by_validation_error():
    lucky = [r.model_copy(update={"trials": (make_trial(1e-3, 0.5),)}) for r in make_suite("lucky", 0.1)]
    rows = rows_of(*make_suite("sound"), *lucky)
    tuned = cell(rows, model="lucky", task="SYS-1(5,10)", arm="fine-tune", n=16)
    scratch = cell(rows, model="sound", task="SYS-1(5,10)", arm="scratch", n=16)
    assert tuned["best_scratch"] == "sound"
    assert tuned["gain_best_scratch"] == pytest.approx(scratch["error"] / tuned["error"], rel=1e-5)


def test_a_cell_keeps_its_search_its_trials_and_a_diverged_seed():
    trials = (make_trial(1e-3, 0.1), make_trial(1e-2, None))
    records = [make_record(trials=trials), make_record(seed=1, status="diverged")]
    found = cell(rows_of(*records), arm="fine-tune")
    assert (found["search"], found["status"], found["error"]) == ("open-low", "diverged, ok", None)
    assert [trial["validation"] for trial in found["records"][0]["trials"]] == [0.1, None]
    assert found["records"][1]["reason"] == "it was diverged"


def test_kinds_of_models():
    def rows(**changes):
        return cell(rows_of(make_record(**changes)), arm=changes.get("protocol", "fine-tune"))["kind"]

    assert rows(protocol="scratch") == "network"
    assert rows() == "released"  # see `describe`: a fine-tuning without a pre-training job
    assert rows(steps=0) == "baseline"


def test_every_column_and_filter_has_a_key_in_the_rows():
    rows = rows_of(*make_suite())
    made_on_the_page = {"selected", "suite", "profile", "size", "tier"}
    for columns, found in ((RANKING, rows["ranking"]), (CELLS, rows["cells"])):
        for column in columns:
            assert column.key in {*found[0], *made_on_the_page}
            assert column.definition.endswith(".")
            assert column.form != "share" or f"{column.key}_of" in found[0]
    assert {key for key, _ in FILTERS} <= {*rows["cells"][0], *made_on_the_page}


def test_packed_rows_are_the_same_rows():
    rows = rows_of(*make_suite(seeds=2), *make_suite("other", 0.5))
    for table in rows.values():
        assert unpack(pack(table)) == table
    assert len(json.dumps(pack(rows["cells"]))) < 0.5 * len(json.dumps(rows["cells"]))


def test_an_older_version_of_a_suite_is_superseded():
    rows = rows_of(*make_suite(), *make_suite(suite_version=2))
    assert [(row["study"], row["superseded"]) for row in rows["studies"]] == [
        ("smoke v2, smoke", False),
        ("smoke v1, smoke", True),
    ]


@pytest.fixture
def board(tmp_path):
    append(tmp_path / "run" / "records.jsonl", [*make_suite(seeds=2), *make_suite("odd,width=8", 0.5, seeds=2)])
    add(tmp_path / "board", [tmp_path / "run"])
    build(tmp_path / "board")
    return tmp_path / "board"


def test_every_cell_leads_to_its_records(board):
    cells = json.loads((board / "leaderboard.json").read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 2 * (1 + 2 * 5)
    for row in cells:
        for found in row["records"]:
            line = (board / found["file"]).read_text(encoding="utf-8").splitlines()[found["line"] - 1]
            record = parse(line, found["file"])
            assert (record.job_id, record.seed, record.model) == (found["job"], found["seed"], row["model"])
            assert (record.task, record.protocol, record.examples) == (row["task"], row["arm"], row["n"])
        errors = [found["error"] for found in row["records"]]
        assert row["error"] == pytest.approx(statistics.median(errors), rel=1e-5)


def test_check_compares_the_page(board):
    page = board / "index.html"
    page.write_text(page.read_text(encoding="utf-8").replace("odd,width", "good,width"), encoding="utf-8")
    (wrong,) = check(board)
    assert wrong.startswith(f"{page}:")


def test_the_page_asks_for_nothing_and_no_name_ends_its_script():
    rows = rows_of(make_record(task="</script><img src=x>", protocol="scratch"))
    text = render_page(rows)
    assert "</script><img" not in text
    assert not re.findall(
        r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?(?![\"']|data:)", text.split("<script>\n")[0]
    )
    assert "default-src 'none'" in text
    assert len(re.findall(r"</script", text)) == len(re.findall(r"<script", text))


def test_the_committed_page_is_small():
    assert (ROOT / "leaderboard" / "index.html").stat().st_size < 2_000_000


def test_the_libraries_are_those_published_and_their_licences_are_in_the_page():
    folder = files("pdebench_fm.leaderboard.page").joinpath("assets", "vendor")
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith(".js")}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in found.items()} == VENDORED
    text = render_page(rows_of(make_record(protocol="scratch")))
    for holder in ("Mike Bostock", "Observable, Inc.", "Jason Miller", "Apache License", "Mikola Lysenko"):
        assert holder in text


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (make_record(task="SYS-1(5,10)", seed=2), {"tasks": ("SYS-1(5,10)",), "seeds": 3}),
        (make_record("net,width=8,modes=[4,4]", model_args={"width": 8, "modes": [4, 4], "layers": 2}), {}),
        (make_record(precision="float64"), {"precision": "float64"}),
    ],
)
def test_the_command_of_a_record_is_one_that_pdefm_takes(record, wanted):
    program, name, *arguments = shlex.split(command(record, record.suite))
    assert (program, name) == ("pdefm", "run")
    context = run.make_context("run", arguments)
    assert context.params["suite"] == "smoke"
    assert context.params["profile"] == "smoke"
    for key, value in wanted.items():
        assert context.params[key] == value
    if "," in record.model:
        assert [*context.params["models"]] == ["net"]
        assert [*context.params["settings"]] == ["width=8", "modes=[4,4]"]


def test_the_command_of_a_released_model_leaves_its_files_open():
    model = {"family": "net", "version": "1", "arguments": {"modes": 4}, "fingerprint": "0123abcd" * 8}
    record = make_record("net,checkpoint=big-0123abcd,modes=4", model_args={"modes": 4})
    job = {**record.job, "model": model}
    record = make_record(record.model, model_args={"modes": 4}, job=job)
    assert "--model net --set modes=4 --set 'checkpoint=…' --task" in command(record, "smoke")


@pytest.mark.parametrize(
    ("study", "suite"), [("smoke/smoke", "smoke"), ("ood_sys1/lite", "leaderboard/suites/ood_sys1-v2.yaml")]
)
def test_the_command_plans_the_job_of_the_record(study, suite, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    path = ROOT / "leaderboard" / "records" / study / "mode-regression.jsonl"
    record = parse(path.read_text(encoding="utf-8").splitlines()[20], path.name)
    with pytest.raises(SystemExit):
        main([*shlex.split(command(record, suite))[1:], "--dry-run", "--json", "-v"])
    planned = {job["job_id"] for job in json.loads(capsys.readouterr().out)["jobs"]}
    assert {record.job_id, *(trial.job_id for trial in record.trials)} <= planned


def test_the_command_of_a_superseded_record_names_the_file_of_its_suite():
    suites = Board.load(ROOT / "leaderboard").suites
    assert suites["ood_sys1", 2] == "leaderboard/suites/ood_sys1-v2.yaml"
    rows = make_rows(Board(Path(), [("file:1", make_record(suite="ood_sys1", suite_version=2))], suites=suites))
    assert rows["cells"][0]["records"][0]["command"].startswith("pdefm run leaderboard/suites/ood_sys1-v2.yaml ")
    assert rows["studies"][0]["awaits_newer"]


def test_a_wheel_has_the_page(tmp_path):
    build_wheel = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build_wheel, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for file in (ROOT / "pdebench_fm" / "leaderboard" / "page" / "assets").rglob("*.*"):
        assert file.relative_to(ROOT).as_posix() in names


def test_numbers_that_are_not_finite_are_left_out():
    records = [make_record(seed=seed, status="diverged") for seed in range(3)]
    found = cell(rows_of(*records), arm="fine-tune")
    assert found["error"] is None
    assert not any(isinstance(value, float) and not math.isfinite(value) for value in found.values())
