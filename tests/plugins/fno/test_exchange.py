"""A checkpoint of the paper's code predicts the same after conversion: checked against their pipeline, written anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pdefm_fno.exchange import convert, main
from pdefm_fno.model import FNO
from pdefm_spectral.advection_diffusion import AdvectionDiffusion
from pdefm_spectral.helmholtz import Helmholtz
from pdefm_spectral.poisson import Poisson
from ruamel.yaml import YAML
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm.errors import DataFileError, UsageError
from pdebench_fm.problem import Grid, Problem
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import InputNormalisation

N, WIDTH, MODES, DEPTH = 16, 6, 4, 3
BATCH = 5
COLUMNS = {"poisson": 3, "advection-diffusion": 5, "helmholtz": 2}
CLASSES = {"poisson": Poisson, "advection-diffusion": AdvectionDiffusion, "helmholtz": Helmholtz}
SYSTEMS = list(COLUMNS)


class Convolution(nn.Module):
    """The modes (±k_y, k_x), 0 ≤ k < m, each times its matrix; the parameters have the authors' names and shapes."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.weights1 = nn.Parameter(torch.randn(width, width, modes, modes, 2) / width)
        self.weights2 = nn.Parameter(torch.randn(width, width, modes, modes, 2) / width)

    def forward(self, x: Tensor) -> Tensor:
        m, spectrum = self.weights1.shape[2], torch.fft.rfft2(x, norm="ortho")
        result = torch.zeros_like(spectrum)
        for rows, weight in ((slice(0, m), self.weights1), (slice(-m, None), self.weights2)):
            kernel = torch.view_as_complex(weight.contiguous())
            result[:, :, rows, :m] = torch.einsum("bcyx,cdyx->bdyx", spectrum[:, :, rows, :m], kernel)
        return torch.fft.irfft2(result, s=x.shape[-2:], norm="ortho")


class Reference(nn.Module):
    """The authors' network, planes in and plane out."""

    def __init__(self, inputs: int, width: int = WIDTH, modes: int = MODES, depth: int = DEPTH) -> None:
        super().__init__()
        self.fc0 = nn.Linear(inputs, width)
        self.sp_convs = nn.ModuleList(Convolution(width, modes) for _ in range(depth))
        self.ws = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(depth))
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, 1)

    def forward(self, planes: Tensor) -> Tensor:
        x = self.fc0(planes.movedim(1, -1)).movedim(-1, 1)
        for i, (convolution, pointwise) in enumerate(zip(self.sp_convs, self.ws, strict=True)):
            x = convolution(x) + pointwise(x.flatten(2)).view_as(x)
            x = functional.gelu(x) if i < len(self.ws) - 1 else x
        return self.fc2(functional.gelu(self.fc1(x.movedim(1, -1)))).movedim(-1, 1)


def scaled(source: Tensor, columns: Tensor, scales: np.ndarray | None) -> Tensor:
    """The authors' input pipeline: source (batch, n, n) and columns (batch, C) to planes (batch, 1 + C, n, n)."""
    constants = columns[:, :, None, None].expand(-1, -1, *source.shape[1:])
    planes = torch.cat([source[:, None], constants], dim=1)
    if scales is None:
        return planes
    scale = torch.from_numpy(np.where(scales == 0, 1, scales).astype(np.float32)).to(planes)  # float32, as theirs are
    measure = scale[-2] / source.shape[1] * scale[-1] / source.shape[2]
    norm = source.flatten(1).norm(dim=1) * measure
    planes = planes / (norm / scale[0])[:, None, None, None]
    planes[:, 1:] /= scale[1 : 1 + columns.shape[1], None, None]
    return planes


def made(system: str, seed: int = 0) -> tuple[Reference, Tensor, Tensor, np.ndarray]:
    """A random network in float32; float64 sources and columns; scales as their notebook computes them (medians)."""
    count = COLUMNS[system]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Reference(1 + count)
        source = torch.randn(BATCH, N, N, dtype=torch.float64) * torch.logspace(-1, 1, BATCH)[:, None, None]
        columns = torch.rand(BATCH, count, dtype=torch.float64) * torch.logspace(-2, 1, count)
    norms = source.flatten(1).norm(dim=1).numpy() / N**2
    scales = np.array([np.median(norms), *np.median(np.abs(columns.numpy()), axis=0), 0.7, 1.0, 1.0])
    return network, source, columns, scales


def save(network: nn.Module, path: Path, prefix: str = "", change: Callable[[dict[str, Any]], object] = id) -> Path:
    """Write what the authors' trainer writes; ``change`` may spoil the weights first."""
    rate = YAML().load("1.0e-3")  # theirs come from a YAML file
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    state = {prefix + name: value for name, value in network.state_dict().items()}
    change(state)
    saved = {
        "iters": 7,
        "epoch": 1,
        "model_state": state,
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5).state_dict(),
    }
    torch.save(saved, path)
    return path


def predicted(file: Path, system: str, source: Tensor, columns: Tensor) -> Tensor:
    """What our model predicts, with its float32 weights and float64 arithmetic: rounding would hide small mistakes."""
    pde, model = CLASSES[system](Grid(N)), FNO.from_file(file)
    model.network.double()
    constants = {name: torch.from_numpy(values.copy()) for name, values in pde.read_columns(columns.numpy()).items()}
    return model.predict(pde.problem, {"source": source, **constants})["solution"]


@torch.no_grad()
def expected(network: Reference, source: Tensor, columns: Tensor, scales: np.ndarray | None) -> Tensor:
    """What the authors' code predicts."""
    return network.double()(scaled(source, columns, scales))[:, 0]


def test_a_checkpoint_given_as_weights_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    network, _, _, _ = made("poisson")
    with pytest.raises(DataFileError, match=r"ckpt\.tar: .* expected a model\.safetensors of a run"):
        FNO.from_file(save(network, tmp_path / "ckpt.tar"))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("scaling", [True, False], ids=["scaled", "as they are"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["one process", "several"])
def test_a_converted_checkpoint_predicts_the_same(tmp_path: Path, system: str, scaling: bool, prefix: str) -> None:
    network, source, columns, values = made(system)
    scales = tmp_path / "scales.npy" if scaling else None
    if scales is not None:
        np.save(scales, values)
    file = convert(save(network, tmp_path / "ckpt.tar", prefix), system, scales, tmp_path / "out", grid=N)
    wanted = expected(network, source, columns, values if scaling else None)
    got = predicted(file, system, source, columns)
    assert (got - wanted).abs().max() < 1e-11 * wanted.abs().max()


def test_a_scale_of_zero_counts_as_one(tmp_path: Path) -> None:
    network, source, columns, values = made("poisson")
    values[3] = 0
    np.save(tmp_path / "scales.npy", values)
    file = convert(save(network, tmp_path / "a.tar"), "poisson", tmp_path / "scales.npy", tmp_path / "out", N)
    wanted = expected(network, source, columns, values)
    assert (predicted(file, "poisson", source, columns) - wanted).abs().max() < 1e-11 * wanted.abs().max()


def test_the_norm_of_the_authors_depends_on_their_grid(tmp_path: Path) -> None:
    """So the grid of the training data must be right: stated wrongly, the inputs are scaled by another number."""
    network, source, columns, values = made("poisson")
    np.save(tmp_path / "scales.npy", values)
    checkpoint = save(network, tmp_path / "a.tar")
    right, wrong = (
        predicted(
            convert(checkpoint, "poisson", tmp_path / "scales.npy", tmp_path / str(n), n), "poisson", source, columns
        )
        for n in (N, 2 * N)
    )
    assert (right - wrong).norm() > 0.01 * right.norm()


def test_complex_weights_are_read_as_well(tmp_path: Path) -> None:
    network, source, columns, _ = made("poisson")

    def to_complex(state: dict[str, Any]) -> None:
        state.update({name: torch.view_as_complex(value) for name, value in state.items() if "weights" in name})

    plain = convert(save(network, tmp_path / "a.tar"), "poisson", None, tmp_path / "a", N)
    other = convert(save(network, tmp_path / "b.tar", change=to_complex), "poisson", None, tmp_path / "b", N)
    assert torch.equal(*(predicted(file, "poisson", source, columns) for file in (plain, other)))


def test_constants_unknown_to_the_checkpoint_change_nothing(tmp_path: Path) -> None:
    network, *_ = made("helmholtz")
    file = convert(save(network, tmp_path / "a.tar"), "helmholtz", None, tmp_path / "out", N)
    lift = FNO.from_file(file).network.state_dict()["lift.weight"]
    theirs = network.state_dict()["fc0.weight"]
    assert torch.equal(lift[:, [0, 1, 4]], theirs)  # source, c as k11, omega
    assert lift[:, 2:4].abs().max() == 0  # k22 and k12


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(name)


def put(name: str, *shape: int) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.update({name: torch.zeros(shape)})


SPOILT = {
    "a bias is missing": (drop("fc1.bias"), r"has no weight 'fc1\.bias'$"),
    "the first layer is missing": (drop("fc0.weight"), r"has no weight 'fc0\.weight'$"),
    "a block of modes is missing": (drop("sp_convs.1.weights2"), r"has no weight 'sp_convs\.1\.weights2'$"),
    "a pointwise layer is missing": (drop("ws.2.weight"), r"has no weight 'ws\.2\.weight'$"),
    "one layer too many": (put("ws.3.weight", 6, 6, 1), r"weight 'ws\.3\.weight' has no place in the network$"),
    "unequal modes": (
        put("sp_convs.0.weights1", 6, 6, 3, 4, 2),
        r"'sp_convs\.0\.weights1' must keep as many modes along both axes, got 3 and 4$",
    ),
    "other modes": (
        put("sp_convs.1.weights1", 6, 6, 3, 3, 2),
        r"'sp_convs\.1\.weights1' must have shape \(6, 6, 4, 4, 2\), got \(6, 6, 3, 3, 2\)$",
    ),
    "another hidden size": (
        put("fc1.weight", 24, 6),
        r"'fc1\.weight' must have shape \(12, 6\), got \(24, 6\)$",
    ),
    "two outputs": (put("fc2.weight", 2, 12), r"'fc2\.weight' must have shape \(1, 12\), got \(2, 12\)$"),
    "one constant less": (
        put("fc0.weight", 6, 3),
        r"fc0\.weight reads constants that poisson has not: expected 3 columns \(k11, k22, k12\), got 2$",
    ),
    "not finite": (
        lambda state: state["fc2.bias"].fill_(float("nan")),
        r"'fc2\.bias' holds values that are not finite$",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_a_checkpoint_that_does_not_fit_is_one_line(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = save(made("poisson")[0], tmp_path / "ckpt.tar", change=spoil)
    with pytest.raises(DataFileError, match=f"^{path}: {message}") as caught:
        convert(path, "poisson", None, tmp_path / "out", N)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_what_is_no_checkpoint_is_refused_and_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state": Harmful()}, tmp_path / "harmful.tar")
    (tmp_path / "text.tar").write_text("not a checkpoint")
    (tmp_path / "empty.tar").write_bytes(b"")
    torch.save({"state": {}}, tmp_path / "other.tar")
    torch.save({"model_state": {"fc0.weight": 3}}, tmp_path / "numbers.tar")
    torch.save({"model_state": {}}, tmp_path / "nothing.tar")
    for name, message in {
        "harmful": "not a checkpoint of weights only: ",
        "text": "not a checkpoint of weights only: ",
        "empty": "not a checkpoint of weights only: ",
        "other": "has no weights under 'model_state'$",
        "numbers": "has no weights under 'model_state'$",
        "nothing": r"has no weight 'fc0\.weight'$",
        "absent": "cannot be read: No such file or directory$",
    }.items():
        with pytest.raises(DataFileError, match=rf"{name}\.tar: {message}") as caught:
            convert(tmp_path / f"{name}.tar", "poisson", None, tmp_path / "out", N)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 1, 1, 1, 1, 1], r"must hold 7 numbers \(source, constants, solution, Lx, Ly\), got float64 \(6,\)$"),
        ([1.0, 1, 1, 1, 1, 2, 2], "the domain must be the unit square, got 2 × 2$"),
        ([np.inf, 1, 1, 1, 1, 1, 1], "scales must be finite and not negative"),
        ([-1.0, 1, 1, 1, 1, 1, 1], "scales must be finite and not negative"),
        ([None] * 7, "cannot be read as a .npy file: Object arrays cannot be loaded"),
    ],
)
def test_scales_that_do_not_fit_are_one_line(tmp_path: Path, values: list[Any], message: str) -> None:
    path = save(made("poisson")[0], tmp_path / "ckpt.tar")
    np.save(tmp_path / "scales.npy", np.array(values))
    with pytest.raises(DataFileError, match=rf"scales\.npy: {message}") as caught:
        convert(path, "poisson", tmp_path / "scales.npy", tmp_path / "out", N)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataFileError, match=r"no\.npy: cannot be read as a \.npy file: No such file or directory$"):
        convert(path, "poisson", tmp_path / "no.npy", tmp_path / "out", N)


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    path = save(made("poisson")[0], tmp_path / "ckpt.tar")
    with pytest.raises(UsageError, match=r"system must be one of poisson, advection-diffusion, helmholtz, got 'heat'$"):
        convert(path, "heat", None, tmp_path / "out", N)
    with pytest.raises(UsageError, match=r"ckpt\.tar: 4 modes need a grid of at least 8 points a side, got 6$"):
        convert(path, "poisson", None, tmp_path / "out", 6)
    convert(path, "poisson", None, tmp_path / "out", N)
    with pytest.raises(UsageError, match=r"model\.safetensors: exists already$"):
        convert(path, "poisson", None, tmp_path / "out", N)


def test_the_command_says_how_to_go_on(tmp_path: Path) -> None:
    network, _, _, values = made("helmholtz")
    np.save(tmp_path / "s.npy", values)
    checkpoint = save(network, tmp_path / "ckpt.tar")
    command = [checkpoint, "--system", "helmholtz", "--scales", tmp_path / "s.npy", "--grid", N, "--output", tmp_path]
    result = CliRunner().invoke(main, [str(word) for word in command])
    assert result.exit_code == 0, result.output
    assert f"--set width={WIDTH} --set modes={MODES} --set layers={DEPTH} --pretrained {tmp_path}" in result.stdout
    again = CliRunner().invoke(main, [str(word) for word in command])
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr == f"{tmp_path / 'model.safetensors'}: exists already\n"


def test_the_command_asks_for_the_grid(tmp_path: Path) -> None:
    network, _, _, values = made("poisson")
    np.save(tmp_path / "s.npy", values)
    checkpoint = save(network, tmp_path / "ckpt.tar")
    command = [checkpoint, "--system", "poisson", "--scales", tmp_path / "s.npy", "--output", tmp_path / "out"]
    result = CliRunner().invoke(main, [str(word) for word in command])
    assert result.exit_code == 2
    assert "Missing option '--grid'" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_module_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "pdefm_fno.exchange", "--help"]
    assert "CHECKPOINT" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


# NetworkModel.assemble, which it uses


def test_a_model_assembled_from_its_weights_is_the_same_model() -> None:
    problem: Problem = Poisson(Grid(N)).problem
    train = SmoothExamples(problem, 4)
    model = FNO(width=4, modes=3, layers=2)
    model.initialise(problem, train, 0)
    again = FNO(width=4, modes=3, layers=2)
    before = torch.random.get_rng_state()
    again.assemble(problem, InputNormalisation.fit(problem, train), model.network.state_dict())
    assert torch.equal(before, torch.random.get_rng_state())
    inputs, _ = train.batch(range(4))
    assert torch.equal(model.predict(problem, inputs)["solution"], again.predict(problem, inputs)["solution"])
    with pytest.raises(UsageError, match="the weights do not fit FNO: ") as caught:
        FNO(width=5, modes=3, layers=2).assemble(
            problem, InputNormalisation.fit(problem, train), again.network.state_dict()
        )
    assert "\n" not in str(caught.value)
