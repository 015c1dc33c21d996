"""``pdefm run`` with several processes to a trial, started by itself or by torchrun."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pdebench_fm import evaluate
from tests.support.command import PATIENCE, environment, pdefm, write_suite

# The first 50 losses are one a step: every epoch is one batch, of an odd number of examples.
CHANGES = (
    (
        "{epochs: 2, batch_size: 8, learning_rates: [1e-3, 1e-2]}",
        "{epochs: 30, batch_size: 15, learning_rates: [1e-3]}",
    ),
    ("{epochs: 2, learning_rates: [1e-4, 1e-3]}", "{epochs: 50, learning_rates: [1e-3]}"),
    ("downstream: [4, 8]", "downstream: [7]"),
    ("eigenvalue: [5, 10]}\n", "eigenvalue: [5, 10]}\n  C: {system: helmholtz, wavenumber: [5, 6]}\n"),
    ("poisson: [A]", "mixed: [A, C]"),
    ("pretraining: poisson, downstream", "pretraining: mixed, downstream"),
)
SIZES = {"width": 4, "modes": 2, "layers": 2}
FNO = ("--model", "fno-64k", *(part for name, size in SIZES.items() for part in ("--set", f"{name}={size}")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FNO, pre-trained on a mixture, in one process."""
    folder = tmp_path_factory.mktemp("processes")
    suite = write_suite(folder, *CHANGES)
    assert evaluate("fno-64k", suite, arguments=SIZES, device="cpu", output=folder / "alone").complete
    return folder


def losses(output: Path) -> dict[str, list[float]]:
    """The training loss of every epoch, by trial."""
    found = {}
    for history in output.glob("jobs/*/history.jsonl"):
        entries = [json.loads(line) for line in history.read_text().splitlines()]
        found[history.parent.name] = [entry["train_loss"] for entry in entries]
    return found


def same_as_alone(folder: Path, output: str) -> None:
    mine, alone = losses(folder / output), losses(folder / "alone")
    assert mine.keys() == alone.keys()
    assert sorted(len(found) for found in mine.values()) == [30, 50, 50]
    for job, found in mine.items():
        assert found == pytest.approx(alone[job], rel=1e-4)
    scores = []
    for run in (output, "alone"):
        (file,) = (folder / run / "tiny").glob("*/records.jsonl")
        records = [json.loads(line) for line in file.read_text().splitlines()]
        scores.append({record["job_id"]: record["metrics"].get("relative_l2") for record in records})
    assert scores[0] == pytest.approx(scores[1], rel=1e-2)


def test_two_processes_take_the_steps_of_one(folder: Path) -> None:
    done = pdefm("run", "tiny.yaml", *FNO, "--nproc", "2", "--output", "together", folder=folder)
    assert done.returncode == 0, done.stderr
    same_as_alone(folder, "together")


def test_processes_are_asked_for_once(folder: Path) -> None:
    started = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}
    for asked, line in (("--nproc", "torchrun has started"), ("--workers", "choose one")):
        command = [sys.executable, "-m", "pdebench_fm.cli", "run", "tiny.yaml", *FNO, asked, "2"]
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(**started),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, line in done.stderr) == (2, True)


def test_torchrun_starts_them_on_two_nodes_and_one_of_them_prints_the_list_of_a_family(tmp_path: Path) -> None:
    write_suite(tmp_path, ("version: 1\n", "version: 1\nfamily: true\n"), ("grid: 16", "grid: 32"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
               "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "two", "-m",
               "pdebench_fm.cli", "run", "tiny.yaml", "--model", "fno", "--set", "layers=1", "--json"]  # fmt: skip
    nodes = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(PYTHONWARNINGS="ignore"), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        said = [node.communicate(timeout=PATIENCE) for node in nodes]
    finally:
        for node in nodes:
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)  # the agents' own processes, too
    assert [node.returncode for node in nodes] == [0, 0], said
    (out,) = (out for out, _ in said if out)
    found = json.loads(out)
    assert len({record["model"] for record in found}) == 4
    fitted = {record["model"] for record in found if record["status"] == "ok"}
    assert fitted == {"fno-64k,layers=1", "fno-1m,layers=1"}
    assert {record["status"] for record in found} == {"ok", "unsupported"}
