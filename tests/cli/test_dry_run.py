"""``pdefm run --dry-run``: every job once, what is reused, what each part costs; nothing computed, nothing written."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pdebench_fm.api import evaluate
from pdebench_fm.cli.run import _times_faster
from tests.support.command import UNET, write_suite
from tests.support.family import REASON, family_suite, with_family

Call = Callable[..., tuple[int, str, str]]
Cells = tuple[str, ...]


def table_of(out: str) -> dict[str, Cells]:
    """Return what the table says of each part: jobs, done, to do, training examples."""
    lines = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    return {name: tuple(cells[:4]) for name, *cells in lines if len(cells) >= 4 and cells[0] != "jobs"}


def test_from_nothing_it_shows_everything_and_writes_nothing(tmp_path: Path, call: Call) -> None:
    suite = write_suite(tmp_path)
    code, out, err = call("run", suite, *UNET, "--output", tmp_path / "runs", "--dry-run", "-v")
    assert (code, err) == (0, "")
    assert table_of(out) == {
        "pretraining": ("3", "0", "2 trials, 1 point", "64"),
        "zero-shot": ("1", "0", "1 point", "0"),
        "fine-tune": ("6", "0", "4 trials, 2 points", "48"),
        "scratch": ("7", "0", "4 trials, 3 points", "48"),  # N = 0 is a score and no fit
        "in all": ("17", "0", "10 trials, 7 points", "160"),
    }
    assert sum(line.startswith("to do ") for line in out.splitlines()) == 17
    assert list(tmp_path.iterdir()) == [suite]


def test_after_a_part_it_says_what_is_reused(tmp_path: Path, call: Call) -> None:
    small = write_suite(tmp_path)
    evaluate("unet", small, arguments={"width": 4, "levels": 1}, device="cpu", output=tmp_path / "runs")
    larger = write_suite(tmp_path, ("downstream: [4, 8]", "downstream: [4, 8, 16]"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = ("run", larger, *UNET, "--output", tmp_path / "runs", "--dry-run", "-v")
    code, out, _ = call(*arguments)
    assert code == 0
    assert Counter(line.split()[0] for line in out.splitlines()[:23]) == {"done": 17, "to": 6}
    assert table_of(out) == {
        "pretraining": ("3", "3", "nothing", "0"),
        "zero-shot": ("1", "1", "nothing", "0"),
        "fine-tune": ("9", "6", "2 trials, 1 point", "64"),
        "scratch": ("10", "7", "2 trials, 1 point", "64"),
        "in all": ("23", "17", "4 trials, 2 points", "128"),
    }
    code, out, err = call(*arguments, "--json")
    about = json.loads(out)
    assert (code, err) == (0, "")
    assert set(about) == {"jobs", "unsupported", "parts", "left"}
    assert sum(job["done"] for job in about["jobs"]) == 17
    assert about["left"]["training_examples"] == 128
    assert about["left"]["seconds"] == pytest.approx(sum(part["seconds"] for part in about["parts"]))
    assert about["left"]["seconds"] > 0
    assert about["left"]["bytes"] > 0
    costly = {part["part"]: part["seconds"] > 0 for part in about["parts"]}
    assert costly == {"pretraining": False, "zero-shot": False, "fine-tune": True, "scratch": True}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_times_are_not_divided_by_the_processes_of_one_trial(tmp_path: Path, call: Call) -> None:
    asked = ("run", write_suite(tmp_path), *UNET, "--output", tmp_path / "runs", "--dry-run", "--nproc", 2)
    code, out, err = call(*asked)
    assert (code, err) == (0, "")
    assert "one job at a time" in out


def test_jobs_that_several_rows_share_are_counted_once(tmp_path: Path, call: Call) -> None:
    again = "  - {name: B again, pretraining: poisson, downstream: B, shift: med}\nprotocols:"
    suite = write_suite(tmp_path, ("protocols:", again))
    _, out, _ = call("run", suite, *UNET, "--output", tmp_path / "runs", "--dry-run")
    assert table_of(out)["in all"] == ("17", "0", "10 trials, 7 points", "160")


def test_of_a_family_every_size_has_its_own_parts(tmp_path: Path, call: Call) -> None:
    family = with_family()
    suite = family_suite(tmp_path)
    arguments = ("run", suite, "--model", "toys", "--output", tmp_path / "runs", "--dry-run")
    code, out, err = call(*arguments, registry=family)
    assert (code, err) == (0, "")
    assert f"unsupported  toys-c · 8 rows: {REASON}" in out
    jobs = {name: int(cells[0]) for name, cells in table_of(out).items()}
    assert {name.split(" · ")[0] for name in jobs} == {"toys-a", "toys-b", "in all"}
    assert 2 * jobs["in all"] == sum(jobs.values()) > 0
    code, out, _ = call(*arguments, "--json", registry=family)
    about = json.loads(out)
    assert {part["model"] for part in about["parts"]} == {job["model"] for job in about["jobs"]} == {"toys-a", "toys-b"}
    assert len(about["jobs"]) == jobs["in all"]
    assert about["unsupported"][0].startswith("toys-c · B from poisson · zero-shot · N=0: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("device", "times"), [("cpu", 8), ("cuda", 2), ("cuda:1", 1)])
def test_workers_that_share_a_gpu_promise_no_shorter_time(
    monkeypatch: pytest.MonkeyPatch, device: str, times: int
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _times_faster(device, 8) == times


def test_the_scale_of_the_paper_fits_a_screen_in_seconds(tmp_path: Path, call: Call) -> None:
    arguments = ("run", "ood_sys1", "--profile", "paper", "--model", "fno-256m", "--output", tmp_path, "--dry-run")
    start = time.process_time()
    code, out, err = call(*arguments, "--device", "cpu")
    assert (code, err) == (0, "")
    assert time.process_time() - start < 10  # seconds of a core; 3 s on an idle machine
    assert len(out.splitlines()) < 24
    assert re.search(r"\d+ years: not on this machine", out)


def test_a_gpu_that_is_not_here_is_named(tmp_path: Path, call: Call) -> None:
    arguments = ("run", write_suite(tmp_path), *UNET, "--output", tmp_path / "runs", "--device", "h200")
    code, out, err = call(*arguments, "--dry-run")
    assert (code, err) == (0, "")
    assert "h200 time" in out
    assert re.search(r"on 64 h200: .*\nlongest chain of jobs: ", out)
    code, out, _ = call(*arguments, "--dry-run", "--json")
    left = json.loads(out)["left"]
    assert list(left["wall_seconds"]) == ["1", "8", "64"]
    assert left["wall_seconds"]["1"] == pytest.approx(left["seconds"])
    assert left["wall_seconds"]["64"] >= sum(job["seconds"] for job in left["longest_chain"]) > 0
    code, _, err = call(*arguments)
    assert (code, err) == (
        2,
        "pdefm: --device h200 names a kind of GPU for --dry-run; a run takes auto, cpu, cuda or cuda:N\n",
    )
    code, _, err = call(*arguments[:-1], "h20", "--dry-run")
    assert (code, err) == (2, "pdefm: unknown device 'h20'; did you mean 'h200'?\n")
    assert not (tmp_path / "runs").exists()
