"""Suites: their content, and errors that name file, line, column and key."""

import shutil
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pdebench_fm.data.hdf5 import export
from pdebench_fm.errors import DataFileError, PdefmError, SuiteError, UsageError
from pdebench_fm.plan.sets import check_files
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.scale import ExampleCounts
from pdebench_fm.suite.schema import Distribution, Pretraining, Suite
from tests.support.fake_plugin import fake_registry

SHIPPED = Path(__file__).parents[1] / "support" / "shipped.yaml"
VALID = SHIPPED.read_text()


@pytest.fixture(scope="module")
def registry() -> Registry:
    return fake_registry()


def load(text: str | bytes, registry: Registry, folder: Path) -> Suite:
    path = folder / "s.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_suite(path, registry)


def failure(text: str | bytes, registry: Registry, folder: Path) -> str:
    """The error of an invalid suite, without the folder."""
    with pytest.raises(SuiteError) as caught:
        load(text, registry, folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}/")
    assert message.isprintable()
    assert caught.value.exit_code == 2
    return message.removeprefix(f"{folder}/")


def changed(old: str, new: str) -> str:
    assert VALID.count(old) == 1, old
    return VALID.replace(old, new)


def test_a_valid_suite_holds_what_the_file_says(registry: Registry) -> None:
    suite = load_suite(SHIPPED, registry)
    assert (suite.name, suite.version, suite.data_seed, suite.source) == ("shipped", 3, 0, SHIPPED)
    assert suite.distributions["near(1,2)"].settings == {"level": [1, 2]}
    assert suite.distributions["near(1,2)"].sampler_name(registry) == "toy"
    assert suite.pretraining == {"near": Pretraining(distributions=("near(1,2)",))}
    profile = suite.profile()
    assert profile == suite.profile("tiny")
    assert profile.examples.pool_size == 16
    assert (profile.training.epochs, profile.training.batch_size, profile.training.learning_rates) == (
        2,
        128,
        (1e-3, 1e-2),
    )
    assert (profile.fine_tuning.steps, profile.fine_tuning.batch_size) == (3, None)
    assert (profile.seeds, profile.under_trained) == (1, False)


def test_names_with_commas_need_no_quotes_in_brackets(registry: Registry, tmp_path: Path) -> None:
    unquoted = load(VALID.replace('"', ""), registry, tmp_path)
    assert unquoted.model_dump() == load_suite(SHIPPED, registry).model_dump()


def test_aliases_are_followed_and_errors_point_at_the_anchor(registry: Registry, tmp_path: Path) -> None:
    text = changed("learning_rates: [1e-4, 1e-3]", "learning_rates: *rates")
    text = text.replace("[1e-3, 1e-2]", "&rates [1e-3, 1e-2]")
    assert load(text, registry, tmp_path).profile().fine_tuning.learning_rates == (1e-3, 1e-2)


ERRORS = {
    # unknown keys and missing keys
    "unknown key": ("version: 3", "versoin: 3", "2:1: versoin", "did you mean 'version'?"),
    "unknown key in a task": ("shift: med", "shfit: med", "11:60: tasks[0].shfit", "did you mean 'shift'?"),
    "unknown key in training": (
        "epochs: 2",
        "epoch: 2",
        "17:16: profiles.tiny.training.epoch",
        "did you mean 'epochs'?",
    ),
    "the folder of jobs": ("name: shipped", "name: jobs", "1:7: name", "'jobs'"),
    "missing key": ("    grid: 8\n", "", "15:5: profiles.tiny.grid", "is required"),
    "missing key of the suite": ("description: Toys.\n", "", "1:1: description", "is required"),
    # types: nothing is converted
    "quoted number": ("version: 3", 'version: "3"', "2:10: version", "got '3'"),
    "bool for a number": ("version: 3", "version: true", "2:10: version", "got true"),
    "float for an integer": ("grid: 8", "grid: 8.0", "15:11: profiles.tiny.grid", "got 8.0"),
    "number for text": ("description: Toys.", "description: 12", "3:14: description", "got 12"),
    "nothing for text": ("description: Toys.", "description:", "3:1: description", "got nothing"),
    "text for a list": (
        "protocols: [zero-shot, fine-tune, scratch]",
        "protocols: scratch",
        "12:12: protocols",
        "got 'scratch'",
    ),
    "list for a mapping": ('  near: ["near(1,2)"]', "  - x", "9:3: pretraining", "got ['x']"),
    "text for a rate": (
        "learning_rates: [1e-4, 1e-3]}",
        "learning_rates: [fast, 1e-3]}",
        "18:46: profiles.tiny.fine_tuning.learning_rates[0]",
        "got 'fast'",
    ),
    "text for a pre-training": (
        'near: ["near(1,2)"]',
        'near: "near(1,2)"',
        "9:9: pretraining.near",
        "a list of distributions",
    ),
    "unknown key of a pre-training": (
        'near: ["near(1,2)"]',
        'near: {distributions: ["near(1,2)"], objektive: x}',
        "9:40: pretraining.near.objektive",
        "did you mean 'objective'?",
    ),
    "member of a pre-training with an objective": (
        'near: ["near(1,2)"]',
        'near: {distributions: ["near(1,3)"]}',
        "9:26: pretraining.near.distributions[0]",
        "did you mean 'near(1,2)'?",
    ),
    "unknown objective": (
        'near: ["near(1,2)"]',
        'near: {distributions: ["near(1,2)"], objective: maskd}',
        "9:51: pretraining.near.objective",
        "unknown objective 'maskd'",
    ),
    # values
    "too small": ("grid: 8", "grid: 4", "15:11: profiles.tiny.grid", "got 4"),
    "not finite": ("[1e-3, 1e-2]", "[1e-3, .inf]", "17:50: profiles.tiny.training.learning_rates[1]", "got inf"),
    "rate of zero": ("[1e-3, 1e-2]", "[0, 1e-2]", "17:44: profiles.tiny.training.learning_rates[0]", "got 0"),
    "equal rates": (
        "[1e-3, 1e-2]",
        "[1e-3, 0.001]",
        "17:50: profiles.tiny.training.learning_rates[1]",
        "got 0.001 twice",
    ),
    "fewer rates for one arm": (
        "learning_rates: [1e-4, 1e-3]}",
        "learning_rates: [1e-3]}",
        "18:45: profiles.tiny.fine_tuning.learning_rates",
        "as many as in training, 2, got 1",
    ),
    "fewer rates for fine-tuning than for scratch": (
        "learning_rates: [1e-4, 1e-3]}",
        "learning_rates: [1e-4, 1e-3]}\n    scratch: {learning_rates: [1e-4, 1e-3, 1e-2]}",
        "18:45: profiles.tiny.fine_tuning.learning_rates",
        "as many as in scratch, 3, got 2",
    ),
    "equal rates for scratch": (
        "learning_rates: [1e-4, 1e-3]}",
        "learning_rates: [1e-4, 1e-3]}\n    scratch: {learning_rates: [1e-4, 1e-4]}",
        "19:38: profiles.tiny.scratch.learning_rates[1]",
        "got 0.0001 twice",
    ),
    "budget for scratch": (
        "learning_rates: [1e-4, 1e-3]}",
        "learning_rates: [1e-4, 1e-3]}\n    scratch: {steps: 3, learning_rates: [1e-4, 1e-3]}",
        "19:15: profiles.tiny.scratch.steps",
        "expected one of learning_rates",
    ),
    "more validation than there is": (
        "steps: 3,",
        "steps: 3, validation: 5,",
        "18:41: profiles.tiny.fine_tuning.validation",
        "at most the profile's validation examples, 4, got 5",
    ),
    "no validation": ("steps: 3,", "steps: 3, validation: 0,", "18:41: profiles.tiny.fine_tuning.validation", "got 0"),
    "text for family": ("version: 3", "version: 3\nfamily: 1", "3:9: family", "got 1"),
    "no rates": ("[1e-3, 1e-2]", "[]", "17:43: profiles.tiny.training.learning_rates", "must not be empty"),
    "epochs and steps": ("steps: 3", "steps: 3, epochs: 1", "18:18: profiles.tiny.fine_tuning", "got both"),
    "neither epochs nor steps": ("steps: 3, ", "", "18:18: profiles.tiny.fine_tuning", "got none"),
    "sizes that fall": (
        "downstream: [4, 8]",
        "downstream: [8, 4]",
        "16:73: profiles.tiny.examples.downstream[1]",
        "got 4 after 8",
    ),
    "sizes beyond the pool": (
        "downstream: [4, 8]",
        "downstream: [4, 8], pool: 6",
        "16:73: profiles.tiny.examples.downstream[1]",
        "at most the pool's size, 6, got 8",
    ),
    "unknown shift": ("shift: med", "shift: medium", "11:67: tasks[0].shift", "did you mean 'med'?"),
    # names
    "folder name": ("name: shipped", "name: ../up", "1:7: name", "got '../up'"),
    "profile that could not be a file name": ("  tiny:\n", "  a/b:\n", "14:3: profiles.a/b", "got 'a/b'"),
    "control character in a name": (
        "  near(1,2): {",
        '  "near\\e": {',
        "6:3: distributions.near\\x1b",
        "got 'near\\x1b'",
    ),
    "blank at the end of a name": ("{name: far,", "{name: 'far ',", "11:12: tasks[0].name", "got 'far '"),
    "default profile": (
        "default_profile: tiny",
        "default_profile: tinny",
        "4:18: default_profile",
        "did you mean 'tiny'?",
    ),
    "downstream": (
        'downstream: "far(2,4)"',
        'downstream: "far(2,5)"',
        "11:48: tasks[0].downstream",
        "did you mean 'far(2,4)'?",
    ),
    "pretraining": ("pretraining: near,", "pretraining: neat,", "11:30: tasks[0].pretraining", "did you mean 'near'?"),
    "member of a pretraining": (
        '  near: ["near(1,2)"]',
        '  near: ["near(1,2)", "near(1,3)"]',
        "9:23: pretraining.near[1]",
        "did you mean 'near(1,2)'?",
    ),
    "member twice": ('["near(1,2)"]', '["near(1,2)", "near(1,2)"]', "9:23: pretraining.near[1]", "already at [0]"),
    "task twice": (
        "protocols:",
        "  - {name: far, pretraining: near, downstream: far(2,4), shift: none}\nprotocols:",
        "12:12: tasks[1].name",
        "already at [0]",
    ),
    "unknown protocol": ("fine-tune, scratch", "finetune, scratch", "12:24: protocols[1]", "did you mean 'fine-tune'?"),
    "protocol twice": ("fine-tune, scratch", "zero-shot", "12:24: protocols[1]", "already at [0]"),
    # systems and samplers
    "unknown system": (
        "{system: toy, level: [1, 2]}",
        "{system: toi, level: [1, 2]}",
        "6:23: distributions.near(1,2).system",
        "did you mean 'toy'?",
    ),
    "system misspelt": (
        "{system: toy, level: [1, 2]}",
        "{sytem: toy, level: [1, 2]}",
        "6:15: distributions.near(1,2).sytem",
        "did you mean 'system'?",
    ),
    "no system": ("{system: toy, level: [1, 2]}", "{}", "6:14: distributions.near(1,2)", "needs a system, or files"),
    "unknown sampler": (
        "{system: toy, level: [1, 2]}",
        "{system: toy, sampler: tyo}",
        "6:37: distributions.near(1,2).sampler",
        "did you mean 'toy'?",
    ),
    "no sampler": (
        "{system: toy, level: [1, 2]}",
        "{system: bare}",
        "6:23: distributions.near(1,2).system",
        "no sampler of its own",
    ),
    "sampler that cannot be imported": (
        "{system: toy, level: [1, 2]}",
        "{system: orphan}",
        "6:23: distributions.near(1,2).system",
        "no_such_module_anywhere",
    ),
    "sampler that cannot be made": (
        "{system: toy, level: [1, 2]}",
        "{system: toy, sampler: broken}",
        "6:37: distributions.near(1,2).sampler",
        "ZeroDivisionError",
    ),
    "unknown setting": (
        "level: [1, 2]",
        "levle: [1, 2]",
        "6:28: distributions.near(1,2).levle",
        "did you mean 'level'?",
    ),
    "missing setting": (", level: [1, 2]", "", "6:14: distributions.near(1,2).level", "is required"),
    "setting out of range": (
        "level: [1, 2]",
        "level: [5, 1]",
        "6:35: distributions.near(1,2).level",
        "low ≤ high, got [5.0, 1.0]",
    ),
    # files
    "files and sampler": (
        "{system: toy, level: [1, 2]}",
        "{files: {train: a.h5}, sampler: toy}",
        "6:46: distributions.near(1,2).sampler",
        "not both",
    ),
    "setting beside files": (
        "{system: toy, level: [1, 2]}",
        "{files: {train: a.h5}, level: 1}",
        "6:37: distributions.near(1,2).level",
        "expected one of files, physics, system",
    ),
    "unknown split": (
        "{system: toy, level: [1, 2]}",
        "{files: {trian: a.h5}}",
        "6:23: distributions.near(1,2).files.trian",
        "did you mean 'train'?",
    ),
    "number for a file": (
        "{system: toy, level: [1, 2]}",
        "{files: {train: 3}}",
        "6:30: distributions.near(1,2).files.train",
        "got 3",
    ),
    "file missing for a split": (
        "{system: toy, level: [1, 2]}",
        "{files: {pretraining: a.h5, test: b.h5}}",
        "9:10: pretraining.near[0]",
        "no file for validation",
    ),
}


@pytest.mark.parametrize(("old", "new", "place", "hint"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_names_file_line_column_and_key(
    old: str, new: str, place: str, hint: str, registry: Registry, tmp_path: Path
) -> None:
    message = failure(changed(old, new), registry, tmp_path)
    assert message.startswith(f"s.yaml:{place}: ")
    assert hint in message


BROKEN = {
    "tag": (b"a: !!python/object:os.system x", "1:4: a: must be plain data"),
    "duplicate key": (b"name: a\nversion: 1\nname: b", "3:1: is not valid YAML: found duplicate key"),
    "empty": (b"# nothing\n", "1:1: must be a mapping"),
    "list": (b"[1, 2]", "1:1: must be a mapping"),
    "not UTF-8": (b"name: a\nb: \xff", "1:1: is not valid YAML: 'utf-8' codec can't decode byte 0xff"),
    "binary": (b"name: \x00", "1:1: is not valid YAML: "),
    "two documents": (b"name: a\n---\nname: b", "2:1: is not valid YAML: "),
    "unclosed": (b"name: [a", "1:9: is not valid YAML: "),
    "key that is no text": (b"1: a", "1:1: a key must be text, got 1"),
    "alias to nothing": (b"name: *x", "1:7: is not valid YAML: "),
    "deep": (b"name: " + b"[" * 600, "1:1: is not valid YAML: "),
    "bomb": (
        b"a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
        b"c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]",
        "1:8: d[7][8][8][0]: the document holds more than 10,000 values",
    ),
    "escape sequence in a key": (b'"\\e[2J": 1', "1:1: \\x1b[2J: unknown key"),
}


@pytest.mark.parametrize(("content", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_a_file_that_is_no_suite_is_one_line(content: bytes, expected: str, registry: Registry, tmp_path: Path) -> None:
    assert failure(content, registry, tmp_path).startswith(f"s.yaml:{expected}")


@pytest.mark.parametrize(("name", "reason"), [("no.yaml", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read_is_one_line(name: str, reason: str, registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=f":1:1: cannot be read: {reason}$"):
        load_suite(tmp_path / name, registry)


@given(st.binary(max_size=200))
def test_any_bytes_give_an_error_of_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(SuiteError) as caught:
        load_suite(path, fake_registry())
    assert str(caught.value).isprintable()


@given(st.integers(0, len(VALID) - 1), st.sampled_from(list("{}[]:,&*!|>'\"%@`#-? \n\t0a")))
def test_any_slip_gives_a_suite_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, place: int, character: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "slip.yaml"
    path.write_text(VALID[:place] + character + VALID[place + 1 :])
    message = f"{path}:"
    try:
        load_suite(path, fake_registry())
    except PdefmError as error:
        message = str(error)
    assert message.startswith(f"{path}:")
    assert message.isprintable()


FILES = "{files: {train: a.h5, validation: sub/b.h5, test: /c.h5, pretraining: a.h5}}"


def test_paths_are_relative_to_the_suite_and_need_not_exist_yet(registry: Registry, tmp_path: Path) -> None:
    suite = load(changed("{system: toy, level: [1, 2]}", FILES), registry, tmp_path)
    near = suite.distributions["near(1,2)"]
    assert near.system is None
    assert near.files == {
        "train": tmp_path / "a.h5",
        "validation": tmp_path / "sub" / "b.h5",
        "test": Path("/c.h5"),
        "pretraining": tmp_path / "a.h5",
    }
    with pytest.raises(DataFileError, match=r"a\.h5: no such file$"):
        check_files(suite, registry)
    with pytest.raises(UsageError, match="read from files"):
        near.sampler_name(registry)


def test_files_are_beside_the_suite_and_not_beside_a_link_to_it(registry: Registry, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    load(changed("{system: toy, level: [1, 2]}", FILES), registry, there)
    (suite,) = there.glob("*.yaml")
    (here / "linked.yaml").symlink_to(suite)
    loaded = load_suite(here / "linked.yaml", registry)
    files = loaded.distributions["near(1,2)"].files or {}
    assert files["train"] == there / "a.h5"
    assert loaded.source == here / "linked.yaml"


def test_no_file_of_test_examples_is_anything_else(registry: Registry, tmp_path: Path) -> None:
    problem = Problem((Channel("source"),), (Channel("solution"),), Grid(8))
    for name, level in (("train", 1.0), ("validation", 2.0), ("test", 3.0)):
        plane = torch.full((2, 8, 8), level)
        export(tmp_path / f"{name}.h5", problem, iter([({"source": plane}, {"solution": plane})]), 2, {})
    shutil.copy(tmp_path / "train.h5", tmp_path / "renamed.h5")
    files = "{files: {train: train.h5, pretraining: train.h5, validation: validation.h5, test: test.h5}}"
    check_files(load(changed("{system: toy, level: [1, 2]}", files), registry, tmp_path), registry)
    twice = files.replace("test.h5", "renamed.h5")
    with pytest.raises(DataFileError, match=r"^2 of 2 test examples of .*renamed\.h5\) are also train ex.*train\.h5"):
        check_files(load(changed("{system: toy, level: [1, 2]}", twice), registry, tmp_path), registry)
    planes = torch.stack([torch.full((8, 8), level) for level in (3.0, 4.0, 1.0)])
    export(tmp_path / "test.h5", problem, iter([({"source": planes}, {"solution": planes})]), 3, {})
    with pytest.raises(
        DataFileError, match=r"^1 of 3 test examples .* are also train .*, the first is example 2 \(from 0\): "
    ):
        check_files(load(changed("{system: toy, level: [1, 2]}", files), registry, tmp_path), registry)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "suites").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_suites_of_the_benchmark_are_valid(path: Path) -> None:
    names = ("spectral", "transfer", "adaptation", "objectives", "paper", "released")
    shipped = Registry([EntryPoint(name, f"pdefm_{name}", "pdebench_fm") for name in names])
    suite = load_suite(path, shipped)
    assert suite.name == path.stem
    assert suite.name in shipped.names("suites")
    assert yaml_safe(path)["tasks"][0]["name"] == suite.tasks[0].name  # other YAML readers see the same names


def yaml_safe(path: Path) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(path)


def test_a_distribution_can_be_built_in_python() -> None:
    assert Distribution(system="toy", settings={"level": [1, 2]}).settings == {"level": [1, 2]}


def test_the_pool_holds_the_largest_downstream_set() -> None:
    assert ExampleCounts(pretraining=8, validation=1, test=1, downstream=(4, 16)).pool_size == 16
    assert ExampleCounts(pretraining=8, validation=1, test=1, downstream=(4,), pool=6).pool_size == 6


def test_the_default_registry_has_everything_installed() -> None:
    assert load_suite("smoke").name == "smoke"


def test_loading_a_suite_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from tests.support.fake_plugin import fake_registry; "
        "from pdebench_fm.suite.reading import load_suite; load_suite('shipped', fake_registry()); "
        "assert not {'torch', 'h5py'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_protocol_is_made_with_its_arguments(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    text = (Path(__file__).parents[2] / "suites" / "smoke.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("[zero-shot, fine-tune, scratch]", "[scratch, {lora: {rank: 0}}]"), encoding="utf-8")
    with pytest.raises(SuiteError, match=r"s\.yaml:\d+:\d+: protocols\[1\]: rank: must be at least 1, got 0$"):
        load_suite(path)
