"""Other people's packages, installed by pip into an environment of their own, used through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import program_of, said_by_each
from tests.third_party import pages

PACKAGES = ("ridge_operator", "measured_data")

Said = dict[str, tuple[int, str, str]]
Scored = dict[str, list[dict[str, Any]]]

SUITE = """\
name: tiny
version: 1
description: One small task.
default_profile: tiny
distributions:
  A: {system: poisson, eigenvalue: [1, 5]}
  B: {system: poisson, eigenvalue: [5, 10]}
pretraining:
  poisson: [A]
tasks:
  - {name: B, pretraining: poisson, downstream: B, shift: med}
protocols: [zero-shot, fine-tune, scratch]
profiles:
  tiny:
    grid: 20
    examples: {pretraining: 16, validation: 8, test: 8, downstream: [4]}
    training: {epochs: 1, batch_size: 8, learning_rates: [1e-3, 1e-2]}
    fine_tuning: {epochs: 1, learning_rates: [1e-6, 1e-5]}
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has this package and those of others."""

    python: Path
    home: Path

    def call(self, *arguments: object, code: int = 0) -> str:
        """Run Python with ``arguments``, expect an exit code, and return standard output."""
        done = self.run(*arguments)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run Python with ``arguments``."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        settings = {"PDEFM_CACHE_DIR": str(self.home / "cache"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        return subprocess.run(
            [str(self.python), *map(str, arguments)], capture_output=True, text=True, env=kept | settings, cwd=self.home
        )

    def pdefm(self, *arguments: object, code: int = 0) -> str:
        """Run ``pdefm``."""
        return self.call("-m", "pdebench_fm.cli", *arguments, code=code)

    def pdefm_each(self, commands: Mapping[str, Sequence[object]]) -> Said:
        """Run ``pdefm`` with each of these arguments, all in one process; return exit codes and what was printed."""
        done = said_by_each(self.run(*program_of(*commands.values())))
        return dict(zip(commands, done, strict=True))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the packages without network: what they need is borrowed from the running interpreter."""
    home = tmp_path_factory.mktemp("third_party")
    venv.create(home / "venv", with_pip=not any(distributions(name="pip")), symlinks=True)
    made = Environment(home / "venv" / "bin" / "python", home)
    paths = {"base": str(home / "venv"), "platbase": str(home / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    borrowed = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in borrowed]  # follows their own .pth files too
    (packages / "borrowed.pth").write_text("".join(lines))
    folders = [Path(__file__).with_name(name) for name in PACKAGES] + [pages.write(name, home) for name in pages.PAGES]
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--no-cache-dir", "--disable-pip-version-check")
    made.call("-m", "pip", "install", *offline, *folders)
    made.call("-m", "measured_data")
    return made


def arms(records: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(record["protocol"], record["examples"], record["status"]) for record in records]


ALL_ARMS = [
    ("pretraining", "ok"),
    ("zero-shot", "ok"),
    ("fine-tune", "ok"),
    ("scratch", "ok"),
    ("scratch", "ok"),
]


def test_all_are_found_without_failure(environment: Environment) -> None:
    plugins = {plugin["name"]: plugin for plugin in json.loads(environment.pdefm("plugins", "--json"))}
    assert plugins.keys() >= {*PACKAGES, *pages.PAGES, "spectral", "transfer"}
    assert [plugin["name"] for plugin in plugins.values() if plugin["failure"]] == []
    assert plugins["ridge_operator"]["entries"] == {"models": ["ridge-operator"]}
    assert plugins["released_model"]["distribution"] == "released-model 1.0.0"
    assert plugins["measured_data"]["entries"] == {"suites": ["measured"]}


MODELS = ("ridge-operator", "released-poisson", "convolutions")
PARTS = (("distribution", "fisher:slow"), ("metric", "mass_error"), ("protocol", "bias-only"))


RUNS = {
    "ridge-operator": ("tiny.yaml", "--model", "ridge-operator", "--set", "modes=4"),
    "released-poisson": ("tiny.yaml", "--model", "released-poisson"),
    "measured by unet": ("measured", "--model", "unet", "--set", "width=4"),
    "measured by ridge-operator": ("measured", "--model", "ridge-operator"),
    "measured by released-poisson": ("measured", "--model", "released-poisson", "--output", "none"),
    "fisher": ("fisher", "--model", "fno-64k", "--set", "width=4", "--set", "layers=2"),
}


@pytest.fixture(scope="module")
def said(environment: Environment) -> Said:
    """What ``pdefm`` says of each part when it checks it, and of each run, on one core."""
    (environment.home / "tiny.yaml").write_text(SUITE, encoding="utf-8")
    parts = [*(("model", name) for name in MODELS), *PARTS]
    common = ("--device", "cpu", "--workers", 1, "--output", environment.home / "runs", "--json")
    return environment.pdefm_each(
        {f"check {name}": ("check", kind, name, "--json") for kind, name in parts}
        | {name: ("run", *common, *arguments) for name, arguments in RUNS.items()}
    )


@pytest.fixture(scope="module")
def scored(said: Said) -> Scored:
    """The records of each run that was done."""
    return {name: json.loads(said[name][1]) for name in RUNS if said[name][0] == 0}


@pytest.mark.parametrize("model", MODELS)
def test_the_models_keep_the_interface(said: Said, model: str) -> None:
    found = json.loads(said[f"check {model}"][1])
    failed = [outcome for outcome in found.values() if isinstance(outcome, str)]
    assert failed == []  # what is skipped says why


STEPS = ("build", "check")


def test_records_of_a_numpy_model_enter_a_leaderboard(environment: Environment, scored: Scored) -> None:
    records = scored["ridge-operator"]
    assert [(protocol, status) for protocol, _, status in arms(records)] == ALL_ARMS
    assert records[0]["metrics"]["relative_l2"] < 1
    assert all(record["learning_rate"] is None for record in records)
    assert {t["hyperparameters"]["ridge"] for t in records[0]["trials"]} == {1e-6, 1e-1}
    board = ("--directory", environment.home / "board")
    (folder,) = (environment.home / "runs" / "tiny").glob("ridge-operator*")  # named after its arguments too
    done = environment.pdefm_each(
        {"add": ("leaderboard", "add", folder, *board), **{step: ("leaderboard", step, *board) for step in STEPS}}
    )
    assert [code for code, _, _ in done.values()] == [0, 0, 0], done
    assert done["add"][1] == "5 added, 0 replaced, 0 already there\n"
    assert "ridge-operator" in (environment.home / "board" / "README.md").read_text(encoding="utf-8")


def test_a_released_model_needs_no_pretraining_and_has_no_scratch_arm(scored: Scored) -> None:
    records = scored["released-poisson"]
    assert arms(records) == [
        ("zero-shot", 0, "ok"),
        ("fine-tune", 4, "ok"),
        ("scratch", 0, "unsupported"),
        ("scratch", 4, "unsupported"),
    ]
    zero_shot, fine_tune, scratch, _ = records
    assert zero_shot["metrics"]["relative_l2"] < 0.6
    assert fine_tune["metrics"]["relative_l2"] == pytest.approx(zero_shot["metrics"]["relative_l2"], rel=0.1)
    assert fine_tune["metrics"] != zero_shot["metrics"]
    assert "resampling" in zero_shot["notes"]
    assert zero_shot["notes"] == fine_tune["notes"]
    assert "from_scratch = False" in scratch["reason"]
    assert all(record["pretrain_job_id"] is None for record in records)


@pytest.mark.parametrize("model", ["unet", "ridge-operator"])
def test_examples_from_files_need_no_solver(scored: Scored, model: str) -> None:
    records = scored[f"measured by {model}"]
    assert [(protocol, status) for protocol, _, status in arms(records)] == ALL_ARMS
    for record in records:
        assert "relative_l2" in record["metrics"]
        assert "pde_residual" not in record["metrics"]
        assert record["kind"] == "pretraining" or 0 < record["overlap"] <= 1


def test_a_suite_the_released_model_cannot_take_is_refused_in_one_line(environment: Environment, said: Said) -> None:
    code, out, err = said["measured by released-poisson"]
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "the checkpoint maps source, k11, k22, k12 to solution" in err
    assert "temperature" in err
    assert not (environment.home / "none").exists()


@pytest.mark.parametrize("part", [name for _, name in PARTS])
def test_what_the_page_on_plugins_has_keeps_the_interfaces(said: Said, part: str) -> None:
    found = json.loads(said[f"check {part}"][1])
    assert found
    assert "failed" not in str(found)


def test_what_the_page_on_plugins_has_can_be_run(scored: Scored) -> None:
    records = scored["fisher"]
    assert {record["status"] for record in records} == {"ok"}
    errors = {(r["protocol"], r["examples"]): r["metrics"] for r in records if r["kind"] == "point"}
    assert errors.keys() == {
        ("zero-shot", 0),
        *((arm, size) for arm in ("fine-tune", "bias-only", "scratch") for size in (8, 32)),
        ("scratch", 0),
    }
    assert errors["fine-tune", 32]["relative_l2"] < errors["scratch", 32]["relative_l2"] < 1
    assert errors["bias-only", 32] != errors["fine-tune", 32]
    assert {"mass_error", "relative_l2"} <= errors["bias-only", 8].keys()
    assert "pde_residual" not in errors["bias-only", 8]


def test_the_settings_of_the_pages_sampler_are_checked_where_they_stand(environment: Environment) -> None:
    page = (pages.PAGES["my_pde"]).read_text(encoding="utf-8")
    broken = environment.home / "broken.yaml"
    broken.write_text(page.split("```yaml\n")[1].split("```")[0].replace("[2, 6]", "[6, 2]"), encoding="utf-8")
    refused = environment.run("-m", "pdebench_fm.cli", "validate", broken)
    assert refused.returncode == 2
    assert "broken.yaml:7:" in refused.stderr
    assert "0 <= low < high, got [6.0, 2.0]" in refused.stderr
