"""The adapter: channels by name, trace and resolution brought to what the checkpoint was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Channel, Fields, Problem
from pdebench_fm.training import fit_network
from released_model.network import RESOLUTION, released

CHANNELS = {Channel("source"), *(Channel(name, "constant") for name in ("k11", "k22", "k12"))}
_KEPT = RESOLUTION // 2 - 1  # highest wavenumber that both grids carry, Nyquist left out


class Adapter(nn.Module):
    """Called as the benchmark calls networks; calls the checkpoint as its authors did."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoint = released()

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Source (batch, 1, n, n) and k11, k22, k12 (batch, 3) → solution (batch, 1, n, n)."""
        trace = constants[:, 0] + constants[:, 1]
        source = resample(fields[:, 0], RESOLUTION) / trace[:, None, None]  # (f, K) and (f / tr K, K / tr K) are one
        solution = self.checkpoint(source, constants / trace[:, None])
        return resample(solution, fields.shape[-1])[:, None]


class ReleasedPoisson(OperatorModel):
    """A checkpoint for −div(K∇u) = f at 16². It arrives trained: there is no scratch arm and no pre-training."""

    learns_from_pretraining: ClassVar[bool] = False
    from_scratch: ClassVar[bool] = False

    def __init__(self) -> None:
        self._module = Adapter().eval()

    def supports(self, problem: Problem) -> str | None:
        """Refuse other channels than Poisson's, and grids that cannot be resampled to the checkpoint's."""
        if set(problem.inputs) != CHANNELS or problem.output_names != ("solution",):
            got = ", ".join((*problem.input_names, *problem.output_names))
            return f"the checkpoint maps source, k11, k22, k12 to solution, the problem has {got}"
        if not problem.grid.periodic or problem.grid.size < RESOLUTION:
            return f"the checkpoint needs a periodic grid of at least {RESOLUTION} points a side to resample from"
        return None

    def notes(self) -> Mapping[str, str]:
        """Describe the adapter."""
        return {
            "checkpoint": "weights.safetensors of released-model 1.0.0, made by make_weights.py",
            "channels": "source → force; k11, k22, k12 → kxx, kyy, kxy; both divided by the trace",
            "resampling": f"Fourier, to {RESOLUTION}² and back; wavenumbers above {_KEPT} are dropped",
        }

    @property
    def parameters(self) -> int:
        """Number of weights of the checkpoint."""
        return sum(p.numel() for p in self._module.parameters())

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """It is ready as it is."""

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Fine-tune all weights with the benchmark's loop."""
        return fit_network(
            self._module, lambda _, inputs: _arrange(inputs), ("solution",), train, validation, budget, trial, context
        )

    @torch.no_grad()
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict on the grid of the inputs."""
        fields, constants = _arrange(inputs)
        return {"solution": self._module.to(fields.device)(fields, constants)[:, 0]}

    def save(self, path: Path) -> None:
        """Write the weights as they are now."""
        save_file({name: t.detach().cpu() for name, t in self._module.state_dict().items()}, path / "weights")

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read what `save` wrote."""
        self._module.load_state_dict(load_file(path / "weights"))
        self._module.to(device)


def _arrange(inputs: Fields) -> tuple[Tensor, Tensor]:
    return inputs["source"][:, None], torch.stack([inputs["k11"], inputs["k22"], inputs["k12"]], dim=1)


def resample(values: Tensor, size: int) -> Tensor:
    """Bring periodic fields (batch, n, n) to another grid by their Fourier series."""
    spectrum = torch.fft.rfft2(values, norm="forward")
    moved = spectrum.new_zeros(len(values), size, size // 2 + 1)
    for rows in (slice(0, _KEPT + 1), slice(-_KEPT, None)):
        moved[:, rows, : _KEPT + 1] = spectrum[:, rows, : _KEPT + 1]
    return torch.fft.irfft2(moved, s=(size, size), norm="forward")
