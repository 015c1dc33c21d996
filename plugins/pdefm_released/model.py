"""Released networks as models of the benchmark."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pdebench_fm.errors import DataFileError, PdefmError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.training import InputNormalisation, Recipe, fit_network
from pdefm_released.adapter import Adapter
from pdefm_released.checkpoint import files_of, locate, sha256

RecipeOf = Callable[[Adapter, int], AbstractContextManager[Recipe | None]]
Resampling = Literal["family", "spectral", "bilinear"]
_FILE = "model.safetensors"
_KEY = "pdebench_fm"


class ReleasedModel(OperatorModel):
    """A released network behind an adapter. It arrives trained; its scratch arm has fresh weights."""

    learns_from_pretraining: ClassVar[bool] = False
    has_network: ClassVar[bool] = True
    adapter: ClassVar[type[Adapter]]
    files: ClassVar[Sequence[str]]
    reads_config: ClassVar[bool] = False
    local_arguments: ClassVar[Sequence[str]] = ("checkpoint",)

    checkpoint: str
    resampling: Resampling

    def __init__(self) -> None:
        self._module: Adapter | None = None
        self._problem: Problem | None = None
        self._normalisation: InputNormalisation | None = None
        self._fresh = False
        self._recipe: RecipeOf = lambda module, seed: nullcontext(None)
        self._tuned = ""

    def fit_with(self, recipe: RecipeOf, about: str) -> None:
        """Make `fit` follow a recipe from now on; ``about`` is added to the notes."""
        self._recipe, self._tuned = recipe, about

    # Identity ---------------------------------------------------------------------------------------------------------

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights, and the start of that of a config.json beside them if it is read."""
        weights, config = self._digest(), self._file().with_name("config.json")
        used = self.reads_config and config.is_file()
        return f"{weights}+{_digest(config, _stamp(config))[:16]}" if used else weights

    def supports(self, problem: Problem) -> str | None:
        """Refuse what the family cannot be given."""
        file = self._file()
        return _refusal(type(self), tuple(self._given().items()), file, _stamp(file), problem)

    def notes(self) -> Mapping[str, str]:
        """Return all that was assumed, and where code, weights and data come from."""
        file = self._file()
        source = "fresh weights of this architecture" if self._fresh else f"{file.name}, SHA-256 {self._digest()}"
        notes = {"family": self.adapter.family, "checkpoint": source}
        if self._module is not None and self._problem is not None:
            notes |= self._module.notes(self._problem.grid)
        if self._tuned:
            notes["recipe"] = self._tuned
        return notes

    @property
    def network(self) -> nn.Module | None:
        """The adapter and the network in it."""
        return self._module

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Name what reads inputs and what makes outputs."""
        return self._ready()[0].parts()

    @property
    def parameters(self) -> int:
        """Number of weights of the network, those included that its published code never uses."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self._ready()[0].parameters())

    # Life -------------------------------------------------------------------------------------------------------------

    def release(self, problem: Problem, train: Examples, seed: int) -> None:
        """Load the released weights; new layers are fixed by ``seed``, and the normalisation is fitted to ``train``."""
        self._make(problem, train, seed, self._released())

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Make the same network with fresh weights."""
        self._make(problem, train, seed, None)

    def _make(self, problem: Problem, train: Examples, seed: int, network: nn.Module | None) -> None:
        self._fresh = network is None
        self._module, self._problem = self._adapted(problem, seed, network), problem
        self._normalisation = InputNormalisation.fit(problem, train)
        if len(train):
            parts = [(*self._encode(inputs), _stacked(outputs, problem)) for inputs, outputs in train.batches()]
            self._module.fit_normalisation(*(torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True)))

    def _adapted(self, problem: Problem, seed: int, network: nn.Module | None = None) -> Adapter:
        released = self._released() if network is None else network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if network is None:
                released = type(released)(released.sizes)
            return self.adapter(released, problem, self.resampling).eval()

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Train with the shared loop: by the rule that all models share, or by the recipe that was given."""
        module, problem, _ = self._ready()
        encode = lambda _, inputs: self._encode(inputs)  # noqa: E731
        with self._recipe(module, trial.seed) as recipe:
            return fit_network(
                module, encode, problem.output_names, train, validation, budget, trial, context, recipe=recipe
            )

    @torch.no_grad()
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict on the grid of the inputs."""
        module, own, _ = self._ready()
        fields, constants = self._encode(inputs)
        prediction = module.to(fields.device)(fields, constants)
        return {name: prediction[:, own.output_names.index(name)] for name in problem.output_names}

    def save(self, path: Path) -> None:
        """Write the weights as they are now, with problem and normalisation."""
        module, problem, normalisation = self._ready()
        about = {
            "fingerprint": self.fingerprint(),
            "fresh": self._fresh,
            "problem": problem.describe(),
            "normalisation": normalisation.state(),
        }
        weights = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in module.state_dict().items()}
        save_file(weights, path / _FILE, metadata={_KEY: json.dumps(about)})

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` wrote.

        Raises:
            DataFileError: the file is missing, damaged, or of another checkpoint.
        """
        file = path / _FILE if path.is_dir() else path
        try:
            with safe_open(file, "pt") as opened:
                about = json.loads(opened.metadata()[_KEY])
            if about["fingerprint"] != self.fingerprint():
                raise DataFileError(f"{file}: made from another checkpoint, SHA-256 {about['fingerprint']}")
            problem = Problem.parse(about["problem"])
            module = self._adapted(problem, 0)
            module.load_state_dict(load_file(file))
        except PdefmError:
            raise
        except Exception as error:  # damaged weights surface as many different exceptions
            raise DataFileError(f"{file}: cannot be read as weights of {self.adapter.family}: {error}") from error
        self._module, self._problem, self._fresh = module.to(device), problem, about["fresh"]
        self._normalisation = InputNormalisation.from_state(about["normalisation"])

    # Inside -----------------------------------------------------------------------------------------------------------

    def _digest(self) -> str:
        file = self._file()
        return _digest(file, _stamp(file))

    def _file(self) -> Path:
        return locate(self.checkpoint, *self.files)

    def _released(self) -> nn.Module:
        """Load the released network anew."""
        return self.adapter.open(self._file(), **self._given())

    def _given(self) -> dict[str, Any]:
        """Return the arguments for what the file does not say."""
        names = inspect.signature(type(self)).parameters.keys() - {"checkpoint", "resampling"}
        return {name: getattr(self, name) or None for name in sorted(names)}

    def _encode(self, inputs: Fields) -> tuple[Tensor, Tensor]:
        _, problem, normalisation = self._ready()
        return normalisation(problem, problem.embed(inputs))

    def _ready(self) -> tuple[Adapter, Problem, InputNormalisation]:
        if self._module is None or self._problem is None or self._normalisation is None:
            raise RuntimeError(f"{type(self).__name__} has no weights yet: call release, initialise or load first")
        return self._module, self._problem, self._normalisation


def _stacked(outputs: Fields, problem: Problem) -> Tensor:
    return torch.stack([outputs[name] for name in problem.output_names], dim=1)


_Stamp = tuple[tuple[int, int], ...]


def _stamp(file: Path) -> _Stamp:
    """Return size and time of the last change of a file, and of the shards that it names."""
    return tuple((found.st_size, found.st_mtime_ns) for found in (each.stat() for each in files_of(file)))


@cache
def _digest(file: Path, stamp: _Stamp) -> str:
    """Return the SHA-256 of files that have not changed since; large ones take a while."""
    return sha256(file)


@cache
def _refusal(
    model: type[ReleasedModel],
    given: tuple[tuple[str, Any], ...],
    file: Path,
    stamp: _Stamp,
    problem: Problem,
) -> str | None:
    """Return why a checkpoint cannot take a problem; it is read once."""
    return model.adapter.refuses(model.adapter.open(file, **dict(given)), problem)
