"""``pdefm data export`` and ``pdefm data inspect``."""

import json
from pathlib import Path

import h5py
import pytest
import torch
from click.testing import CliRunner, Result

from pdebench_fm.cli.data import data
from pdebench_fm.data.hdf5 import HDF5Examples
from pdebench_fm.errors import DataFileError, PdefmError, SuiteError, UnknownNameError, UsageError
from pdebench_fm.suite.reading import find_distribution
from tests.support.fake_plugin import fake_registry

SHIPPED = Path(__file__).parents[1] / "support" / "shipped.yaml"


REGISTRY = fake_registry()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(data, arguments, obj=REGISTRY)


def export(output: Path, *options: str, distribution: str = "shipped:near(1,2)") -> Result:
    given = ["export", distribution, "--examples", "10", "--split", "train", "--grid", "8", "--output", str(output)]
    return invoke(*given, *options)


def refusal(result: Result) -> str:
    assert isinstance(result.exception, PdefmError), result.output
    assert result.stdout == ""
    return str(result.exception)


def test_what_is_exported_can_be_read(tmp_path: Path) -> None:
    output = tmp_path / "a.h5"
    result = export(output, "--batch", "4")
    assert result.exit_code == 0, result.exception
    assert result.stdout == f"{output}: 10 examples of near(1,2), split train, 8 × 8\n"
    examples = HDF5Examples(output)
    assert len(examples) == 10
    assert examples.problem.homogeneous
    inputs, outputs = examples.batch([3])
    assert torch.equal(inputs["source"], torch.full((1, 8, 8), 4.0))
    assert torch.allclose(outputs["solution"], inputs["source"] / (1 + 3 / 7))


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    result = export(tmp_path / "a.h5", "--json")
    metadata = json.loads(result.stdout)["metadata"]
    assert metadata["distribution"] == "near(1,2)"
    assert (metadata["suite"], metadata["suite_version"]) == ("shipped", 3)
    assert (metadata["data_seed"], metadata["split"]) == (0, "train")
    assert metadata["settings"] == {"level": [1.0, 2.0], "steps": 3}
    assert (metadata["system"]["version"], metadata["sampler"]["version"]) == ("1", "2")


def test_the_batch_size_changes_nothing(tmp_path: Path) -> None:
    export(tmp_path / "a.h5", "--batch", "3")
    export(tmp_path / "b.h5", "--batch", "10")
    a, b = (HDF5Examples(tmp_path / name).batch(range(10)) for name in ("a.h5", "b.h5"))
    assert all(torch.equal(a[i][name], b[i][name]) for i in (0, 1) for name in a[i])


def test_an_existing_file_is_kept_unless_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "a.h5"
    output.write_text("precious")
    assert refusal(export(output)) == f"{output}: exists; give --overwrite to replace it"
    assert output.read_text() == "precious"
    assert export(output, "--overwrite").exit_code == 0


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(export(tmp_path / "no" / "a.h5")).endswith("its folder does not exist")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("shipped", "a distribution is given as SUITE:NAME, e.g. ood_sys1:SYS-1(1,5), got 'shipped'"),
        ("shiped:near(1,2)", "unknown suite 'shiped'; did you mean 'shipped'?"),
        ("shipped:near(1,3)", "unknown distribution 'near(1,3)'; did you mean 'near(1,2)'?"),
    ],
)
def test_a_distribution_that_is_not_there_is_one_line(tmp_path: Path, reference: str, message: str) -> None:
    result = export(tmp_path / "a.h5", distribution=reference)
    assert refusal(result) == message
    assert isinstance(result.exception, UsageError)
    assert list(tmp_path.iterdir()) == []


def test_a_path_may_have_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "a:b.yaml"
    path.write_text(SHIPPED.read_text())
    suite, name = find_distribution(f"{path}:near(1,2)", REGISTRY)
    assert (suite.source, name) == (path, "near(1,2)")
    with pytest.raises(UnknownNameError, match="unknown distribution 'near'"):
        find_distribution(f"{path}:near", REGISTRY)
    path.write_text("name: 3")
    with pytest.raises(SuiteError, match=r"b\.yaml:1:"):
        find_distribution(f"{path}:near(1,2)", REGISTRY)


def test_a_sampler_that_raises_is_named_and_no_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        SHIPPED.read_text().replace("{system: toy, level: [1, 2]}", "{system: toy, sampler: failing, level: [1, 2]}")
    )
    result = export(tmp_path / "a.h5", "--batch", "4", distribution=f"{path}:near(1,2)")
    assert refusal(result) == "train examples of sampler 'failing': ValueError: no number"
    assert list(tmp_path.iterdir()) == [path]


def test_a_distribution_of_files_cannot_be_exported(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    files = "{files: {train: a.h5, validation: a.h5, test: a.h5}}"
    path.write_text(SHIPPED.read_text().replace("{system: toy, level: [2, 4]}", files))
    result = export(tmp_path / "a.h5", distribution=f"{path}:far(2,4)")
    assert refusal(result) == "the distribution is read from files; there is nothing to export"


@pytest.mark.parametrize("option", [("--examples", "0"), ("--grid", "1"), ("--split", "all"), ("--batch", "x")])
def test_values_that_make_no_sense_are_usage_errors(tmp_path: Path, option: tuple[str, str]) -> None:
    assert export(tmp_path / "a.h5", *option).exit_code == 2


def test_inspect_describes_a_file(tmp_path: Path) -> None:
    export(tmp_path / "a.h5")
    result = invoke("inspect", str(tmp_path / "a.h5"))
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in result.stdout.splitlines()}
    assert lines["complete"] == "yes"
    assert lines["examples"] == "10, 8 × 8, float32"
    assert lines["constants"] == "k"
    assert lines["problem"] == "8 × 8, length 1, periodic, homogeneous"
    assert lines["distribution"] == '"near(1,2)"'
    assert lines["range of source"] == "1 … 10 (10 examples read)"
    about = json.loads(invoke("inspect", str(tmp_path / "a.h5"), "--json").stdout)
    assert (about["examples"], about["complete"], about["ranges"]["source"]) == (10, True, [1.0, 10.0])


def test_a_file_cannot_speak_for_what_was_seen(tmp_path: Path) -> None:
    export(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["pdefm"] = json.dumps({"complete": "surely", "examples": 1000})
        file.attrs["complete"] = 0
    said = invoke("inspect", str(tmp_path / "a.h5")).stdout
    lines = {line.split("  ")[0]: line.split("  ", 1)[1].strip() for line in said.splitlines()}
    assert (lines["complete"], lines["examples"]) == ("no", "10, 8 × 8, float32")
    assert lines["problem"] == "not stated, so 8 × 8, length 1, periodic, not homogeneous"
    assert (lines["pdefm: complete"], lines["pdefm: examples"]) == ('"surely"', "1000")


def test_inspect_refuses_what_is_no_such_file(tmp_path: Path) -> None:
    result = invoke("inspect", str(SHIPPED))
    assert isinstance(result.exception, DataFileError)
    assert refusal(result) == f"{SHIPPED}: is not an HDF5 file"


def test_a_value_that_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    export(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["fields"][0, 0, 0, 0] = float("nan")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    said = invoke("inspect", str(tmp_path / "a.h5"), "--json").stdout
    assert json.loads(said, parse_constant=refuse)["ranges"]["source"] == [None, None]
