"""When ``pdefm run`` begins to load its workers before it has read anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.cli import OWN_PROCESS, cli
from pdebench_fm.errors import UsageError

RUN = ("run", "no-such-suite", "--model", "unet", "--workers", "2", "--device")


@pytest.fixture(autouse=True)
def _two_cores_and_no_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def begin() -> None:
        raise UsageError("begun")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pdebench_fm.run.executors.begin_loading", begin)
    monkeypatch.setattr("pdebench_fm.run.executors.cpu_count", lambda: 2)
    monkeypatch.setattr("pdebench_fm.cli.run._GPU_DRIVERS", ("driver",))


def begins(*arguments: str, own: object = OWN_PROCESS) -> bool:
    with pytest.raises(UsageError) as caught:
        cli.main(list(arguments), standalone_mode=False, obj=own)
    if str(caught.value) == "begun":
        return True
    assert "no-such-suite" in str(caught.value)
    return False


def test_for_workers_of_one_thread_on_a_cpu() -> None:
    assert begins(*RUN, "cpu")
    assert begins(*RUN, "auto")
    assert begins("run", "no-such-suite", "--model", "unet")


def test_not_in_somebody_elses_process() -> None:
    assert not begins(*RUN, "cpu", own=None)


def test_not_where_a_gpu_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "driver").touch()
    assert not begins(*RUN, "auto")
    assert begins(*RUN, "cpu")


def test_not_where_workers_have_more_threads_or_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not begins("run", "no-such-suite", "--model", "unet", "--workers", "1")
    assert not begins("run", "no-such-suite", "--model", "unet", "--nproc", "2")
    monkeypatch.setattr("pdebench_fm.run.executors.cpu_count", lambda: 4)
    assert not begins(*RUN, "cpu")


def test_not_where_nothing_is_run_or_a_table_is_there(tmp_path: Path) -> None:
    assert not begins(*RUN, "cpu", "--dry-run")
    table = tmp_path / "runs" / "no-such-suite" / "unet" / "table.md"
    table.parent.mkdir(parents=True)
    table.touch()
    assert not begins(*RUN, "cpu")
