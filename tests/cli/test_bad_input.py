"""Bad input: one clear line on standard error, exit code 2, nothing on standard output, and nothing written."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
import torch

from pdebench_fm.cli import main
from tests.support.command import SUITE, pdefm, write_suite

Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Refused]:
    """Run a command that must be refused, in a folder with tiny.yaml; returns the line it says."""
    write_suite(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PDEFM_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "cache"))
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> str:
        there = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (caught.value.code, out) == (2, ""), err
        assert err.startswith("pdefm: ")
        assert err.endswith("\n")
        assert err[:-1].isprintable()  # one line, and nothing that a terminal would obey
        assert sorted(tmp_path.rglob("*")) == there
        return err.removeprefix("pdefm: ").rstrip("\n")

    yield run
    signal.signal(signal.SIGTERM, before)


RUN = ("run", "tiny.yaml")
UNET = (*RUN, "--model", "unet")
LINES = {
    "folder for a file": (("data", "inspect", "."), "Invalid value for 'FILE': File '.' is a directory"),
    "empty folder": ((*UNET, "--output", ""), "Invalid value for '--output': must not be empty; '.' is the current"),
    "empty weights": ((*UNET, "--pretrained", ""), "Invalid value for '--pretrained': must not be empty"),
    "empty folder of status": (("status", ""), "Invalid value for '[OUTPUT]': must not be empty"),
    "empty log file": (("plugins", "--log-file", ""), "--log-file must not be empty"),
    # what is not there
    "command": (("rnu",), "unknown command 'rnu'; did you mean 'run'?"),
    "command with controls": (("\x1b[2J",), "unknown command '\\x1b[2J'; expected one of check, clean, compare,"),
    "subcommand": (("data", "exprot"), "No such command 'exprot'. Did you mean 'export'? (see pdefm data --help)"),
    "option": ((*RUN, "--modle", "unet"), "No such option '--modle'. (Did you mean one of: '--model'"),
    "kind": (("list", "modles"), "Invalid value for 'KIND': 'modles' is not one of 'systems', 'samplers', 'models'"),
    "no suite": (("run",), "Missing argument 'SUITE' (see pdefm run --help)"),
    "suite": (("run", "smoek", "--model", "unet"), "unknown suite 'smoek'; did you mean 'smoke'?"),
    "suite with controls": (("run", "\x1b]0;x\x07", "--model", "unet"), "unknown suite '\\x1b]0;x\\x07'; expected"),
    "no model": (RUN, "--model is missing; expected one of deeponet, "),
    "model": ((*RUN, "--model", "uent"), "unknown model 'uent'; did you mean 'unet'?"),
    "ambiguous model": (
        (*RUN, "--model", "fno-"),
        "unknown model 'fno-'; did you mean one of fno-16m, fno-1m, fno-256m, fno-64k?",
    ),
    "model with markup": ((*RUN, "--model", "[red]"), "unknown model '[red]'; expected one of "),
    "model of another shape": ((*RUN, "--model", "\x1b[31m"), "unknown model '\\x1b[31m'; expected one of "),
    "profile": ((*UNET, "--profile", "tinny"), "unknown profile 'tinny'; did you mean 'tiny'?"),
    "precision of a GPU": (
        (*UNET, "--precision", "tf32", "--device", "cpu"),
        "precision tf32 exists on CUDA devices only, and this run is on the cpu; use float32",
    ),
    "precision": ((*UNET, "--precision", "float23"), "unknown precision 'float23'; did you mean 'float32'?"),
    "device": ((*UNET, "--device", "gpu"), "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    "device number": ((*UNET, "--device", "cuda:9999"), "device 'cuda:9999': this machine has "),
    "entry": (("show", "model", "uent"), "unknown model 'uent'; did you mean 'unet'?"),
    # numbers
    "seeds": ((*UNET, "--seeds", "-1"), "Invalid value for '--seeds': -1 is not in the range 1<=x<=1000"),
    "no seeds": ((*UNET, "--seeds", "0"), "Invalid value for '--seeds': 0 is not in the range 1<=x<=1000"),
    "too many seeds": ((*UNET, "--seeds", "1001"), "Invalid value for '--seeds': 1001 is not in the range 1<=x<=1000"),
    "half a seed": ((*UNET, "--seeds", "1.5"), "Invalid value for '--seeds': '1.5' is not a valid integer"),
    "workers": ((*UNET, "--workers", "0"), "Invalid value for '--workers': 0 is not in the range x>=1"),
    "processes": (
        (*UNET, "--nproc", "2", "--workers", "2"),
        "--workers runs jobs side by side, --nproc",
    ),
    "workers of none": ((*UNET, "--executor", "debug", "--workers", "2"), "--workers: executor debug has no workers"),
    "misspelt setting of an executor, before a dry run": (
        (*UNET, "--executor", "local", "--executor-set", "wrokers=2", "--dry-run"),
        "executor local: wrokers: unknown setting",
    ),
    # arguments of the model
    "misspelt argument": ((*UNET, "--set", "widht=3"), "model unet: widht: unknown setting; did you mean 'width'?"),
    "argument with controls": (
        (*UNET, "--set", "\x1b[2J=3"),
        "model unet: \\x1b[2J: unknown setting; expected one of levels,",
    ),
    "text for a number": ((*UNET, "--set", "width=big"), "model unet: width: must be a whole number, got 'big'"),
    "fraction": ((*UNET, "--set", "width=1.5"), "model unet: width: must be a whole number, got 1.5"),
    "truth": ((*UNET, "--set", "width=true"), "model unet: width: must be a whole number, got true"),
    "nothing": ((*UNET, "--set", "width="), "model unet: width: must be a whole number, got ''"),
    "not a number": ((*UNET, "--set", "width=NaN"), "model unet: width: must be finite, got nan"),
    "thousands of digits": (
        (*UNET, "--set", "width=" + "9" * 5000),
        "model unet: width: must be a whole number, got '999",
    ),
    "brackets without end": (
        (*UNET, "--set", "width=" + "[" * 50_000),
        "model unet: width: must be a whole number, got '[[[",
    ),
    "negative": ((*UNET, "--set", "width=-3"), "model unet: width: must be at least 2, got -3"),
    "no equals sign": ((*UNET, "--set", "width"), "--set takes KEY=VALUE, got 'width'"),
    "no key": ((*UNET, "--set", "=3"), "--set takes KEY=VALUE, got '=3'"),
    "given twice": ((*UNET, "--set", "width=3", "--set", "width=4"), "--set width: given twice"),
    # what does not fit
    "grid too small for the modes": (
        (*RUN, "--model", "fno-1m"),
        "fno-1m cannot take this suite: ",
    ),
    "grid too small for wavenumbers": (
        (*RUN, "--model", "mode-regression"),
        "mode-regression cannot take this suite: wavenumbers up to 15 need a grid of at least 31 points a side, got 16",
    ),
    # paths
    "output is a file": ((*UNET, "--output", "tiny.yaml"), "Invalid value for '--output': Directory 'tiny.yaml' is a"),
    "output below a file": (
        (*UNET, "--output", "tiny.yaml/runs"),
        "tiny.yaml/runs: results cannot be written there: Not a directory",
    ),
    "output that cannot be made": ((*UNET, "--output", "/proc/no/runs"), "/proc/no/runs: results cannot be written"),
    "no such weights": ((*UNET, "--pretrained", "no.safetensors"), "no.safetensors: there are no such weights"),
    "weights of another kind": (
        (*UNET, "--pretrained", "tiny.yaml"),
        "tiny.yaml: cannot be read as UNet weights, expected a model.safetensors of a run (for weights of your own ",
    ),
    "weights with controls": ((*UNET, "--pretrained", "\x1b[2J"), "[2J: there are no such weights"),
    "no such suite file": (("run", "no.yaml", "--model", "unet"), "no.yaml:1:1: cannot be read: No such file"),
    "folder for a suite": (("run", "./", "--model", "unet"), ".:1:1: cannot be read: Is a directory"),
    "distribution": (
        ("data", "export", "tiny.yaml:C", "--examples", "1", "--split", "test", "--output", "c.h5"),
        "unknown distribution 'C'; expected one of A, B",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), LINES.values(), ids=LINES.keys())
def test_bad_usage_is_one_line(refused: Refused, arguments: tuple[str, ...], line: str) -> None:
    assert refused(*arguments).startswith(line)


ONE = "    training: {epochs: 2, batch_size: 8, learning_rates: [1e-3, 1e-2]}"
SUITES = {
    "misspelt key": ("grid: 16", "gird: 16", "15:5: profiles.tiny.gird: unknown key; did you mean 'grid'?"),
    "misspelt setting": ("eigenvalue: [1, 5]", "eigenvlaue: [1, 5]", "did you mean 'eigenvalue'?"),
    "range the wrong way round": ("[5, 10]", "[10, 5]", "distributions.B.eigenvalue: must be "),
    "sizes beyond the split": (
        "downstream: [4, 8]",
        "downstream: [4, 8], pool: 6",
        "profiles.tiny.examples.downstream[1]: must be at most the pool",
    ),
    "sizes the wrong way round": ("downstream: [4, 8]", "downstream: [8, 4]", "sizes must increase, got 4 after 8"),
    "negative seed": ("version: 1", "version: 1\ndata_seed: -1", "data_seed: must be at least 0, got -1"),
    "negative number of seeds": ("grid: 16", "grid: 16\n    seeds: -2", "profiles.tiny.seeds: must be at least 1"),
    "unequal tuning budgets": (
        "[1e-4, 1e-3]",
        "[1e-4]",
        "profiles.tiny.fine_tuning.learning_rates: must be as many as in training, 2, got 1",
    ),
    "tag": ("version: 1", "version: !!python/object:os.system 1", "version: must be "),
    "name that is a path": ("name: tiny", "name: ../../x", "name: must be lower-case letters, digits, '-', '_'"),
    "name with controls": ("name: tiny", 'name: "\\e[2J"', "name: must be lower-case letters, digits, '-', '_'"),
    "task with controls": ("{name: B from A,", '{name: "B\\e]0;owned\\a",', "got 'B\\x1b]0;owned\\x07'"),
    "task that turns the line round": ("{name: B from A,", '{name: "B\\u202e",', "got 'B\\u202e'"),
    "profile that is a path": ("  tiny:\n", "  ../tiny:\n", "profiles.../tiny: must be letters, digits, '.', '-', '_'"),
    "hidden profile": ("  tiny:\n", "  .tiny:\n", "profiles..tiny: must be letters, digits, '.', '-', '_'"),
    "no file": (
        "{system: poisson, eigenvalue: [5, 10]}",
        "{files: {train: no.h5, validation: no.h5, test: no.h5}}",
        "no.h5: no such file",
    ),
}


@pytest.mark.parametrize(("old", "new", "line"), SUITES.values(), ids=SUITES.keys())
def test_a_bad_suite_is_one_line_for_run_and_for_validate(
    refused: Refused, tmp_path: Path, old: str, new: str, line: str
) -> None:
    write_suite(tmp_path, (old, new))
    said = refused(*UNET, "--device", "cpu")
    assert line in said
    assert refused("validate", "tiny.yaml") == said


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(f'*{a}' for _ in range(10))}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)
FILES = {
    "empty": b"",
    "cut off": SUITE[: len(SUITE) // 2].encode() + b" [",
    "binary": bytes(range(256)),
    "not UTF-8": SUITE.encode("utf-16"),
    "bomb": BOMB.encode(),
    "deep": b"name: " + b"[" * 600,
    "long": b"#" * 2_000_000,
    "an archive": b"PK\x03\x04" + b"\0" * 100,
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_a_file_that_is_no_suite_is_one_line(refused: Refused, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny.yaml").write_bytes(content)
    assert refused(*UNET).startswith("tiny.yaml:")


def test_a_suite_that_may_not_be_read_is_one_line(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert refused(*UNET) == "tiny.yaml:1:1: cannot be read: Permission denied"


def test_weights_with_other_arguments_are_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    assert refused(*UNET, "--pretrained", "cut.safetensors").startswith("cut.safetensors: cannot be read as UNet weig")


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    """The 8 test examples of a suite read from files, on its grid and as pdefm data export makes them."""
    from pdebench_fm.data.hdf5 import export
    from pdebench_fm.plan.sets import open_distribution

    suite = write_suite(tmp_path)
    for split, name in (("test", "b.h5"), ("train", "others.h5")):
        examples = open_distribution(f"{suite}:B", split=split, count=8, grid=16, device="cpu").examples
        export(tmp_path / name, examples.problem, iter([examples.batch(range(8))]), 8, {})
    write_suite(
        tmp_path,
        ("{system: poisson, eigenvalue: [5, 10]}", "{files: {train: others.h5, validation: others.h5, test: b.h5}}"),
        ("downstream: [4, 8]}", "downstream: [4, 8], pool: 8}"),
    )
    return tmp_path / "b.h5"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(
            "grid: 16",
            "grid: 32",
            "others.h5: must have the grid of profile 'tiny', 32 × 32, got 16 × 16",
            id="on another grid",
        ),
        pytest.param("test: 8", "test: 9", "b.h5: the suite asks for 9 test examples, the file has 8", id="too short"),
        pytest.param(
            "{files: ",
            "{system: helmholtz, files: ",
            "others.h5: is not of system 'helmholtz': inputs: got source, k11 (constant), k22 (constant), "
            "k12 (constant), expected source, k11 (constant), k22 (constant), k12 (constant), omega (constant)",
            id="of another system",
        ),
        pytest.param(
            "{files: ",
            "{physics: k1, files: ",
            "others.h5: physics of 'B' must be a constant of its files, got 'k1'; did you mean one of k11, k12?",
            id="without the constant",
        ),
    ],
)
def test_data_files_that_do_not_fit_are_refused_before_any_work(
    refused: Refused, hdf5: Path, old: str, new: str, said: str
) -> None:
    suite = hdf5.with_name("tiny.yaml")
    suite.write_text(suite.read_text().replace(old, new))
    for command in (UNET, ("validate", "tiny.yaml")):
        assert refused(*command) == f"{hdf5.parent}/{said}"


def _restated(**changes: object) -> Callable[[h5py.File], None]:
    """Let a file state another problem."""

    def change(file: h5py.File) -> None:
        about = json.loads(file.attrs["pdefm"])
        for key, value in changes.items():
            part = about["problem"] if key == "homogeneous" else about["problem"]["grid"]
            part[key] = value
        file.attrs["pdefm"] = json.dumps(about)

    return change


def _without_a_constant(file: h5py.File) -> None:
    numbers = file["tensor"][:, :2]
    del file["tensor"], file.attrs["pdefm"]
    file.create_dataset("tensor", data=numbers).attrs["channels"] = '["k11", "k22"]'


def _renamed(attribute: str, name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs["pdefm"]
        file["fields"].attrs[attribute] = json.dumps([name])

    return change


@pytest.mark.parametrize("system", ["", "system: poisson, "], ids=["alone", "of a system"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(_without_a_constant, "got source, k11 (constant), k22 (constant), expected", id="constant"),
        pytest.param(_renamed("inputs", "f"), "inputs: got f, k11 (constant)", id="input"),
        pytest.param(_renamed("outputs", "u"), "outputs: got u, expected solution", id="output"),
        pytest.param(_restated(length=2.0), "grid: got 16 × 16, length 2, periodic, expected", id="length"),
        pytest.param(_restated(periodic=False), " periodic", id="periodicity"),
        pytest.param(_restated(homogeneous=False), "homogeneous: got false, expected true", id="homogeneity"),
    ],
)
def test_files_of_one_distribution_state_one_problem(
    refused: Refused, hdf5: Path, change: Callable[[h5py.File], None], said: str, system: str
) -> None:
    suite = hdf5.with_name("tiny.yaml")
    suite.write_text(suite.read_text().replace("{files: ", f"{{{system}files: "))
    with h5py.File(hdf5, "r+") as file:
        change(file)
    for command in (UNET, ("validate", "tiny.yaml")):
        line = refused(*command)
        assert line.startswith(f"{hdf5}: ")
        assert said in line


def _set(data_set: str, where: tuple[object, ...], value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[data_set][where] = value

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        pytest.param("b.h5", _set("fields", (5, 1), 0), "of example 5 is zero everywhere", id="zero"),
        pytest.param("others.h5", _set("fields", (7, 1), 0), "example 7 is zero", id="zero in validation"),
        pytest.param("b.h5", _set("fields", (6, 0, 1, 2), math.nan), "example 6 has values th", id="NaN"),
        pytest.param("others.h5", _set("tensor", (3, 1), math.inf), "example 3 has values", id="constant"),
    ],
)
def test_values_that_cannot_be_used_are_found_before_any_training(
    refused: Refused, hdf5: Path, name: str, change: Callable[[h5py.File], None], said: str
) -> None:
    with h5py.File(hdf5.with_name(name), "r+") as file:
        change(file)
    for command in (UNET, ("validate", "tiny.yaml")):
        line = refused(*command)
        assert line.startswith(f"{hdf5.with_name(name)}: ")
        assert said in line


def test_data_files_that_go_the_other_way_are_not_of_the_system(refused: Refused, hdf5: Path) -> None:
    suite = hdf5.with_name("tiny.yaml")
    suite.write_text(suite.read_text().replace("{files: ", "{system: poisson, files: "))
    for path in (hdf5, hdf5.with_name("others.h5")):
        with h5py.File(path, "r+") as file:
            del file.attrs["pdefm"]
            file["fields"].attrs["inputs"], file["fields"].attrs["outputs"] = '["solution"]', '["source"]'
    said = refused(*UNET)
    assert "others.h5: is not of system 'poisson': inputs: got solution, k11 (constant), " in said
    assert said.endswith("outputs: got source, expected solution")


def test_files_that_name_nothing_are_no_sampled_examples(refused: Refused, tmp_path: Path) -> None:
    write_suite(tmp_path, ("{system: poisson, eigenvalue: [5, 10]}", "{system: poisson, files: }"))
    assert "distributions.B.files: must name a file for some of" in refused("validate", "tiny.yaml")


def test_the_precision_of_a_gpu_is_refused_where_auto_finds_none(refused: Refused) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    line = "precision tf32 exists on CUDA devices only, and this run is on the cpu; use float32"
    assert refused(*UNET, "--precision", "tf32", "--workers", "1") == line
    assert refused(*UNET, "--precision", "tf32", "--nproc", "2") == line


@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_data_files_that_are_cut_off_are_refused(refused: Refused, hdf5: Path, kept: int) -> None:
    hdf5.write_bytes(hdf5.read_bytes()[:kept])
    assert refused(*UNET).startswith(f"{hdf5}: ")


def test_data_files_that_fit_are_accepted(hdf5: Path) -> None:
    ended = pdefm("run", "tiny.yaml", "--model", "zero", "--dry-run", "--json", folder=hdf5.parent)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(json.loads(ended.stdout)["jobs"]) == 6


@pytest.mark.parametrize("command", [(), ("data",), ("leaderboard",)], ids=lambda command: " ".join(command) or "pdefm")
def test_a_command_without_its_subcommand_shows_its_help(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = pdefm(*command, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    usage, *_, last = ended.stderr.splitlines()
    assert usage.startswith(f"Usage: {' '.join(('pdefm', *command))} [OPTIONS]")
    assert last.startswith("  ")


def test_a_refused_process_says_one_line_too(tmp_path: Path) -> None:
    write_suite(tmp_path)
    ended = pdefm(*RUN, "--model", "mean", "--set", "\x1b[31m[red]=1", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "pdefm: model mean: \\x1b[31m[red]: unknown setting; there are none\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
