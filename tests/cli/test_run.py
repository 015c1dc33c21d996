"""``pdefm run`` as a process: what goes to standard output, what to standard error, and what is done once only."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pdebench_fm import records
from pdebench_fm.api import evaluate
from pdebench_fm.records.coefficient_use import CoefficientUse
from tests.support.command import PATIENCE, PDEFM, REGRESSION, UNET, environment, pdefm, start, write_suite
from tests.support.records import read

Call = Callable[..., tuple[int, str, str]]
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_suite(folder)
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> subprocess.CompletedProcess[str]:
    """A network on the whole suite, from nothing, in two workers."""
    return pdefm("run", "tiny.yaml", *UNET, "--workers", "2", folder=folder)


def test_the_tables_and_the_answer_go_to_standard_output_and_nothing_else_does(
    first: subprocess.CompletedProcess[str],
) -> None:
    assert first.returncode == 0, first.stderr
    header, _, before, _, row, _, after, _, *rest = first.stdout.splitlines()
    assert header == "tiny v1 · profile tiny · unet,width=4,levels=1 (1,829 parameters)"
    assert before.split() == ["pre-training", "examples", "learning", "rate", "error"]
    assert row.startswith("poisson ")
    assert after.split("  ")[0] == "task"
    assert after.endswith("gain  data saving  score") or re.search(r"gain +data saving +score$", after)
    tuned, scratch = rest[:2]
    assert re.search(r"B from A +med \(0\.\d\d\) +fine-tune( +\d\S*){3} +\S+ × .* ×.* \d\S+$", tuned)
    assert re.search(r"^ +scratch( +\d\S*){2}", scratch)
    assert rest[-3].startswith("At equal N, pre-training lowers the error on ")
    assert rest[-1].startswith("Each search tried two learning rates")
    assert ESCAPE not in first.stdout


def test_progress_is_plain_lines_on_standard_error(first: subprocess.CompletedProcess[str]) -> None:
    *lines, last = (line for line in first.stderr.splitlines() if "hardly uses its coefficients" not in line)
    jobs = [line for line in lines if ": step " not in line]  # a slow machine says how far a fit is
    assert [line.split()[0] for line in jobs] == [f"[{i}/17]" for i in range(1, 18)]
    assert any(re.fullmatch(r".*learning_rate=0\.01: validation \S+ in \d+ s", line) for line in jobs)
    assert any(re.fullmatch(r".*B from A · zero-shot · N=0: scored, relative_l2 \S+", line) for line in jobs)
    assert last == "records, table and figures: runs/tiny/unet,width=4,levels=1"
    assert ESCAPE not in first.stderr


def test_records_table_and_figures_are_left_in_the_folder(
    first: subprocess.CompletedProcess[str], folder: Path
) -> None:
    results = folder / "runs" / "tiny" / "unet,width=4,levels=1"
    assert {path.name for path in results.iterdir()} >= {"records.jsonl", "table.md", "figures"}
    assert len(read(results / "records.jsonl")) == 1 + 1 + 2 + 3
    assert not list((folder / "runs").rglob("*.partial"))


def test_the_same_command_again_prints_the_same_table_and_trains_nothing(
    first: subprocess.CompletedProcess[str], folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(folder)
    monkeypatch.chdir(folder)
    code, out, err = call("run", "tiny.yaml", *UNET, "--workers", 2)
    assert (code, out) == (0, first.stdout)
    assert err.splitlines() == [line for line in first.stderr.splitlines() if not line.startswith("[")]
    assert contents(folder) == before


def test_figures_that_were_deleted_are_drawn_again(
    first: subprocess.CompletedProcess[str], folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    figures = folder / "runs" / "tiny" / "unet,width=4,levels=1" / "figures"
    drawn = {path.name for path in figures.iterdir()}
    shutil.rmtree(figures)
    (figures.parent / "table.md").write_bytes(b"\xff")
    assert call("run", "tiny.yaml", *UNET, "--workers", 2)[0] == 0
    assert {path.name for path in figures.iterdir()} == drawn
    assert (figures.parent / "table.md").read_text(encoding="utf-8").startswith("## ")


def test_json_is_all_there_is_on_standard_output(
    first: subprocess.CompletedProcess[str], folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    code, out, _ = call("run", "tiny.yaml", *UNET, "--json")
    kept = [
        json.loads(line) for line in (folder / "runs/tiny/unet,width=4,levels=1/records.jsonl").read_text().splitlines()
    ]
    assert code == 0
    assert sorted(json.loads(out), key=str) == sorted(kept, key=str)


def test_a_model_that_cannot_be_tuned_says_unsupported_and_is_done(tmp_path: Path, call: Call) -> None:
    code, out, _ = call("run", write_suite(tmp_path), "--model", "zero", "--output", tmp_path / "runs", "--workers", 1)
    assert code == 0
    assert out.count("unsupported") == 2


def test_two_models_are_run_and_stand_side_by_side_in_one_table(tmp_path: Path, call: Call) -> None:
    suite, output = write_suite(tmp_path), tmp_path / "runs"
    code, out, err = call("run", suite, *REGRESSION, "--model", "zero", "--output", output, "--workers", 1)
    assert (code, out) == (2, "")
    assert "model zero: modes: unknown setting" in err
    code, out, err = call("run", suite, "--model", "mean", "--model", "zero", "--output", output, "--workers", 1)
    assert code == 0
    (header,) = (line for line in out.splitlines() if line.startswith("task "))
    assert header.split()[:4] == ["task", "shift", "model", "arm"]
    rows = [line.split() for line in out.splitlines() if " fine-tune " in line]
    assert [row[row.index("fine-tune") - 1] for row in rows] == ["mean", "zero"]
    assert {path.name for path in (output / "tiny").iterdir()} == {"mean", "zero"}
    assert [line.rpartition("/")[2] for line in err.splitlines()[-2:]] == ["mean", "zero"]
    assert call("compare", output)[:2] == (0, out)
    found = json.loads(call("compare", output, "--json")[1])
    assert {(row["model"], row["kind"]) for row in found} >= {("mean", "point"), ("zero", "point")}
    assert all("place" in row for row in found)


def test_variants_of_one_model_do_not_overwrite_each_other(tmp_path: Path, call: Call) -> None:
    suite, output = write_suite(tmp_path), tmp_path / "runs"
    for modes in (3, 4):
        assert call("run", suite, *REGRESSION[:3], f"modes={modes}", "--output", output, "--workers", 1)[0] == 0
    _, out, _ = call("compare", output)
    assert "mode-regression,modes=3" in out
    assert "mode-regression,modes=4" in out
    names = {path.name for path in (output / "tiny").iterdir()}
    assert names == {"mode-regression,modes=3", "mode-regression,modes=4"}


def test_a_suite_that_was_edited_without_a_new_version_is_noticed(tmp_path: Path, call: Call) -> None:
    run = ("--model", "zero", "--output", tmp_path / "runs", "--workers", 1)
    assert "shown together" not in call("run", write_suite(tmp_path), *run)[2]
    edited = write_suite(
        tmp_path, ("downstream: [4, 8]", "downstream: [2]"), ("version: 1", "version: 1\ndata_seed: 1")
    )
    code, _, err = call("run", edited, *run)
    assert (code, "shown together" in err, "differs from" in err) == (0, True, True)
    assert "differs from" in call("compare", tmp_path / "runs")[2]


def test_a_model_that_does_not_look_at_its_coefficients_is_named_after_its_table(tmp_path: Path, call: Call) -> None:
    arguments = (write_suite(tmp_path), "--output", tmp_path / "runs", "--workers", 1)
    code, _, err = call("run", *arguments, "--model", "zero")
    assert code == 0
    assert err.splitlines()[-2] == (
        "zero hardly uses its coefficients: exchanging them among test examples changes its error by 0.0% (median over "
        "1 point); see docs/scores.md"
    )
    assert "coefficients" not in call("run", *arguments, *REGRESSION)[2]


def test_a_task_on_which_it_does_not_look_at_them_is_named(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CoefficientUse, "ignored", False)  # as if it did on other tasks
    _, _, err = call("run", write_suite(tmp_path), "--output", tmp_path / "runs", "--workers", 1, "--model", "zero")
    assert "zero hardly uses its coefficients on B from A: exchanging them among test examples changes its " in err


def test_a_point_that_diverges_gives_exit_code_3_and_its_reason_every_time(tmp_path: Path, call: Call) -> None:
    suite = write_suite(tmp_path, ("[1e-3, 1e-2]", "[1e20, 1e25]"), ("fine-tune, scratch", "scratch"))
    for _ in range(2):
        code, out, err = call("run", suite, *UNET, "--output", tmp_path / "runs", "--workers", 1)
        assert code == 3
        assert "diverged" in out
        assert re.search(
            r"^diverged: B from A · scratch · N=4: all 2 trials diverged: .*(nan|inf|finite)", err, re.MULTILINE
        )


def test_a_full_disk_fails_the_job_and_the_next_run_tries_it_again(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_baselines.mode_regression import ModeRegression

    suite = write_suite(tmp_path)
    arguments = ("run", suite, *REGRESSION, "--output", tmp_path / "runs", "--workers", 1)
    save, write = ModeRegression.save, Path.write_text

    def full(self: ModeRegression, path: Path) -> None:
        (path / "half").write_bytes(b"half a model")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_log(self: Path, *rest: object, **more: object) -> int:
        if self.name == "failure.log":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ModeRegression, "save", full)
    monkeypatch.setattr(Path, "write_text", no_log)
    code, out, err = call(*arguments)
    assert code == 3
    assert "OSError: [Errno 28] No space left on device" in err
    causes = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert [line.partition(": failed, and")[0] for line in causes] == [
        "failed: pre-training poisson: 2 of 2 trials failed: pre-training poisson · ridge=0.0001",
        "failed: B from A · scratch · N=4: 2 of 2 trials failed: B from A · scratch · N=4 · ridge=0.0001",
    ]
    assert [line.rpartition("(")[2] for line in causes] == [
        "3 more points start from it)",
        "1 more point for the same reason)",
    ]
    assert "Traceback" not in err
    assert not list((tmp_path / "runs").glob("jobs/*/model"))
    monkeypatch.setattr(ModeRegression, "save", save)
    code, again, _ = call(*arguments)
    assert code == 0
    assert "failed" in out
    assert "failed" not in again
    assert not list((tmp_path / "runs").rglob("*half*"))


def test_a_disk_that_is_full_for_records_is_one_line(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "records.jsonl")

    monkeypatch.setattr(records.file, "add", full)
    arguments = ("run", write_suite(tmp_path), "--model", "zero", "--output", tmp_path / "runs", "--workers", 1)
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "pdefm: records.jsonl: No space left on device"


def test_a_result_that_a_power_cut_left_empty_is_made_again(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    whole = evaluate("zero", suite, output=tmp_path / "runs")
    for result in (tmp_path / "runs" / "jobs").glob("*/result.json"):
        result.write_text("")
    assert [r.metrics for r in evaluate("zero", suite, output=tmp_path / "runs").records] == [
        r.metrics for r in whole.records
    ]


def test_what_a_model_says_cannot_reach_the_terminal_raw(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_baselines.mode_regression import ModeRegression

    from pdebench_fm.interfaces import FitReport

    said = "[red]\x1b[2J\nsecond line[/nothing] \\"
    monkeypatch.setattr(ModeRegression, "fit", lambda *_: FitReport("diverged", said))
    suite = write_suite(tmp_path)
    code, out, err = call("run", suite, *REGRESSION, "--output", tmp_path / "runs", "--workers", 1)
    assert code == 3
    assert ESCAPE not in out + err
    assert "diverged: [red]\\x1b[2J second line[/nothing] \\" in err


def test_two_runs_at_once_share_the_work_and_spoil_nothing(tmp_path: Path) -> None:
    write_suite(tmp_path)
    runs = [start("run", "tiny.yaml", *REGRESSION, "--workers", "1", folder=tmp_path) for _ in range(2)]
    ends = [run.communicate(timeout=PATIENCE) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    assert ends[0][0] == ends[1][0]
    lines = [line.split("] ", 1)[1] for _, err in ends for line in err.splitlines() if line.startswith("[")]
    fitted = Counter(line.rpartition(": validation ")[0] for line in lines if ": validation " in line)
    assert len(fitted) == 10
    assert set(fitted.values()) == {1}  # nothing is trained twice, whichever run did it
    assert len(lines) <= 2 * 17
    text = (tmp_path / "runs/tiny/mode-regression,modes=4/records.jsonl").read_text()
    assert text.endswith("\n")
    by_key: dict[object, set[str]] = {}
    for number, line in enumerate(text.splitlines()):
        record = records.file.parse(line, str(number))
        by_key.setdefault(record.key, set()).add(str(record.metrics))
    assert len(by_key) == 7
    assert all(len(scores) == 1 for scores in by_key.values())
    assert not list((tmp_path / "runs").rglob("*.partial"))


@pytest.mark.parametrize("arguments", [("list", "models"), ("run", "smoke", "--model", "zero", "--dry-run")])
def test_a_reader_that_has_gone_is_no_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        ended = subprocess.run(
            [*PDEFM, *arguments], stdout=broken, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path
        )
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed_leads_nowhere(tmp_path: Path, closed: str) -> None:
    program, *rest = PDEFM
    ended = subprocess.run(
        ["sh", "-c", f'"$0" "$@" {closed}', program, *rest, "list", "models"],
        capture_output=True, text=True, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ("fno-64k" in ended.stdout) == (closed == "2>&-")


def test_text_that_a_stream_cannot_show_is_shown_by_its_number(tmp_path: Path) -> None:
    suite = write_suite(tmp_path).rename(tmp_path / "ψ.yaml")
    ended = subprocess.run(
        [*PDEFM, "validate", suite],
        capture_output=True, text=True, env=environment(PYTHONIOENCODING="iso-8859-1"), cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\u03c8.yaml: valid\n" in ended.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_is_full_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*PDEFM, "list", "models"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path
        )
    assert (ended.returncode, ended.stderr) == (1, "pdefm: No space left on device\n")


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file below a folder, with its size and time; locks left out, which are touched by reading."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock"))
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and pytest -m gpu")
def test_jobs_side_by_side_on_gpus_give_the_same_scores(tmp_path: Path) -> None:
    write_suite(tmp_path)
    scores = []
    for workers in ("1", "2"):
        where = ("--device", "cuda", "--workers", workers, "--output", f"runs{workers}", "--json")
        done = pdefm("run", "tiny.yaml", *UNET, *where, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        scores.append([record["metrics"]["relative_l2"] for record in json.loads(done.stdout)])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


def test_a_second_profile_leaves_the_table_figures_and_status_of_the_first(tmp_path: Path, call: Call) -> None:
    suite = write_suite(tmp_path)
    text = suite.read_text(encoding="utf-8")
    suite.write_text(text + text[text.index("  tiny:") :].replace("  tiny:", "  second:"), encoding="utf-8")
    folder = tmp_path / "runs/tiny/mean"
    for profile in ("tiny", "second", "tiny"):
        arguments = ("--profile", profile, "--model", "mean", "--output", tmp_path / "runs", "--workers", 1)
        assert call("run", suite, *arguments)[0] == 0
        table = (folder / "table.md").read_text(encoding="utf-8")
        drawn = {path.name for path in (folder / "figures").iterdir()}
    for profile in ("tiny", "second"):
        assert table.count(f"profile {profile} ") == 2  # of the pre-training and of the task
        assert f"tiny-v1-{profile}-errors-mean.png" in drawn
        assert f"tiny · mean · {profile}: " in call("status", tmp_path / "runs")[1]
