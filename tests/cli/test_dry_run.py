"""``pdefm run --dry-run``: every job once, what is reused, what each part costs; nothing computed, nothing written."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pdebench_fm.api import evaluate
from pdebench_fm.cli.run import _times_faster
from tests.support.command import UNET, write_suite
from tests.support.family import REASON, family_suite, with_family

Call = Callable[..., tuple[int, str, str]]
PART = re.compile(
    r"(\S+) +(\d+) jobs, (\d+) reused; to do: (\d+) trials and (\d+) points, (\d+) training examples, about \d+ s"
)


def parts_of(lines: list[str]) -> dict[str, tuple[int, ...]]:
    """(jobs, reused, trials, points, training examples) of every part that is printed."""
    found = [match for match in map(PART.fullmatch, lines) if match]
    return {match[1]: tuple(int(number) for number in match.groups()[1:]) for match in found}


def test_from_nothing_it_shows_everything_and_writes_nothing(tmp_path: Path, call: Call) -> None:
    suite = write_suite(tmp_path)
    code, out, err = call("run", suite, *UNET, "--output", tmp_path / "runs", "--dry-run", "-v")
    *lines, total = out.splitlines()
    assert (code, err) == (0, "")
    assert sum(line.startswith("to do ") for line in lines) == 17
    assert parts_of(lines) == {
        "pretraining": (3, 0, 2, 1, 2 * 2 * 16),
        "zero-shot": (1, 0, 0, 1, 0),
        "fine-tune": (6, 0, 4, 2, 2 * 2 * (4 + 8)),
        "scratch": (7, 0, 4, 3, 2 * 2 * (4 + 8)),  # N = 0 is a score and no fit
    }
    assert len(lines) == 17 + 4
    assert re.fullmatch(
        r"17 jobs, 0 reused; to do: 10 trials and 7 points, 160 training examples, about \d+ s and [\d.]+ MB on cpu",
        total,
    )
    assert list(tmp_path.iterdir()) == [suite]


def test_after_a_part_it_says_what_is_reused(tmp_path: Path, call: Call) -> None:
    small = write_suite(tmp_path)
    evaluate("unet", small, arguments={"width": 4, "levels": 1}, device="cpu", output=tmp_path / "runs")
    larger = write_suite(tmp_path, ("downstream: [4, 8]", "downstream: [4, 8, 16]"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments = ("run", larger, *UNET, "--output", tmp_path / "runs", "--dry-run", "-v")
    code, out, _ = call(*arguments)
    lines = out.splitlines()
    assert code == 0
    assert Counter(line.split()[0] for line in lines[:23]) == {"done": 17, "to": 6}
    assert parts_of(lines) == {
        "pretraining": (3, 3, 0, 0, 0),
        "zero-shot": (1, 1, 0, 0, 0),
        "fine-tune": (9, 6, 2, 1, 64),
        "scratch": (10, 7, 2, 1, 64),
    }
    assert "23 jobs, 17 reused; to do: 4 trials and 2 points, 128 training examples" in lines[-1]
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
    assert out.splitlines()[-1].startswith("17 jobs, 0 reused")


def test_jobs_that_several_rows_share_are_counted_once(tmp_path: Path, call: Call) -> None:
    again = "  - {name: B again, pretraining: poisson, downstream: B, shift: med}\nprotocols:"
    suite = write_suite(tmp_path, ("protocols:", again))
    _, out, _ = call("run", suite, *UNET, "--output", tmp_path / "runs", "--dry-run")
    assert "17 jobs, 0 reused; to do: 10 trials and 7 points, 160 training examples" in out


def test_of_a_family_every_size_has_its_own_parts(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdebench_fm.run.prepare.registry", with_family)
    suite = family_suite(tmp_path)
    arguments = ("run", suite, "--model", "toys", "--output", tmp_path / "runs", "--dry-run")
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert sum(line.startswith("unsupported  toys-c · ") and line.endswith(REASON) for line in lines) == 2 * 4
    sums = [int(line.split(" jobs")[0].split()[-1]) for line in lines if " MB on cpu" in line]
    assert len(sums) == 3  # two sizes that can, and both together
    assert sums[0] + sums[1] == sums[2] > 0
    code, out, _ = call(*arguments, "--json")
    about = json.loads(out)
    assert {part["model"] for part in about["parts"]} == {job["model"] for job in about["jobs"]} == {"toys-a", "toys-b"}
    assert len(about["jobs"]) == sums[2]
    assert about["unsupported"][0].startswith("toys-c · B from poisson · zero-shot · N=0: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("device", "times"), [("cpu", 8), ("cuda", 2), ("cuda:1", 1)])
def test_workers_that_share_a_gpu_promise_no_shorter_time(
    monkeypatch: pytest.MonkeyPatch, device: str, times: int
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _times_faster(device, 8) == times
