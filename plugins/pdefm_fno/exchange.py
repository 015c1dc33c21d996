"""Convert weights of the paper's published code to a file for ``--pretrained``.

    python -m pdefm_fno.exchange CHECKPOINT --system poisson --scales SCALES.npy --grid 128 --output FOLDER

The network is the same: orthonormal transforms, axes and modes in the same order, GELU in its exact form. Names, the
layout of k_y and the scaling of inputs differ; docs/exchange.md has the tables. A constant that the checkpoint does not
read (K of SYS-3 is one number there) gets the weight zero.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ruamel.yaml.scalarfloat import ScalarFloat
from torch import Tensor

from pdebench_fm.errors import DataFileError, PdefmError, UsageError
from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.problem import Grid, Problem
from pdebench_fm.training import InputNormalisation
from pdefm_fno.model import FNO

SYSTEMS = ("poisson", "advection-diffusion", "helmholtz")


def convert(checkpoint: Path, system: str, scales: Path | None, output: Path, grid: int) -> Path:
    """Write a checkpoint of the authors' trainer as weights of `pdefm_fno.model.FNO`.

    Args:
        checkpoint: what their trainer saves; weights are under ``model_state``, with or without ``module.`` in front.
        system: the PDE it was trained on, one of `SYSTEMS`.
        scales: the .npy file its inputs were scaled by; None if its inputs were not scaled.
        output: folder for ``model.safetensors``; made if need be.
        grid: points a side of the data it was trained on: their norm of a source depends on it, and no file says it.

    Returns:
        the file written.

    Raises:
        DataFileError: the checkpoint or the scales cannot be read, or are not of such a network; one line says why.
        UsageError: the system is none of `SYSTEMS`, the grid is too coarse for the modes, or the file exists already.
    """
    pde = _system(system, Grid(grid))
    state = _CheckpointState(checkpoint)
    model, lift, weights = _network(state)
    try:
        columns = _columns(pde, max(lift.shape[1] - 1, 0))
    except UsageError as error:
        raise DataFileError(f"{checkpoint}: fc0.weight reads constants that {system} has not: {error}") from None
    reason = model.supports(pde.problem)
    if reason is not None:
        raise UsageError(f"{checkpoint}: {reason}")
    weights["lift.weight"] = _lift(lift, pde.problem, columns)
    model.assemble(pde.problem, _normalisation(scales, pde.problem, columns, grid), weights)
    file = output / "model.safetensors"
    if file.exists():
        raise UsageError(f"{file}: exists already")
    output.mkdir(parents=True, exist_ok=True)
    model.save(output)
    return file


def _system(name: str, grid: Grid) -> PDESystem:
    # The systems of the paper are the only ones there are checkpoints of.
    from pdefm_spectral.advection_diffusion import AdvectionDiffusion
    from pdefm_spectral.helmholtz import Helmholtz
    from pdefm_spectral.poisson import Poisson

    classes: tuple[Callable[[Grid], PDESystem], ...] = (Poisson, AdvectionDiffusion, Helmholtz)
    systems = dict(zip(SYSTEMS, classes, strict=True))
    if name not in systems:
        raise UsageError(f"system must be one of {', '.join(SYSTEMS)}, got {name!r}")
    return systems[name](grid)


def _columns(system: PDESystem, count: int) -> tuple[str, ...]:
    """Return the constant that each of the authors' columns gives, or the first of several."""
    marked = system.read_columns(np.eye(count))
    assert marked is not None  # all of SYSTEMS know the authors' columns
    return tuple(
        next(name for name in system.problem.constants if np.array_equal(marked[name], row)) for row in np.eye(count)
    )


class _CheckpointState:
    """The weights of a checkpoint, each taken once and checked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Their settings are read by ruamel.yaml, so that rates are floats of its own class.
            with torch.serialization.safe_globals([ScalarFloat]):
                saved: Any = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            raise DataFileError(f"{path}: cannot be read: {error.strerror or error}") from None
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:1000]
            raise DataFileError(f"{path}: not a checkpoint of weights only: {reason}") from None
        state = saved.get("model_state") if isinstance(saved, Mapping) else None
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise DataFileError(f"{path}: has no weights under 'model_state'")
        self._left: dict[str, Tensor] = {str(name).removeprefix("module."): value for name, value in state.items()}

    def count(self, prefix: str) -> int:
        """Return how many layers have names ``prefix.i.…``."""
        return len({name.split(".")[1] for name in self._left if name.startswith(f"{prefix}.")})

    def take(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        """Return a weight in float32; None in ``shape`` means any size."""
        if name not in self._left:
            raise DataFileError(f"{self.path}: has no weight {name!r}")
        value = self._left.pop(name)
        if value.is_complex():  # FNOs other than the authors' store them so
            value = torch.view_as_real(value)
        fits = value.ndim == len(shape) and all(b in (None, a) for a, b in zip(value.shape, shape, strict=True))
        if not fits:
            expected = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataFileError(f"{self.path}: {name!r} must have shape ({expected}), got {tuple(value.shape)}")
        if not value.isfinite().all():
            raise DataFileError(f"{self.path}: {name!r} holds values that are not finite")
        return value.float()

    def end(self) -> None:
        """Refuse weights that were not taken."""
        if self._left:
            raise DataFileError(f"{self.path}: weight {min(self._left)!r} has no place in the network")


def _network(state: _CheckpointState) -> tuple[FNO, Tensor, dict[str, Tensor]]:
    """Return the model, the weight of the authors' lift (width, 1 + C), and all other weights by our names."""
    lift = state.take("fc0.weight", (None, None))
    width, depth = len(lift), state.count("sp_convs")
    weights = {"lift.bias": state.take("fc0.bias", (width,))}
    modes: int | None = None
    for i in range(depth):
        first = state.take(f"sp_convs.{i}.weights1", (width, width, modes, modes, 2))
        modes = first.shape[3]
        second = state.take(f"sp_convs.{i}.weights2", (width, width, modes, modes, 2))
        if first.shape[2] != modes:
            raise DataFileError(
                f"{state.path}: 'sp_convs.{i}.weights1' must keep as many modes along both axes, "
                f"got {first.shape[2]} and {modes}"
            )
        weights[f"layers.{i}.spectral.weight"] = torch.cat([first, second], dim=2)
        weights[f"layers.{i}.pointwise.weight"] = state.take(f"ws.{i}.weight", (width, width, 1)).squeeze(-1)
        weights[f"layers.{i}.pointwise.bias"] = state.take(f"ws.{i}.bias", (width,))
    if modes is None:
        raise DataFileError(f"{state.path}: has no weight 'sp_convs.0.weights1'")
    for theirs, ours, shape in (("fc1", "expand", (2 * width, width)), ("fc2", "project", (1, 2 * width))):
        weights[f"{ours}.weight"] = state.take(f"{theirs}.weight", shape)
        weights[f"{ours}.bias"] = state.take(f"{theirs}.bias", shape[:1])
    state.end()
    return FNO(width=width, modes=modes, layers=depth), lift, weights


def _lift(theirs: Tensor, problem: Problem, columns: tuple[str, ...]) -> Tensor:
    """Spread (width, 1 + C), source first, over our inputs: the source, then every constant."""
    ours = theirs.new_zeros(len(theirs), 1 + len(problem.constants))
    ours[:, 0] = theirs[:, 0]
    for i, name in enumerate(columns, start=1):
        ours[:, 1 + problem.constants.index(name)] = theirs[:, i]
    return ours


def _normalisation(scales: Path | None, problem: Problem, columns: tuple[str, ...], grid: int) -> InputNormalisation:
    """Return the authors' input scaling in our terms.

    They divide all inputs by ‖f‖₂ · (Lx/n)(Ly/n) / s_f, and then each constant by its own scale. On the unit square
    ‖f‖₂ · (Lx/n)(Ly/n) = rms(f) / n, so f_ref is n · s_f.
    """
    unscaled = dict.fromkeys(problem.constants, 1.0)
    if scales is None:
        return InputNormalisation(False, 1.0, unscaled)
    values = _read_scales(scales, 1 + len(columns) + 3)
    return InputNormalisation(True, grid * values[0], unscaled | dict(zip(columns, values[1:], strict=False)))


def _read_scales(path: Path, count: int) -> list[float]:
    """Return (source, constants …, solution, Lx, Ly) as their loader takes them: in float32, zeros counted as 1."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise DataFileError(f"{path}: cannot be read as a .npy file: {reason}") from None
    if not isinstance(values, np.ndarray) or values.shape != (count,) or values.dtype.kind not in "fi":
        got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise DataFileError(f"{path}: must hold {count} numbers (source, constants, solution, Lx, Ly), got {got}")
    numbers = [float(value) for value in np.where(values == 0, 1, values).astype(np.float32)]
    if not (np.isfinite(numbers).all() and min(numbers) > 0):
        raise DataFileError(f"{path}: scales must be finite and not negative, got {numbers}")
    if numbers[-2:] != [1.0, 1.0]:
        raise DataFileError(f"{path}: the domain must be the unit square, got {numbers[-2]:g} × {numbers[-1]:g}")
    return numbers


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--system", type=click.Choice(SYSTEMS), required=True, help="The PDE it was trained on.")
@click.option("--scales", type=click.Path(path_type=Path), help="The .npy file its inputs were scaled by, if any.")
@click.option("--grid", type=click.IntRange(2), required=True, help="Points a side of its data; no file says it.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for model.safetensors.")
def main(checkpoint: Path, system: str, scales: Path | None, grid: int, output: Path) -> None:
    """Convert CHECKPOINT, made by the paper's published code, to weights for pdefm run --pretrained."""
    try:
        file = convert(checkpoint, system, scales, output, grid)
    except (PdefmError, OSError) as error:
        click.echo(" ".join(str(error).split()), err=True)
        sys.exit(error.exit_code if isinstance(error, PdefmError) else 1)
    model = FNO.from_file(file)
    click.echo(f"{file}: {model.parameters:,} parameters, trained on {system}")
    settings = f"--set width={model.width} --set modes={model.modes} --set layers={model.layers}"
    click.echo(f"pdefm run SUITE --model fno {settings} --pretrained {file}")


if __name__ == "__main__":
    main()
