"""``--pretrained FILE``: the user's own weights instead of pre-training jobs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pdebench_fm.cli import main
from pdebench_fm.data.hashing import hash_of
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.sets import open_distribution
from pdebench_fm.records.record import Record
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.runner import RunResult
from pdebench_fm.testing import SmoothExamples
from tests.support.installed import with_toy
from tests.support.records import read
from tests.support.toy import Toy, run_in, toy_suite

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def toys() -> Registry:
    return with_toy()


@pytest.fixture
def pdefm(capsys: pytest.CaptureFixture[str], toys: Registry) -> Call:
    """Run a command where the toy model is registered; returns exit code, standard output and standard error."""

    def call(*arguments: object, registry: Registry = toys) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments], registry)
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def suite_of_one_task(folder: Path, *, task: str = "B from poisson") -> Path:
    """The toy suite with one of its two tasks."""
    path = toy_suite(folder)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    other = {"B from poisson": "C from mixed", "C from mixed": "B from poisson"}[task]
    path.write_text("".join(line for line in lines if f"name: {other}" not in line), encoding="utf-8")
    return path


def run(pdefm: Call, suite: Path, output: Path, *options: object, **where: object) -> list[Record]:
    command = ("run", suite, "--model", "toy", "--device", "cpu", "--workers", 1, "--output", output, "--json")
    code, out, err = pdefm(*command, *options, **where)
    assert code == 0, err
    return [Record.model_validate(record) for record in json.loads(out)]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, toys: Registry) -> tuple[RunResult, Path]:
    """A run with its own pre-training, and the file of the weights that it chose."""
    from pdebench_fm.plan.planner import make_plan
    from pdebench_fm.suite.reading import load_suite

    folder = tmp_path_factory.mktemp("original")
    suite = load_suite(suite_of_one_task(folder), toys)
    result = run_in(folder / "runs", make_plan(suite, "tiny", model_spec(toys, "toy"), toys))
    (pretraining,) = (record for record in result.records if record.kind == "pretraining")
    job = folder / "runs" / "jobs" / pretraining.job_id
    chosen = json.loads((job / "result.json").read_text())["chosen"]
    return result, folder / "runs" / "jobs" / chosen / "model" / "model.safetensors"


@pytest.fixture
def weights(original: tuple[RunResult, Path], tmp_path: Path) -> Path:
    """The weights as a user has them: one file, somewhere."""
    return Path(shutil.copy(original[1], tmp_path / "mine.safetensors"))


@pytest.mark.parametrize("factory", [Toy, lambda: Toy()], ids=["class", "function"])
def test_weights_of_a_run_give_its_scores_without_pretraining(
    pdefm: Call,
    original: tuple[RunResult, Path],
    weights: Path,
    tmp_path: Path,
    toys: Registry,
    factory: Callable[[], Toy],
) -> None:
    other = toys.with_entry("models", replace(toys.get("models", "toy"), factory=factory))
    made = run(pdefm, suite_of_one_task(tmp_path), tmp_path / "runs", "--pretrained", weights, registry=other)
    points = [record for record in original[0].records if record.kind == "point"]
    assert [r.kind for r in made] == ["point"] * len(points)
    assert [(r.protocol, r.examples, r.metrics) for r in made] == [(r.protocol, r.examples, r.metrics) for r in points]
    assert all(r.pretrain_job_id is None for r in made)
    assert {r.job["start"]["from"] for r in made} == {"weights", "initialised"}


def test_scratch_is_the_same_job_and_the_others_are_not(
    pdefm: Call, original: tuple[RunResult, Path], weights: Path, tmp_path: Path
) -> None:
    made = run(pdefm, suite_of_one_task(tmp_path), tmp_path / "runs", "--pretrained", weights)
    known = {record.job_id for record in original[0].records}
    assert {r.protocol for r in made if r.job_id in known} == {"scratch"}
    assert {r.protocol for r in made if r.job_id not in known} == {"zero-shot", "fine-tune"}


def test_the_same_weights_elsewhere_are_the_same_jobs(pdefm: Call, weights: Path, tmp_path: Path) -> None:
    suite, output = suite_of_one_task(tmp_path), tmp_path / "runs"
    run(pdefm, suite, output, "--pretrained", weights)
    kept = output / "toy" / f"toy,pretrained={hash_of(weights)[:8]}" / "records.jsonl"
    before = kept.read_bytes()
    moved = weights.rename(tmp_path / "moved.safetensors")
    run(pdefm, suite, output, "--pretrained", moved)
    assert kept.read_bytes() == before
    assert len(read(kept)) == 1 + 2 + 3


def of_other_width(folder: Path) -> Path:
    from pdebench_fm.plan.sets import open_distribution

    problem = open_distribution("ood_sys1:SYS-1(1,5)", split="train", count=1, grid=16, device="cpu").examples.problem
    wide = Toy(width=8)
    wide.initialise(problem, SmoothExamples(problem, 4), 0)
    wide.save(folder)
    return folder / "model.safetensors"


def truncated(weights: Path) -> Path:
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    return weights


def refused(pdefm: Call, tmp_path: Path, file: Path, *, task: str = "B from poisson", model: str = "toy") -> str:
    """The one line that refuses a file; nothing may have been written."""
    suite = suite_of_one_task(tmp_path, task=task)
    code, out, err = pdefm(
        "run", suite, "--model", model, "--device", "cpu", "--output", tmp_path / "runs", "--pretrained", file
    )
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
    return err


def test_weights_of_a_model_with_a_list_of_widths_are_its_own(pdefm: Call, tmp_path: Path) -> None:
    class Wide(Toy):
        def __init__(self, widths: tuple[int, ...] = (4, 2)) -> None:
            super().__init__(widths[0])
            self.widths = widths

    found = with_toy().with_model(ModelEntry("wide", "1", Wide, ""))
    suite = suite_of_one_task(tmp_path)
    examples = open_distribution(f"{suite}:B", split="train", count=4, grid=16, device="cpu").examples
    model = Wide()
    model.initialise(examples.problem, examples, 0)
    model.save(tmp_path)
    common = ("run", suite, "--model", "wide", "--pretrained", tmp_path / "model.safetensors", "--dry-run")
    assert pdefm(*common, registry=found)[0] == 0
    code, _, err = pdefm(*common, "--set", "widths=[4, 3]", registry=found)
    assert (code, "made with widths=[4, 2], this model has widths=[4, 3]" in err) == (2, True)


def test_weights_of_another_width_are_refused(pdefm: Call, tmp_path: Path) -> None:
    assert "made with width=8, this model has width=4" in refused(pdefm, tmp_path, of_other_width(tmp_path))


def test_truncated_weights_are_refused(pdefm: Call, weights: Path, tmp_path: Path) -> None:
    assert "mine.safetensors: cannot be read as Toy weights" in refused(pdefm, tmp_path, truncated(weights))


def test_missing_weights_are_refused(pdefm: Call, tmp_path: Path) -> None:
    assert "there are no such weights" in refused(pdefm, tmp_path, tmp_path / "absent.safetensors")


def test_a_folder_without_weights_is_refused(pdefm: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "cannot be read" in refused(pdefm, tmp_path, tmp_path / "empty")


def test_weights_that_lack_a_channel_are_refused(pdefm: Call, weights: Path, tmp_path: Path) -> None:
    text = refused(pdefm, tmp_path, weights, task="C from mixed")
    assert "cannot be used for task 'C from mixed'" in text
    assert "omega" in text


def test_only_the_tasks_that_are_run_ask_for_their_channels(pdefm: Call, weights: Path, tmp_path: Path) -> None:
    common = ("run", toy_suite(tmp_path), "--model", "toy", "--pretrained", weights, "--dry-run")
    assert pdefm(*common)[0] == 2
    assert pdefm(*common, "--task", "B from poisson")[0] == 0


def test_weights_of_another_architecture_are_refused(pdefm: Call, weights: Path, tmp_path: Path) -> None:
    assert "mine.safetensors" in refused(pdefm, tmp_path, weights, model="unet")
    assert "mine.safetensors" in refused(pdefm, tmp_path, weights, model="mode-regression")


def test_a_model_that_does_not_learn_from_pretraining_takes_no_weights(
    pdefm: Call, weights: Path, tmp_path: Path
) -> None:
    assert "zero does not learn from pre-training" in refused(pdefm, tmp_path, weights, model="zero")


def test_whatever_a_model_raises_on_foreign_weights_is_one_line(
    pdefm: Call, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("head.weight\nor so")

    monkeypatch.setattr(Toy, "load", fails)
    assert "cannot be read as weights of toy: KeyError" in refused(pdefm, tmp_path, weights)
