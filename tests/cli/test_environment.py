"""Where commands run: without a home, without write access, beside files that are named like Python's own modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pdebench_fm import evaluate
from tests.support.command import PATIENCE, UNET, environment, program_of, said_by_each, write_suite

NO_HOME = """
import pwd

def missing(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = missing
"""
SHADOWS = ("signal", "struct", "socket", "random", "queue", "pickle", "selectors", "threading")


ZERO_SHOT = ("[zero-shot, fine-tune, scratch]", "[zero-shot]")
"""One job after the other, so that one worker is started."""


def small(folder: Path) -> None:
    write_suite(
        folder, ("[zero-shot, fine-tune, scratch]", "[zero-shot, scratch]"), ("downstream: [4, 8]", "downstream: [4]")
    )


def in_folder(
    folder: Path, command: list[str], variables: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment() if variables is None else variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite and a finished run."""
    folder = tmp_path_factory.mktemp("environment")
    small(folder)
    arguments = {"width": 4, "levels": 1}
    assert evaluate("unet", folder / "tiny.yaml", arguments=arguments, device="cpu", output=folder / "runs").complete
    return folder


def test_neither_a_home_nor_an_entry_in_passwd_is_needed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_HOME)
    names = ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "PDEFM_CACHE_DIR")
    variables = {name: text for name, text in environment(PYTHONPATH=str(tmp_path)).items() if name not in names}

    weights = next(folder.glob("runs/jobs/*/model/model.safetensors"))
    hashing_a_file = ("run", "tiny.yaml", *UNET, "--pretrained", weights, "--dry-run")
    taking_a_lock = ("leaderboard", "add", "runs", "--directory", "board", "--suite", "tiny.yaml")
    done = in_folder(folder, [sys.executable, *program_of(hashing_a_file, taking_a_lock)], variables)
    assert [code for code, _, _ in said_by_each(done)] == [0, 0], done.stderr


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv of util-linux")
def test_a_finished_run_can_be_shown_to_somebody_who_may_only_read_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs", tmp_path / "runs")
    shutil.copy(folder / "tiny.yaml", tmp_path)
    for path in [tmp_path / "runs", *(tmp_path / "runs").rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    # Without these capabilities, even root may write only where a mode lets it.
    bound = ["--bounding-set", "-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []

    commands = program_of(("run", "tiny.yaml", *UNET), ("run", "tiny.yaml", "--model", "mean"))
    shown, more = said_by_each(in_folder(tmp_path, ["setpriv", *bound, sys.executable, *commands]))
    assert shown[0] == 0, shown
    assert "zero-shot" in shown[1]
    assert more[0] == 2
    assert "results cannot be written there" in more[2]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before
    for path in [tmp_path / "runs", *(tmp_path / "runs").rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_files_named_like_modules_of_python_are_not_imported(tmp_path: Path) -> None:
    write_suite(tmp_path, ZERO_SHOT)
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    command = [str(Path(sys.executable).with_name("pdefm")), "run", "tiny.yaml", "--model", "mean", "--workers", "2"]
    done = in_folder(tmp_path, command)
    assert done.returncode == 0, done.stderr
    assert "wrong module" not in done.stderr


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    write_suite(tmp_path, ZERO_SHOT)
    (tmp_path / "script.py").write_text("from pdebench_fm import evaluate\nevaluate('mean', 'tiny.yaml', workers=2)\n")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "a script must call evaluate under \"if __name__ == '__main__'\"" in done.stderr.splitlines()[-1]
    assert "out of memory" not in done.stderr
