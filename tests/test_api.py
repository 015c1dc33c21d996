"""The Python calls: the same road as the command line, and nothing written where the arguments are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import pdebench_fm
from pdebench_fm import figures
from pdebench_fm.api import Result
from pdebench_fm.errors import (
    PdefmError,
    RunError,
    SettingError,
    SuiteError,
    UnknownNameError,
    UnsupportedError,
    UsageError,
)
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.plan.model import entry_of
from pdebench_fm.problem import Problem
from pdebench_fm.run.executors import gpus_of
from pdebench_fm.run.runner import RunResult
from tests.support.records import read
from tests.support.toy import TOY, Toy, toy_suite


class TinyNet(Toy):
    """A class that no plugin registers."""


class Choosy(Toy):
    def supports(self, problem: Problem) -> str | None:
        return "only takes Navier-Stokes"


def scores(result: RunResult) -> list[tuple[str, str, int, int, dict[str, float]]]:
    return [(r.task, r.protocol, r.examples, r.seed, dict(r.metrics)) for r in result.records]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, finished_run: Callable[[Path], RunResult]) -> RunResult:
    """The toy suite as the runner runs it."""
    return finished_run(tmp_path_factory.mktemp("reference") / "runs")


@pytest.fixture(scope="module")
def of_class(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("of_class")
    return pdebench_fm.evaluate(TinyNet, toy_suite(folder), device="cpu", output=folder / "runs")


def test_an_entry_scores_what_the_runner_scores(tmp_path: Path, reference: RunResult) -> None:
    result = pdebench_fm.evaluate(TOY, toy_suite(tmp_path), device="cpu", output=tmp_path / "runs")
    assert scores(result) == scores(reference)
    assert [r.job_id for r in result.records] == [r.job_id for r in reference.records]


def test_a_class_scores_what_its_entry_scores(of_class: RunResult, reference: RunResult) -> None:
    assert of_class.complete
    assert of_class.folder.name == "tiny-net"
    assert scores(of_class) == scores(reference)


def test_the_results_are_written_with_table_and_figures(of_class: RunResult) -> None:
    assert read(of_class.folder / "records.jsonl") == of_class.records
    assert "tiny-net" in (of_class.folder / "table.md").read_text(encoding="utf-8")
    assert list((of_class.folder / "figures").iterdir())


def test_above_the_figures_of_a_run_stands_what_its_own_suite_drew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}

    def draw(records: Any, folder: Path, realised: Any) -> None:
        found.update(realised(records))

    monkeypatch.setattr(figures, "draw", draw)
    pdebench_fm.evaluate("zero", toy_suite(tmp_path), device="cpu", output=tmp_path / "runs")
    assert {task: (shown.parameter, shown.ends[0], round(shown.ends[1], 1)) for task, shown in found.items()} == {
        "B from poisson": ("eigenvalue", pytest.approx(1, abs=0.01), 10.0),
        "C from mixed": ("wavenumber", 5.0, 6.0),
    }


def test_a_result_is_shown_in_a_few_lines(of_class: Result) -> None:
    lines = repr(of_class).splitlines()
    assert len(lines) < 15
    assert lines[0].startswith("toy v1 · profile tiny · tiny-net (")
    assert [line.split("  ")[0] for line in lines[3:5]] == ["B from poisson", "C from mixed"]
    assert any(line.startswith("At equal N, pre-training lowers the error on ") for line in lines)
    assert lines[-1] == f"14 of 14 records ok, in {of_class.folder}"
    html = of_class._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 2
    assert "B from poisson" in html


def test_a_result_can_be_plotted_and_a_notebook_shows_it(of_class: Result) -> None:
    figure = of_class.plot()
    assert len(figure.axes) >= 2
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert of_class.plot("savings") is not None
    with pytest.raises(UnknownNameError, match="did you mean 'seeds'"):
        of_class.plot("seed")
    with pytest.raises(RunError, match="nothing to draw: seeds needs scores of two seeds of one point"):
        of_class.plot("seeds")


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def err(**options: Any) -> str:
        output = tmp_path / str(options)
        pdebench_fm.evaluate("zero", toy_suite(tmp_path), device="cpu", output=output, **options)
        return capsys.readouterr().err

    assert "zero-shot" in err()
    assert err(progress=False) == ""


def test_several_models_are_one_result(tmp_path: Path) -> None:
    result = pdebench_fm.evaluate(["zero", TOY], toy_suite(tmp_path), device="cpu", output=tmp_path / "runs")
    assert {record.model for record in result.records} == {"zero", "toy"}
    assert result.folder == tmp_path / "runs" / "toy"
    assert {path.name for path in result.folder.iterdir()} == {"zero", "toy"}


def test_a_class_is_identified_by_its_code(of_class: RunResult) -> None:
    version = entry_of(TinyNet).version
    assert version.startswith("code-")
    assert entry_of(TinyNet).version == version
    assert entry_of(Choosy).version != version
    assert of_class.records[0].versions["model tiny-net"] == version


def test_a_registered_name_takes_arguments_and_seeds(tmp_path: Path) -> None:
    result = pdebench_fm.evaluate(
        "mode-regression",
        toy_suite(tmp_path),
        "tiny",
        arguments={"modes": 3},
        seeds=2,
        device="cpu",
        output=tmp_path / "runs",
    )
    assert result.complete
    assert result.records[0].model_args == {"modes": 3, "degree": 2}
    assert {r.seed for r in result.records} == {0, 1}


def test_no_model_is_refused_and_one_task_may_be_named_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a list of at least one"):
        pdebench_fm.evaluate([], toy_suite(tmp_path))
    where: dict[str, Any] = {"device": "cpu", "output": tmp_path / "runs", "progress": False}
    result = pdebench_fm.evaluate("mean", toy_suite(tmp_path), tasks="B from poisson", **where)
    assert {record.task for record in result.records if record.kind == "point"} == {"B from poisson"}


def test_calling_again_reuses_everything(tmp_path: Path) -> None:
    def call() -> RunResult:
        return pdebench_fm.evaluate("mean", toy_suite(tmp_path), device="cpu", output=tmp_path / "runs")

    first, second = call(), call()
    assert first.changed
    assert not second.changed
    assert second.records == first.records


def contents(folder: Path) -> dict[str, bytes]:
    """The table and the figures of a run."""
    return {path.name: path.read_bytes() for path in (folder / "table.md", *(folder / "figures").glob("*.png"))}


def test_runs_of_parts_add_up_to_the_table_and_figures_of_the_whole(tmp_path: Path) -> None:
    def run(output: str, *tasks: str, seeds: int) -> RunResult:
        suite = toy_suite(tmp_path)
        where: dict[str, Any] = {"device": "cpu", "output": tmp_path / output, "progress": False}
        return pdebench_fm.evaluate("mean", suite, tasks=tasks, seeds=seeds, **where)

    whole = run("whole", seeds=2)
    for tasks, seeds in ((["C from mixed"], 2), (["B from poisson"], 1), (["B from poisson"], 2)):
        part = run("parts", *tasks, seeds=seeds)
        asked = [r for r in whole.records if r.kind == "point" and r.task in tasks and r.seed < seeds]
        assert [r.job_id for r in part.records if r.kind == "point"] == [r.job_id for r in asked]
    assert contents(part.folder) == contents(whole.folder)
    again = run("parts", seeds=1)
    assert {r.seed for r in again.records} == {0}
    assert contents(again.folder) == contents(whole.folder)


@pytest.mark.parametrize("changed", ["suite", "model"])
def test_a_part_is_not_mixed_with_parts_of_another_version(tmp_path: Path, changed: str) -> None:
    suite = toy_suite(tmp_path)
    for version, task in enumerate(("C from mixed", "B from poisson"), start=1):
        if changed == "suite":
            suite.write_text(suite.read_text().replace("version: 1", f"version: {version}"))
        entry = ModelEntry("flat", str(version) if changed == "model" else "1", "pdefm_baselines.reference:Mean", "")
        result = pdebench_fm.evaluate(entry, suite, tasks=[task], device="cpu", output=tmp_path / "runs")
    table = (result.folder / "table.md").read_text(encoding="utf-8")
    assert "B from poisson" in table
    assert "C from mixed" not in table


WRONG: dict[str, tuple[dict[str, Any], type[PdefmError], str]] = {
    "model": ({"model": "uent"}, UnknownNameError, "did you mean 'unet'"),
    "no model": ({"model": dict}, UsageError, "a subclass of OperatorModel"),
    "an instance": ({"model": TinyNet()}, UsageError, "a subclass of OperatorModel"),
    "unsupported": ({"model": Choosy}, UnsupportedError, "only takes Navier-Stokes"),
    "suite": ({"suite": "smok"}, UnknownNameError, "did you mean 'smoke'"),
    "suite file": ({"suite": "nowhere.yaml"}, SuiteError, "nowhere.yaml"),
    "profile": ({"profile": "tniy"}, UnknownNameError, "did you mean 'tiny'"),
    "device": ({"device": "tpu"}, UsageError, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    "device number": ({"device": "cuda:64"}, UsageError, "this machine has"),
    "precision": ({"precision": "float8"}, UnknownNameError, "precision"),
    "seeds": ({"seeds": 0}, UsageError, "seeds must be at least 1, got 0"),
    "argument": ({"arguments": {"wdith": 2}}, SettingError, "did you mean 'width'"),
    "type of argument": ({"arguments": {"width": "wide"}}, SettingError, "width"),
    "weights": ({"pretrained": "nowhere.safetensors"}, PdefmError, "nowhere.safetensors"),
    "taken name": ({"model": ModelEntry("zero", "1", TinyNet, "")}, PdefmError, "already registered"),
}


@pytest.mark.parametrize(("changes", "error", "text"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], error: type[PdefmError], text: str
) -> None:
    given: dict[str, Any] = {"model": TOY, "suite": toy_suite(tmp_path), "device": "cpu", "output": tmp_path / "runs"}
    with pytest.raises(error, match=text) as caught:
        pdebench_fm.evaluate(**{**given, **changes})
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_examples_are_the_same_whatever_the_count() -> None:
    few = pdebench_fm.load_examples("ood_sys1:SYS-1(1,5)", count=3, grid=16)
    many = pdebench_fm.load_examples("ood_sys1:SYS-1(1,5)", count=9, grid=16)
    assert (len(few), len(many)) == (3, 9)
    assert few.problem.grid.size == 16
    (inputs, outputs), (same, _) = few.batch([2]), many.batch([2])
    assert outputs["solution"].shape == (1, 16, 16)
    assert inputs["k11"].shape == (1,)
    for name, values in inputs.items():
        assert torch.equal(values, same[name])


def test_examples_come_from_a_suite_file_too(tmp_path: Path) -> None:
    examples = pdebench_fm.load_examples(f"{toy_suite(tmp_path)}:C", split="test", count=2, grid=16)
    assert "omega" in examples.problem.constants


def test_splits_hold_other_examples() -> None:
    train, test = (
        pdebench_fm.load_examples("ood_sys1:SYS-1(1,5)", split=split, count=2, grid=16).batch([0])[0]["source"]
        for split in ("train", "test")
    )
    assert not torch.equal(train, test)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("ood_sys1:SYS-1(1,6)", "did you mean 'SYS-1\\(1,5\\)'"),
        ("ood_sys:SYS-1(1,5)", "did you mean one of ood_sys1, ood_sys2"),
        ("ood_sys1", "SUITE:NAME"),
    ],
)
def test_an_unknown_distribution_names_the_nearest(reference: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        pdebench_fm.load_examples(reference)


def test_the_calls_are_all_the_package_exports() -> None:
    assert set(pdebench_fm.__all__) == {"__version__", "evaluate", "load_examples", "load_records"}
    with pytest.raises(AttributeError, match="no attribute 'evalaute'"):
        pdebench_fm.evalaute  # noqa: B018
    assert issubclass(TinyNet, OperatorModel)


@pytest.mark.parametrize(
    ("device", "visible", "gpus"),
    [
        ("cuda", None, ["0", "1"]),
        ("cuda", "3, 5", ["3", "5"]),
        ("cuda", "GPU-a,GPU-b,-1,7", ["GPU-a", "GPU-b"]),
        ("cuda:1", None, []),
        ("cpu", None, []),
    ],
)
def test_cuda_stands_for_every_visible_gpu(monkeypatch, device, visible, gpus):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_of(device) == gpus


@pytest.mark.parametrize("name", ["output", "pretrained"])
def test_an_empty_path_is_not_the_current_folder(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must not be empty"):
        pdebench_fm.evaluate(TinyNet, "smoke", **{name: ""})  # type: ignore[arg-type]
