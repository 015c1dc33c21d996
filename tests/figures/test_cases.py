from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pdebench_fm.errors import RunError
from pdebench_fm.figures.cases import choose_cases, draw_cases, make_cases
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.probes import SAMPLES
from tests.support.records import make_record


def arrays() -> dict[str, np.ndarray]:
    source = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    errors = np.array([0.01, 0.1, 1.5])
    return {
        "examples": np.array([4, 0, 7]),
        "errors": errors,
        "source": source,
        "truth": 2 * source,
        "prediction": 2.5 * source,
    }


def run(output: Path, *found: Record) -> list[tuple[str, Record]]:
    """Records as `collect` returns them, with their test cases."""
    for record in found:
        folder = output / "jobs" / record.job_id
        folder.mkdir(parents=True)
        np.savez(folder / SAMPLES, **arrays())  # type: ignore[arg-type]
    path = output / "smoke" / "conv-small" / "records.jsonl"
    return [(f"{path}:{number}", record) for number, record in enumerate(found, start=1)]


def test_the_three_cases_are_drawn_with_their_errors() -> None:
    figure = make_cases(make_record(examples=64), arrays())
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 12
    labels = [axes.get_ylabel() for axes in panels[::4]]
    assert labels == [
        "best\nerror 0.01\ntest case 4",
        "median\nerror 0.1\ntest case 0",
        "worst\nerror 1.5\ntest case 7",
    ]
    np.testing.assert_array_equal(panels[3].images[0].get_array(), arrays()["prediction"][0] - arrays()["truth"][0])
    assert panels[1].images[0].get_clim() == panels[2].images[0].get_clim()  # truth and prediction compare
    assert "N = 64" in figure.get_suptitle()
    assert [axes.get_title() for axes in panels[:4]] == ["source", "solution", "prediction", "prediction − solution"]


def test_a_prediction_beyond_the_colours_of_the_truth_is_said_to_be() -> None:
    within = {**arrays(), "prediction": arrays()["truth"]}
    panels = [axes for axes in make_cases(make_record(), arrays()).axes if axes.images]
    assert re.fullmatch(r"\d+\.\d% of points are beyond these colours", panels[2].get_xlabel())
    panels = [axes for axes in make_cases(make_record(), within).axes if axes.images]
    assert panels[2].get_xlabel() == ""


def test_the_columns_have_the_names_of_the_channels() -> None:
    figure = make_cases(make_record(), {**arrays(), "channels": np.array(["initial", "final"])})
    titles = [axes.get_title() for axes in figure.axes if axes.images][:4]
    assert titles == ["initial", "final", "prediction", "prediction − final"]


def test_one_figure_a_task_and_model_from_its_largest_fine_tuning(tmp_path: Path) -> None:
    found = run(
        tmp_path,
        make_record(examples=16),
        make_record(examples=64),
        make_record(examples=64, seed=1),
        make_record(examples=256, protocol="scratch"),
        make_record(task="other", protocol="zero-shot", examples=0),
    )
    chosen = [record for record, _ in choose_cases(found)]
    assert [(r.task, r.protocol, r.examples, r.seed) for r in chosen] == [
        ("SYS-1(5,10)", "fine-tune", 64, 0),
        ("other", "zero-shot", 0, 0),
    ]
    written = draw_cases(found, tmp_path / "figures")
    assert sorted(path.suffix for path in written) == [".pdf", ".pdf", ".png", ".png"]
    assert all(path.stat().st_size > 1000 for path in written)


@pytest.mark.parametrize("left", [0, 100, 3000])
def test_damaged_test_cases_are_named(tmp_path: Path, left: int) -> None:
    (found,) = run(tmp_path, make_record(examples=16))
    kept = tmp_path / "jobs" / found[1].job_id / SAMPLES
    kept.write_bytes(kept.read_bytes()[:left])
    with pytest.raises(RunError, match=rf"^{re.escape(str(kept))}: not a file of test cases"):
        draw_cases([found], tmp_path / "figures")


def test_records_without_their_jobs_have_no_such_figure(tmp_path: Path) -> None:
    path = tmp_path / "smoke" / "conv-small" / "records.jsonl"
    found = [(f"{path}:1", make_record()), (f"{path}:2", make_record(status="diverged", examples=64))]
    assert draw_cases(found, tmp_path / "figures") == []
    assert not (tmp_path / "figures").exists()


def test_a_field_that_is_constant_or_zero_can_be_drawn(tmp_path: Path) -> None:
    flat = {**arrays(), "truth": np.zeros((3, 8, 8)), "prediction": np.zeros((3, 8, 8)), "source": np.ones((3, 8, 8))}
    make_cases(make_record(), flat).savefig(tmp_path / "flat.png")
