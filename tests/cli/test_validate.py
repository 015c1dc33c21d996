"""``pdefm validate``."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from pdebench_fm.cli.validate import validate
from pdebench_fm.errors import DataFileError, SuiteError
from tests.support.fake_plugin import fake_registry

SHIPPED = Path(__file__).parents[1] / "support" / "shipped.yaml"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(validate, arguments, obj=fake_registry())


def test_a_valid_suite_is_described() -> None:
    result = invoke("shipped")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"{SHIPPED}: valid",
        "shipped version 3: 2 distributions, 1 task, protocols zero-shot, fine-tune, scratch",
        "profile tiny (default): grid 8, 16 pre-training, 4 validation and 4 test examples, N = 4, 8, 1 seed; "
        "pre-training 2 epochs, rates 0.001, 0.01; downstream 3 steps, rates 0.0001, 0.001, from scratch 0.001, 0.01",
    ]


def test_a_program_reads_json() -> None:
    result = invoke(str(SHIPPED), "--json")
    about = json.loads(result.stdout)
    assert about["valid"] is True
    assert about["suite"]["distributions"]["far(2,4)"]["settings"] == {"level": [2, 4]}


def test_an_invalid_suite_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SHIPPED.read_text().replace("grid: 8", "gird: 8"))
    result = invoke(str(path))
    assert isinstance(result.exception, SuiteError)
    assert str(result.exception) == f"{path}:15:5: profiles.tiny.gird: unknown key; did you mean 'grid'?"
    assert result.stdout == ""


def test_files_that_a_suite_names_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    files = "{files: {pretraining: a.h5, validation: a.h5, test: a.h5}}"
    path.write_text(SHIPPED.read_text().replace("{system: toy, level: [1, 2]}", files))
    result = invoke(str(path))
    assert isinstance(result.exception, DataFileError)
    assert str(result.exception) == f"{tmp_path / 'a.h5'}: no such file"
