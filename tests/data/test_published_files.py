"""Files in the layout of the paper's published code, which name nothing, as the data of a suite."""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pdefm_spectral.advection_diffusion import AdvectionDiffusion
from pdefm_spectral.helmholtz import Helmholtz
from pdefm_spectral.poisson import Poisson

from pdebench_fm.cli.data import inspect_file
from pdebench_fm.data.hashing import content_hash
from pdebench_fm.data.hdf5 import HDF5Examples, published_grid
from pdebench_fm.data.open import open_set, problem_of
from pdebench_fm.errors import DataFileError, UsageError
from pdebench_fm.interfaces import Examples, PDESystem
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import specify
from pdebench_fm.problem import Fields, Grid, Problem
from pdebench_fm.registry.discovery import Registry, registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.schema import Distribution
from tests.support.toy import SUITE, run_in

SIZE, COUNT = 16, 12

# One example's columns by system, in the authors' order; all different, so that no two can be exchanged unseen.
COLUMNS = {
    "poisson": (0.031, 0.012, 0.006),
    "advection-diffusion": (0.031, 0.012, 0.006, -0.5, 0.2),
    "helmholtz": (0.01, 3.0),
}
CLASSES = {"poisson": Poisson, "advection-diffusion": AdvectionDiffusion, "helmholtz": Helmholtz}


def operator(system: str, columns: np.ndarray, kx: float, ky: float) -> tuple[np.ndarray, np.ndarray]:
    """Even and odd part of the symbol, of K = (k11, k22, k12) and v = (v1, v2), or of c and ω; (N, 1, 1) each."""
    values = columns.T[..., None, None]
    if system == "helmholtz":
        return values[0] * (kx**2 + ky**2) - values[1], 0 * values[0]
    even = values[0] * kx**2 + values[1] * ky**2 + 2 * values[2] * kx * ky
    return even, values[3] * kx + values[4] * ky if system == "advection-diffusion" else 0 * even


def publish(path: Path, system: str, count: int = COUNT) -> Path:
    """Write a file as the authors' generators do: no attributes, x along the last axis (numpy's default meshgrid)."""
    scales = 1 + 0.3 * np.random.default_rng(0).random((count, len(COLUMNS[system])))
    columns = np.array(COLUMNS[system]) * scales
    x, y = np.meshgrid(np.arange(SIZE) / SIZE, np.arange(SIZE) / SIZE)
    kx, ky = 2 * math.pi * 1, 2 * math.pi * 3
    even, odd = operator(system, columns, kx, ky)
    solution = np.cos(kx * x + ky * y)
    source = even * solution - odd * np.sin(kx * x + ky * y)
    with h5py.File(path, "w") as file:
        file["fields"] = np.stack([source, np.broadcast_to(solution, source.shape)], axis=1).astype(np.float32)
        file["tensor"] = columns.astype(np.float32)
        if system == "advection-diffusion":
            file["other"] = np.ones((count, 1), np.float32)  # the realised Ψ, which we do not need
    return path


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return registry()


def opened(path: Path, system: str, plugins: Registry, count: int = COUNT) -> tuple[Examples, PDESystem]:
    distribution = Distribution(system=system, files={"train": path})
    found = open_set(specify(distribution, plugins, "train", count, SIZE, 0), plugins, "cpu")
    assert found.system is not None
    return found.examples, found.system


@pytest.mark.parametrize("system", COLUMNS)
def test_a_published_file_solves_its_pde(tmp_path: Path, plugins: Registry, system: str) -> None:
    examples, pde = opened(publish(tmp_path / "a.h5", system), system, plugins)
    inputs, outputs = examples.batch(range(COUNT))
    assert examples.problem == pde.problem
    assert pde.residual(inputs, outputs).abs().max() < 1e-5 * inputs["source"].abs().max()


@pytest.mark.parametrize("system", ["poisson", "advection-diffusion"])
def test_exchanged_axes_would_be_seen(tmp_path: Path, plugins: Registry, system: str) -> None:
    examples, pde = opened(publish(tmp_path / "a.h5", system), system, plugins)
    inputs, outputs = examples.batch(range(COUNT))
    exchanged = {**inputs, "k11": inputs["k22"], "k22": inputs["k11"]}
    assert pde.residual(exchanged, outputs).abs().max() > 0.1 * inputs["source"].abs().max()


def test_columns_come_in_the_authors_order() -> None:
    grid = Grid(SIZE)
    row = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)

    def read(system: PDESystem, columns: np.ndarray) -> dict[str, float]:
        named = system.read_columns(columns)
        assert named is not None
        assert set(named) == set(system.problem.constants)
        return {name: float(values[0]) for name, values in named.items()}

    assert read(Poisson(grid), row[:, :3]) == {"k11": 1, "k22": 2, "k12": 3}
    assert read(AdvectionDiffusion(grid), row) == {"k11": 1, "k22": 2, "k12": 3, "v1": 4, "v2": 5}
    assert read(Helmholtz(grid), row[:, :2]) == {"k11": 1, "k22": 1, "k12": 0, "omega": 2}


def test_any_rows_in_any_order_and_in_another_process(tmp_path: Path) -> None:
    path = publish(tmp_path / "a.h5", "helmholtz")
    with h5py.File(path) as file:
        omega = file["tensor"][:, 1]
    examples = HDF5Examples(path, columns=Helmholtz(Grid(SIZE)).read_columns)
    copy = pickle.loads(pickle.dumps(examples))
    for each in (examples, copy):
        inputs, _ = each.batch([5, 0, 5])
        assert inputs["omega"].tolist() == omega[[5, 0, 5]].tolist()
        assert inputs["omega"].dtype == torch.float32


@pytest.mark.parametrize("system", COLUMNS)
def test_a_file_of_another_system_is_one_line(tmp_path: Path, plugins: Registry, system: str) -> None:
    for other in COLUMNS.keys() - {system}:
        path = publish(tmp_path / f"{other}.h5", other)
        with pytest.raises(DataFileError) as caught:
            opened(path, system, plugins)
        names = {"helmholtz": "c, omega", "poisson": "k11, k22, k12", "advection-diffusion": "k11, k22, k12, v1, v2"}
        wanted, got = len(COLUMNS[system]), len(COLUMNS[other])
        expected = f"expected {wanted} columns ({names[system]}), got {got}"
        assert str(caught.value) == f"{path}: 'tensor' does not name its columns: {expected}"


def test_a_system_that_knows_no_published_files_says_so(tmp_path: Path) -> None:
    class Other(PDESystem):
        @property
        def problem(self) -> Problem:
            return Poisson(Grid(SIZE)).problem

        def solve(self, inputs: Fields) -> Fields:
            raise AssertionError("a file whose columns have no names is refused before anything is solved")

        def residual(self, inputs: Fields, outputs: Fields) -> torch.Tensor:
            raise AssertionError("a file whose columns have no names is refused before anything is solved")

    path = publish(tmp_path / "a.h5", "poisson")
    with pytest.raises(DataFileError, match=r"does not name its columns, and the system knows no order for them$"):
        HDF5Examples(path, columns=Other().read_columns)


def test_without_a_system_the_file_is_refused_with_the_way_out(tmp_path: Path, plugins: Registry) -> None:
    path = publish(tmp_path / "a.h5", "poisson")
    with pytest.raises(DataFileError, match="must be 1; it is written last; set the distribution's system"):
        specify(Distribution(files={"train": path}), plugins, "train", 4, SIZE, 0)
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = 1
    with pytest.raises(DataFileError, match="it names the constants; set the distribution's system"):
        specify(Distribution(files={"train": path}), plugins, "train", 4, SIZE, 0)


def test_a_file_that_says_what_it_is_is_not_read_by_its_columns(tmp_path: Path, plugins: Registry) -> None:
    path = publish(tmp_path / "a.h5", "poisson")
    assert published_grid(path) == Grid(SIZE)
    with h5py.File(path, "r+") as file:
        file["tensor"].attrs["channels"] = json.dumps(["k22", "k11", "k12"])
    assert published_grid(path) is None
    with pytest.raises(DataFileError, match=r"is incomplete: .* it is written last$"):
        opened(path, "poisson", plugins)
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = 1
        first = file["tensor"][0, 0]
    assert opened(path, "poisson", plugins)[0].batch([0])[0]["k22"].item() == first


def test_values_that_are_not_finite_and_too_few_examples_are_named(tmp_path: Path, plugins: Registry) -> None:
    path = publish(tmp_path / "a.h5", "helmholtz")
    with pytest.raises(UsageError, match=r"asks for 13 train examples, the file has 12; few-shot"):
        opened(path, "helmholtz", plugins, COUNT + 1)
    with h5py.File(path, "r+") as file:
        file["tensor"][3, 0] = np.nan
    with pytest.raises(DataFileError, match="example 3 has values that are not finite"):
        opened(path, "helmholtz", plugins)[0].batch([2, 3])


def test_few_examples_are_taken_from_the_whole_file(tmp_path: Path, plugins: Registry) -> None:
    path = publish(tmp_path / "a.h5", "poisson")
    with h5py.File(path) as file:
        k11 = file["tensor"][:, 0]
    for count, wanted in ((1, [0]), (4, [0, 3, 6, 9]), (5, [0, 2, 4, 7, 9]), (COUNT, list(range(COUNT)))):
        inputs, _ = opened(path, "poisson", plugins, count)[0].batch(range(count))
        assert inputs["k11"].tolist() == k11[wanted].tolist()
    with h5py.File(path, "r+") as file:  # a file that says what it is: from the front, as it was exported
        file["tensor"].attrs["channels"] = json.dumps(["k11", "k22", "k12"])
        file.attrs["complete"] = 1
    inputs, _ = opened(path, "poisson", plugins, 4)[0].batch(range(4))
    assert inputs["k11"].tolist() == k11[:4].tolist()


def test_the_description_names_content_and_system_not_the_place(tmp_path: Path, plugins: Registry) -> None:
    path = publish(tmp_path / "a.h5", "poisson")
    spec = specify(Distribution(system="poisson", files={"test": path}), plugins, "test", 4, SIZE, 0)
    version = plugins.get("systems", "poisson").version
    assert spec.description == {
        "split": "test",
        "count": 4,
        "file": content_hash(path),
        "system": {"name": "poisson", "version": version},
    }
    assert problem_of(spec, plugins) == Poisson(Grid(SIZE)).problem


def test_inspecting_needs_no_names(tmp_path: Path) -> None:
    result = CliRunner().invoke(inspect_file, [str(publish(tmp_path / "a.h5", "helmholtz"))])
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith("range"))
    assert (lines["constants"], lines["complete"]) == ("none named", "no")
    assert "range of tensor[1]" in result.stdout


def test_a_suite_of_published_files_runs_from_pretraining_to_scores(tmp_path: Path, plugins: Registry) -> None:
    files = {
        system: ", ".join(f"{split}: {system}.h5" for split in ("pretraining", "train", "validation", "test"))
        for system in ("poisson", "helmholtz")
    }
    text = SUITE
    for system, sampled in (
        ("poisson", "{system: poisson, eigenvalue: [1, 5]}"),
        ("poisson", "{system: poisson, eigenvalue: [5, 10]}"),
        ("helmholtz", "{system: helmholtz, wavenumber: [5, 6]}"),
    ):
        text = text.replace(sampled, f"{{system: {system}, files: {{{files[system]}}}}}")
        publish(tmp_path / f"{system}.h5", system, 16)
    path = tmp_path / "suite.yaml"
    path.write_text(text, encoding="utf-8")
    suite = load_suite(path, plugins)
    plan = make_plan(suite, "tiny", model_spec(plugins, "fno", {"width": 4, "modes": 3}), plugins)
    result = run_in(tmp_path / "runs", plan)
    assert {record.status for record in result.records} == {"ok"}
    mixed = next(record for record in result.records if record.kind == "pretraining" and "mixed" in record.task)
    assert mixed.metrics


def test_the_suite_of_the_page_is_valid_and_tunes_both_arms_alike(tmp_path: Path, plugins: Registry) -> None:
    page = (Path(__file__).parents[2] / "docs" / "exchange.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "published.yaml"
    file.write_text(shown, encoding="utf-8")
    profile = load_suite(file, plugins).profiles["paper"]
    assert profile.scratch is None  # so that scratch has the rates of pre-training
    assert profile.fine_tuning.learning_rates == profile.training.learning_rates
    assert len(profile.fine_tuning.learning_rates) == 5
