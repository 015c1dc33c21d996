"""The common case of an operator model: a torch network, trained by the shared loop."""

from __future__ import annotations

import inspect
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pdebench_fm._util.text import named, one_line
from pdebench_fm.errors import DataFileError, UsageError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry.arguments import call, plain
from pdebench_fm.training.loop import ParameterGroup, fit_network
from pdebench_fm.training.normalisation import InputNormalisation
from pdebench_fm.training.parts import find_parts

_FILE = "model.safetensors"
_EXPECTED = "expected a model.safetensors of a run"
_KEY = "pdebench_fm"


def planes(fields: Tensor, constants: Tensor) -> Tensor:
    """Join fields (batch, F, n, n) and constants (batch, K) to (batch, F + K, n, n): each constant is a plane."""
    size = fields.shape[-2:]
    return torch.cat([fields, constants[:, :, None, None].expand(*constants.shape, *size)], dim=1)


@dataclass
class _Built:
    """A network and what belongs to it."""

    module: nn.Module
    problem: Problem
    normalisation: InputNormalisation


class NetworkModel(OperatorModel):
    """A torch network trained by the shared loop. Write `build`, and keep arguments as attributes of the same names.

    The module is called with normalised inputs, ``module(fields, constants)``: fields (batch, F, n, n) in the order of
    ``problem.input_fields``, constants (batch, K) in that of ``problem.constants``. It returns (batch, outputs, n, n).
    Use `planes` to join the two.
    """

    has_network: ClassVar[bool] = True
    _built: _Built | None = None

    @abstractmethod
    def build(self, problem: Problem) -> nn.Module:
        """Return a new network, with random weights from torch's global generator (already seeded)."""

    def parameter_groups(self, module: nn.Module) -> Sequence[ParameterGroup]:
        """Return the parameters to train, each group with its multiple of the learning rate; by default all with 1."""
        return [(list(module.parameters()), 1.0)]

    @property
    @final
    def network(self) -> nn.Module:
        """The network that `build` returned, after `initialise` or `load`."""
        return self._ready().module

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Name embedding and head, see `OperatorModel.parts`; by default what depends on the number of channels."""
        built = self._ready()
        return find_parts(self.build, built.problem, built.module)

    @property
    @final
    def parameters(self) -> int:
        """Number of weights; a complex weight counts as two."""
        return sum(p.numel() * (2 if p.is_complex() else 1) for p in self._ready().module.parameters())

    @final
    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Build the network with weights fixed by ``seed`` and fit its normalisation to ``train``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = self.build(problem)
        self._built = _Built(module.eval(), problem, InputNormalisation.fit(problem, train))

    @final
    def assemble(self, problem: Problem, normalisation: InputNormalisation, weights: Mapping[str, Tensor]) -> None:
        """Build the network with given weights, e.g. those of a released checkpoint.

        Args:
            problem: what the weights were trained for.
            normalisation: the scales that the inputs had then.
            weights: state dict of the network that `build` returns.

        Raises:
            UsageError: the weights are not those of such a network.
        """
        with torch.random.fork_rng(devices=[]):  # the random weights are overwritten at once
            module = self.build(problem)
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise UsageError(f"the weights do not fit {type(self).__name__}: {one_line(error)}") from None
        self._built = _Built(module.eval(), problem, normalisation)

    @final
    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Train with the shared loop, see `pdebench_fm.training.loop`."""
        built = self._ready()

        def encode(examples: Examples, inputs: Fields) -> tuple[Tensor, Tensor]:
            return built.normalisation(built.problem, built.problem.embed(inputs))

        return fit_network(
            built.module,
            encode,
            built.problem.output_names,
            train,
            validation,
            budget,
            trial,
            context,
            parameter_groups=self.parameter_groups(built.module),
        )

    @final
    @torch.no_grad()
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict in float32."""
        built = self._ready()
        fields, constants = built.normalisation(built.problem, built.problem.embed(inputs))
        prediction = built.module.to(fields.device)(fields, constants)
        names = built.problem.output_names
        return {name: prediction[:, names.index(name)] for name in problem.output_names}

    @final
    def save(self, path: Path) -> None:
        """Write ``model.safetensors``: weights, with arguments, problem and normalisation as metadata."""
        built = self._ready()
        # Copies: one weight may have two names, and safetensors refuses shared memory.
        state = built.module.state_dict()
        weights = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
        about = {
            "arguments": self._arguments(),
            "problem": built.problem.describe(),
            "normalisation": built.normalisation.state(),
        }
        save_file(weights, path / _FILE, metadata={_KEY: json.dumps(about)})

    @final
    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` wrote; ``path`` may also be the safetensors file itself.

        Raises:
            DataFileError: the file is missing or damaged, or its weights are not those of this model.
        """
        file = path / _FILE if path.is_dir() else path
        try:
            with safe_open(file, "pt") as opened:
                about = json.loads(opened.metadata()[_KEY])
            theirs, mine = about["arguments"], self._arguments()
            differing = next((name for name in mine if theirs.get(name) != mine[name]), None)
            if differing is not None:
                raise UsageError(
                    f"made with {differing}={theirs.get(differing)}, this model has {differing}={mine[differing]}"
                )
            normalisation = InputNormalisation.from_state(about["normalisation"])
            self.assemble(Problem.parse(about["problem"]), normalisation, load_file(file))
        except UsageError as error:
            raise DataFileError(f"{file}: {error}") from error
        except Exception as error:  # damaged weights surface as many different exceptions
            what = f"cannot be read as {type(self).__name__} weights, {_EXPECTED}"
            raise DataFileError(f"{file}: {what}: {named(error)}") from error
        self.network.to(device)

    @classmethod
    def from_file(cls, path: Path, device: str = "cpu") -> Self:
        """Return a model made with the arguments that a file of weights names, with these weights.

        Raises:
            DataFileError: the file is missing, damaged, or not of this architecture.
        """
        file = path / _FILE if path.is_dir() else path
        try:
            with safe_open(file, "pt") as opened:
                model = call(cls, json.loads(opened.metadata()[_KEY])["arguments"])
        except Exception as error:  # damaged weights surface as many different exceptions
            raise DataFileError(
                f"{file}: cannot be read as {cls.__name__} weights, {_EXPECTED}: {named(error)}"
            ) from error
        model.load(file, device)
        return model

    def _arguments(self) -> dict[str, Any]:
        """The arguments this model was made with, as plain data."""
        names = inspect.signature(type(self)).parameters
        return plain(type(self), {name: getattr(self, name) for name in names})

    def _ready(self) -> _Built:
        if self._built is None:
            raise RuntimeError(f"{type(self).__name__} has no weights yet: call initialise or load first")
        return self._built
