"""In-context prediction: no weight changes, the training examples are looked up (after arXiv 2402.15734).

The correction of a prediction is the mean of what the model missed at the training examples with the nearest inputs,
times a factor. The factor is fitted to the training examples, each corrected by the others, so neighbours that say
nothing about each other change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdefm_adaptation.adapted import Adaptation, Adapted

_NEIGHBOURS = (4, 1, 16, 2, 64)
_FILE = "examples.safetensors"
_ROWS = 256
"""Examples that are compared with all others at once."""


class InContext(Adaptation):
    """Correct predictions by what the model missed at the nearest training examples."""

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Return as many numbers of neighbours as a fine-tuning may try learning rates, at most five."""
        return [{"neighbours": count} for count in _NEIGHBOURS[: len(rates)]]

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Let it remember examples."""
        return Remembering(model)


class Remembering(Adapted):
    """A model that corrects its predictions by remembered examples."""

    has_network: ClassVar[bool] = False

    def __init__(self, inner: OperatorModel) -> None:
        super().__init__(inner)
        self._memory: dict[str, Tensor] = {}

    def notes(self) -> Mapping[str, str]:
        """Say how much the correction counts."""
        if not self._memory:
            return self.inner.notes()
        count, factor = int(self._memory["neighbours"]), float(self._memory["factor"])
        correction = (
            f"{factor:.3g} times what was missed at the {count} nearest of {len(self._memory['missed'])} examples"
        )
        return {**self.inner.notes(), "correction": correction}

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Remember the examples, and fit the factor."""
        start, problem = time.perf_counter(), train.problem
        inputs, missed = [], []
        for given, wanted in train.batches():
            guess = self.inner.predict(problem, given)
            inputs.append(given)
            missed.append(torch.stack([wanted[name] - guess[name] for name in problem.output_names], dim=1))
        memory = {f"input {name}": torch.cat([part[name] for part in inputs]) for name in problem.input_names}
        self._memory = memory | {"missed": torch.cat(missed)}
        others = len(train) - 1
        count = min(int(trial.hyperparameters["neighbours"]), max(others, 1))
        self._memory["neighbours"] = torch.tensor(count)
        keys = self._keys(problem, {name: memory[f"input {name}"] for name in problem.input_names})
        self._memory["factor"] = torch.tensor(self._factor(keys, count) if others else 0.0)
        return FitReport(epochs=1, train_seconds=time.perf_counter() - start)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict, and add the correction."""
        guess = self.inner.predict(problem, inputs)
        if not self._memory:
            return guess
        device = next(iter(guess.values())).device
        self._memory = {name: value.to(device) for name, value in self._memory.items()}
        remembered = {name: self._memory[f"input {name}"] for name in problem.input_names}
        distances = torch.cdist(self._keys(problem, inputs), self._keys(problem, remembered))
        count = int(self._memory["neighbours"])
        correction = self._memory["missed"][distances.topk(count, largest=False).indices].mean(dim=1)
        correction = resampled(correction * self._memory["factor"], problem.grid.size, problem.grid.periodic)
        return {name: guess[name] + correction[:, number] for number, name in enumerate(problem.output_names)}

    def save(self, path: Path) -> None:
        """Save the model and the examples."""
        self.inner.save(path)
        save_file({name: value.cpu().contiguous() for name, value in self._memory.items()}, path / _FILE)

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` wrote."""
        self.inner.load(path, device)
        self._memory = load_file(path / _FILE, device)

    def _keys(self, problem: Problem, inputs: Fields) -> Tensor:
        """Return what examples are compared by, (batch, numbers): every channel counts as much as any other.

        In a homogeneous problem, inputs that differ by one factor are the same.
        """
        remembered = {name: self._memory[f"input {name}"] for name in problem.input_names}
        size = remembered[problem.input_fields[0]].shape[-1]
        spread = _comparable(problem, remembered)
        mine = _comparable(problem, inputs)
        keys = []
        for name, value in mine.items():
            scale = spread[name].std(correction=0)
            value = (value / torch.where(scale > 0, scale, 1.0)).float()
            if value.ndim > 1:
                value = resampled(value[:, None], size, problem.grid.periodic).flatten(1) / size
            keys.append(value.reshape(len(value), -1))
        return torch.cat(keys, dim=1)

    def _factor(self, keys: Tensor, count: int) -> float:
        """Return the least-squares factor, between 0 and 1, of corrections of each example by the others."""
        missed = self._memory["missed"].flatten(1)
        product = square = 0.0
        for first in range(0, len(keys), _ROWS):
            rows = torch.arange(first, min(first + _ROWS, len(keys)), device=keys.device)
            distances = torch.cdist(keys[rows], keys)
            distances[rows - first, rows] = torch.inf
            correction = missed[distances.topk(count, largest=False).indices].mean(dim=1).double()
            product += float((correction * missed[rows]).sum())
            square += float(correction.square().sum())
        return min(max(product / square, 0.0), 1.0) if square > 0 else 0.0


def _comparable(problem: Problem, inputs: Fields) -> dict[str, Tensor]:
    """Return all inputs in float64, divided by the size of the fields if the problem is homogeneous."""
    inputs = {name: inputs[name].double() for name in problem.input_names}
    if not problem.homogeneous:
        return inputs
    squares = [inputs[name].square().mean(dim=(-2, -1)) for name in problem.input_fields]
    size = torch.stack(squares).mean(dim=0).sqrt()
    size = torch.where(size > 0, size, 1.0)
    return {c.name: inputs[c.name] / (size[:, None, None] if c.role == "field" else size) for c in problem.inputs}


def resampled(fields: Tensor, size: int, periodic: bool) -> Tensor:
    """Return fields (batch, channels, n, n) on ``size`` points a side: by Fourier series if they are periodic."""
    n = fields.shape[-1]
    if n == size:
        return fields
    if not periodic:
        return functional.interpolate(fields, size=(size, size), mode="bicubic", align_corners=False)
    modes = (min(n, size) - 1) // 2
    spectrum = torch.fft.rfft2(fields, norm="forward")[..., : modes + 1]
    wanted = spectrum.new_zeros(*spectrum.shape[:2], size, size // 2 + 1)
    wanted[..., : modes + 1, : modes + 1] = spectrum[..., : modes + 1, :]
    wanted[..., size - modes :, : modes + 1] = spectrum[..., n - modes :, :]
    return torch.fft.irfft2(wanted, s=(size, size), norm="forward")
