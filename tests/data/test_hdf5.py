"""HDF5 files: what is written is read back exactly, and half a file is never taken for a whole one."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from pdebench_fm.data.hdf5 import HDF5Examples, export, inspect
from pdebench_fm.errors import DataFileError, NotWrittenError
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from tests.support.command import PATIENCE

ROOT = Path(__file__).parents[2]
N, SIZE = 10, 8
PROBLEM = Problem(
    (Channel("k", "constant"), Channel("source"), Channel("w", "constant")),
    (Channel("solution"),),
    Grid(SIZE, length=2.0, periodic=False),
    homogeneous=True,
)


def batch(ids: list[int]) -> tuple[Fields, Fields]:
    index = torch.tensor(ids, dtype=torch.float32)
    plane = torch.arange(SIZE * SIZE, dtype=torch.float32).reshape(SIZE, SIZE)
    source = index[:, None, None] + plane
    return {"k": index * 2, "source": source, "w": -index}, {"solution": source * 3}


def batches(size: int = 4, count: int = N) -> Iterator[tuple[Fields, Fields]]:
    for start in range(0, count, size):
        yield batch(list(range(start, min(start + size, count))))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    export(tmp_path / "a.h5", PROBLEM, batches(), N, {"distribution": "toy", "data_seed": 0})
    return tmp_path / "a.h5"


def test_what_is_written_is_read_back(path: Path) -> None:
    examples = HDF5Examples(path)
    assert len(examples) == N
    assert examples.problem == PROBLEM
    ids = [7, 2, 3, 2, 9, 0]
    for got, wanted in zip(examples.batch(ids), batch(ids), strict=True):
        assert list(got) == list(wanted)
        for name, values in got.items():
            assert values.dtype == torch.float32
            assert torch.equal(values, wanted[name])


def test_the_layout_is_the_contract(path: Path) -> None:
    with h5py.File(path) as file:
        assert (file["fields"].shape, file["fields"].dtype) == ((N, 2, SIZE, SIZE), np.float32)
        assert (file["tensor"].shape, file["tensor"].dtype) == ((N, 2), np.float32)
        assert json.loads(file["tensor"].attrs["channels"]) == ["k", "w"]
        assert json.loads(file.attrs["pdefm"])["distribution"] == "toy"
        assert file.attrs["complete"] == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["a.h5"]


def test_a_problem_without_constants_has_an_empty_tensor(tmp_path: Path) -> None:
    problem = Problem((Channel("source"),), (Channel("solution"),), Grid(SIZE))
    plain = (({"source": inputs["source"]}, outputs) for inputs, outputs in batches())
    export(tmp_path / "a.h5", problem, plain, N, {})
    examples = HDF5Examples(tmp_path / "a.h5")
    assert examples.problem == problem
    assert torch.equal(examples.batch([5])[0]["source"], batch([5])[0]["source"])


def test_examples_can_be_pickled_and_read_in_another_process(path: Path) -> None:
    examples = HDF5Examples(path)
    examples.batch([0])
    copy = pickle.loads(pickle.dumps(examples))
    assert torch.equal(copy.batch([3])[0]["k"], torch.tensor([6.0]))


@pytest.mark.parametrize("ids", [[N], [-1], [0, 99]])
def test_an_id_out_of_range_is_refused(path: Path, ids: list[int]) -> None:
    with pytest.raises(DataFileError, match=r"has examples 0 … 9, got"):
        HDF5Examples(path).batch(ids)


def test_a_summary_describes_the_file(path: Path) -> None:
    summary = inspect(path)
    assert (summary.examples, summary.grid, summary.complete, summary.sampled) == (N, SIZE, True, N)
    assert (summary.inputs, summary.outputs, summary.constants) == (("source",), ("solution",), ("k", "w"))
    assert summary.ranges["k"] == (0.0, 18.0)
    assert summary.ranges["solution"] == (0.0, 3 * (9 + 63))
    assert summary.metadata["data_seed"] == 0


# Files from elsewhere


def authors(path: Path, constants: int = 3) -> Path:
    """A file as published with the paper: two data sets without names."""
    with h5py.File(path, "w") as file:
        file["fields"] = np.ones((4, 2, SIZE, SIZE), np.float64)
        file["tensor"] = np.arange(4 * constants, dtype=np.float64).reshape(4, constants)
    return path


def test_the_papers_files_are_read_if_the_pde_knows_their_columns(tmp_path: Path) -> None:
    path = authors(tmp_path / "poisson.h5")
    with pytest.raises(DataFileError, match="is incomplete"):
        HDF5Examples(path)
    examples = HDF5Examples(path, columns=lambda numbers: dict(zip(("k11", "k22", "k12"), numbers.T, strict=True)))
    assert examples.problem.input_names == ("source", "k11", "k22", "k12")
    assert examples.problem.grid == Grid(SIZE)
    assert not examples.problem.homogeneous
    inputs, _ = examples.batch([2, 0])
    assert inputs["k22"].tolist() == [7.0, 1.0]
    assert inspect(path).ranges["tensor[2]"] == (2.0, 11.0)


def test_the_file_of_the_page_is_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    (program,) = (text for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "create_dataset" in text)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    examples = HDF5Examples(tmp_path / "a.h5")
    assert len(examples) == 64
    assert examples.problem == Problem(
        (Channel("permeability"), Channel("depth", "constant")),
        (Channel("pressure"),),
        Grid(32, length=1.0, periodic=False),
    )


def test_the_attribute_pdefm_is_optional(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["pdefm"]
    problem = HDF5Examples(path).problem
    assert problem.input_names == ("source", "k", "w")
    assert problem.grid == Grid(SIZE)


def _replace(name: str, values: Any) -> Any:
    def spoil(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(attributes)

    return spoil


def _attribute(name: str, value: Any, item: str = "/") -> Any:
    def spoil(file: h5py.File) -> None:
        del file[item].attrs[name]
        if value is not None:
            file[item].attrs[name] = value

    return spoil


def _stated(value: Any, *keys: str) -> Any:
    """Let the problem that a file states hold another value, or lack a key."""

    def spoil(file: h5py.File) -> None:
        about = json.loads(file.attrs["pdefm"])
        part = about
        for key in keys[:-1]:
            part = part[key]
        if value is LACKS:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value
        file.attrs["pdefm"] = json.dumps(about)

    return spoil


LACKS = object()
GRID = ("problem", "grid")
SPOILT = {
    "null": (_stated(None, "problem"), "'pdefm': problem: must be a mapping, got nothing"),
    "beside the problem": (
        _stated(False, "periodic"),
        "which nothing reads; it belongs into 'problem'",
    ),
    "periodic as text": (
        _stated("false", *GRID, "periodic"),
        "grid.periodic: must be true or false, got 'false'",
    ),
    "periodic as number": (_stated(0, *GRID, "periodic"), "grid.periodic: must be true or false, got 0"),
    "periodic null": (_stated(None, *GRID, "periodic"), "grid.periodic: must be true or false, got nothing"),
    "size with a point": (_stated(8.0, *GRID, "size"), "grid.size: must be a whole number, got 8.0"),
    "size true": (_stated(True, *GRID, "size"), "grid.size: must be a whole number, got true"),
    "length as text": (_stated("2", *GRID, "length"), "grid.length: must be a number, got '2'"),
    "length NaN": (_stated(float("nan"), *GRID, "length"), "grid.length: must be finite"),
    "unknown key": (_stated([1, 1], *GRID, "spacing"), "grid.spacing: unknown key"),
    "homogeneous as text": (_stated("no", "problem", "homogeneous"), "homogeneous: must be true or false, got"),
    "homogeneous missing": (_stated(LACKS, "problem", "homogeneous"), "homogeneous: is required"),
    "a role of its own": (
        _stated([["source", "tensor"]], "problem", "inputs"),
        "inputs.0.1: unknown value 'tensor'",
    ),
    "outputs as text": (_stated("solution", "problem", "outputs"), "outputs: must be a list, got 'solution'"),
    "names that are numbers": (
        _attribute("channels", '["k", 3]', "tensor"),
        "a JSON list of names, got ['k', 3]",
    ),
    "complete as text": (_attribute("complete", "1"), "is incomplete"),
    "complete twice": (_attribute("complete", [1, 1]), "is incomplete"),
    "incomplete": (_attribute("complete", None), "is incomplete"),
    "complete is 0": (_attribute("complete", 0), "is incomplete"),
    "no channels": (_attribute("channels", None, "tensor"), "'channels' of 'tensor' is missing"),
    "too few channels": (_attribute("channels", '["k"]', "tensor"), "'channels' names 1"),
    "channels no JSON": (_attribute("channels", "k, w", "tensor"), "'channels' must be a JSON list of names"),
    "channels no list": (_attribute("channels", "3", "tensor"), "'channels' must be a JSON list of names"),
    "channel twice": (_attribute("channels", '["k", "k"]', "tensor"), "describe no problem"),
    "other channels": (_attribute("channels", '["k", "v"]', "tensor"), "; the data sets have k (constant), "),
    "too many outputs": (_attribute("outputs", '["u", "v"]', "fields"), "its names are source, u, v"),
    "pdefm no object": (_attribute("pdefm", "[1]"), "'pdefm' must be a JSON object"),
    "pdefm nonsense": (_attribute("pdefm", '{"problem": {"inputs": 3}}'), "problem: inputs: must be a list, got 3"),
    "no fields": (lambda file: file.pop("fields"), "no data set 'fields'"),
    "no tensor": (lambda file: file.pop("tensor"), "no data set 'tensor'"),
    "three axes": (_replace("fields", np.zeros((N, SIZE, SIZE), np.float32)), "'fields' must have shape"),
    "not square": (_replace("fields", np.zeros((N, 2, SIZE, 4), np.float32)), "'fields' must have shape"),
    "integers": (_replace("fields", np.zeros((N, 2, SIZE, SIZE), int)), "'fields' must be float32, got int64"),
    "fewer rows": (_replace("tensor", np.zeros((N - 1, 2), np.float32)), "has 10 examples, 'tensor' 9"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_a_file_whose_parts_do_not_fit_is_refused(path: Path, spoil: Any, message: str) -> None:
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(DataFileError) as caught:
        HDF5Examples(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", ["virtual", "link"])
def test_data_in_another_file_are_refused_since_no_hash_would_cover_them(path: Path, kind: str) -> None:
    joined = path.with_name("joined.h5")
    with h5py.File(path) as file, h5py.File(joined, "w") as other:
        file.copy("tensor", other)
        shape = file["fields"].shape
        if kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[:] = h5py.VirtualSource(path.name, "fields", shape)
            other.create_virtual_dataset("fields", layout)
        else:
            other["fields"] = h5py.ExternalLink(path.name, "fields")
    with pytest.raises(DataFileError, match="'fields' is in another file"):
        HDF5Examples(joined)


def test_missing_foreign_and_truncated_files_are_refused(path: Path, tmp_path: Path) -> None:
    for function in (HDF5Examples, inspect):
        with pytest.raises(DataFileError, match=r"b\.h5: no such file$"):
            function(tmp_path / "b.h5")
    (tmp_path / "c.h5").write_text("name: smoke\n")
    with pytest.raises(DataFileError, match=r"c\.h5: is not an HDF5 file$"):
        HDF5Examples(tmp_path / "c.h5")
    with pytest.raises(DataFileError, match="cannot be opened"):
        HDF5Examples(tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataFileError, match=r"a\.h5: is truncated: "):
        HDF5Examples(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_when_read(path: Path, value: float) -> None:
    with h5py.File(path, "r+") as file:
        file["fields"][6, 1, 2, 3] = value
    examples = HDF5Examples(path)
    examples.batch([5, 7])
    with pytest.raises(DataFileError, match=r"example 6 has values that are not finite$"):
        examples.batch([7, 6, 5])


@pytest.mark.parametrize(("data_set", "where"), [("fields", (6, 1)), ("tensor", (6, 0))], ids=["field", "constant"])
@pytest.mark.parametrize("size", [1e-50, 1e-40, 1e39, 1e300])
def test_values_that_float32_cannot_hold_are_named(path: Path, data_set: str, where: Any, size: float) -> None:
    with h5py.File(path, "r+") as file:
        values = file[data_set][:].astype(np.float64)
        values[where] = size
        _replace(data_set, values)(file)
    examples = HDF5Examples(path)
    examples.batch([5, 7])
    name = "solution" if data_set == "fields" else "k"
    with pytest.raises(DataFileError) as caught:
        examples.batch([7, 6])
    assert f"a.h5: example 6 has '{name}' of size {size:.1e}, float32 holds 1.2e-38 to 3.4e+38" in str(caught.value)


def test_a_field_may_fade_into_zeros(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        values = file["fields"][:].astype(np.float64)
        values[6, 1, 2] = 1e-60
        _replace("fields", values)(file)
    assert not HDF5Examples(path).batch([6])[1]["solution"][0, 2].any()


# Exports that go wrong


def test_values_that_float32_cannot_hold_are_not_written(tmp_path: Path) -> None:
    tiny = (({**inputs, "k": inputs["k"].double() * 1e-60}, outputs) for inputs, outputs in batches())
    with pytest.raises(NotWrittenError, match=r"not written: example 1 has 'k' of size 2\.0e-60"):
        export(tmp_path / "a.h5", PROBLEM, tiny, N, {})


def test_values_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    spoilt = (({**inputs, "k": inputs["k"] / 0}, outputs) for inputs, outputs in batches())
    with pytest.raises(DataFileError, match=r"not written: example 0 has values that are not finite$"):
        export(tmp_path / "a.h5", PROBLEM, spoilt, N, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [N - 1, N + 1])
def test_a_wrong_count_leaves_no_file(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataFileError, match="not written: expected"):
        export(tmp_path / "a.h5", PROBLEM, batches(), count, {})
    assert list(tmp_path.iterdir()) == []


def test_whatever_interrupts_an_export_leaves_the_old_file(path: Path) -> None:
    def interrupted() -> Iterator[tuple[Fields, Fields]]:
        yield batch([0, 1])
        raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        export(path, PROBLEM, interrupted(), N, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["a.h5"]


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="cannot be written: "):
        export(tmp_path / "no" / "a.h5", PROBLEM, batches(), N, {})


def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    result = _in_a_process(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            export(path, PROBLEM, batches(count=400), 400, {})
        except DataFileError as error:
            print(error)
        """,
        tmp_path / "a.h5",
    )
    output, errors = result.communicate(timeout=PATIENCE)
    assert "a.h5: cannot be written: " in output
    assert output.count("\n") == 1, errors
    assert (result.returncode, list(tmp_path.iterdir())) == (0, [])


def test_a_killed_export_never_looks_whole(tmp_path: Path) -> None:
    result = _in_a_process(
        """
        import time
        def slow():
            for number, made in enumerate(batches()):
                yield made
                if number == 1:
                    print("half way", flush=True)
                    time.sleep(2000)
        export(path, PROBLEM, slow(), N, {})
        """,
        tmp_path / "a.h5",
    )
    assert result.stdout is not None
    assert result.stdout.readline() == "half way\n"
    result.send_signal(signal.SIGKILL)
    result.communicate(timeout=PATIENCE)
    assert not (tmp_path / "a.h5").exists()
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".partial"
    with pytest.raises(DataFileError):
        HDF5Examples(left)


def _in_a_process(code: str, path: Path) -> "subprocess.Popen[str]":
    head = (
        "import sys; from pathlib import Path; from tests.data.test_hdf5 import *\n"
        "from pdebench_fm.errors import DataFileError\n"
        "path = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", head + textwrap.dedent(code), str(path)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_file_that_cannot_be_locked_says_what_to_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataFileError, match=r"unable to lock .*set HDF5_USE_FILE_LOCKING=FALSE$") as caught:
            HDF5Examples(path)
    assert "\n" not in str(caught.value)
