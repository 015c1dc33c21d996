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
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pdebench_fm._util.plain import Strict, read_plain
from pdebench_fm._util.text import named
from pdebench_fm.errors import DataFileError, PdefmError, RunError, UsageError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry.arguments import bind, call, plain
from pdebench_fm.registry.calling import located
from pdebench_fm.training.calling import call_network, count_parameters, real_dtype, seed_random
from pdebench_fm.training.loop import ParameterGroup, fit_network
from pdebench_fm.training.normalisation import InputNormalisation
from pdebench_fm.training.parts import find_parts

_FILE = "model.safetensors"
_EXPECTED = "expected a model.safetensors of a run (for weights of your own see docs/models.md)"
_KEY = "pdebench_fm"
_GRIDS = (8, 16, 32, 64, 128, 256)
_EXTRA = "_extra_state"
"""How torch names what `torch.nn.Module.get_extra_state` returns."""


def planes(fields: Tensor, constants: Tensor) -> Tensor:
    """Join fields (batch, F, n, n) and constants (batch, K) to (batch, F + K, n, n): each constant is a plane."""
    size = fields.shape[-2:]
    return torch.cat([fields, constants[:, :, None, None].expand(*constants.shape, *size)], dim=1)


class _About(Strict):
    """What a file of weights says beside its tensors."""

    arguments: dict[str, Any]
    problem: dict[str, Any]
    normalisation: dict[str, Any]
    extra_state: dict[str, Any] = Field(default_factory=dict)


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
    Use `planes` to join the two. `initialise`, `fit`, `predict`, `save`, `load`, `assemble`, `network` and `parameters`
    are final: for a loop or a file format of your own, implement `OperatorModel` and use `fit_network`.
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
        return count_parameters(self._ready().module)

    @final
    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Build the network with weights fixed by ``seed`` and fit its normalisation to ``train``.

        Raises:
            RunError: the network returns something else than it should, or could not be loaded after a fit.
        """
        normalisation = InputNormalisation.fit(problem, train)
        sample = None
        if len(train):
            inputs, _ = train.batch([0])
            sample = normalisation(problem, problem.embed({name: value.cpu() for name, value in inputs.items()}))
        self._built = _Built(self._new(problem, seed, sample), problem, normalisation)
        try:  # before any training
            again = call(type(self), self._arguments())
            again.assemble(problem, normalisation, {**self._weights(), **self._extra_state()})
        except UsageError as error:
            raise RunError(f"after a fit the network could not be loaded again: {error}") from error

    @final
    def assemble(self, problem: Problem, normalisation: InputNormalisation, weights: Mapping[str, Any]) -> None:
        """Build the network with given weights, e.g. those of a released checkpoint.

        Args:
            problem: what the weights were trained for.
            normalisation: the scales that the inputs had then.
            weights: state dict of the network that `build` returns.

        Raises:
            UsageError: the weights are not those of such a network.
        """
        module = self._new(problem, 0)  # the random weights are overwritten at once
        try:
            module.load_state_dict(dict(weights))
        except Exception as error:  # each kind of module has its own
            raise UsageError(f"the weights do not fit {type(self).__name__}: {named(error)}") from error
        self._built = _Built(module, problem, normalisation)

    def _new(self, problem: Problem, seed: int, sample: tuple[Tensor, Tensor] | None = None) -> nn.Module:
        """Build the network and call it once: lazy modules, and buffers of the first call, are made then."""
        size = problem.grid.size
        ones = torch.ones(1, len(problem.input_fields), size, size), torch.ones(1, len(problem.constants))
        fields, constants = sample or ones
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            seed_random(seed, "cpu")
            module = self.build(problem)
            module.eval()
            dtype = real_dtype(module)
            if dtype.itemsize < 4:
                raise RunError(f"weights must be float32 or float64, got {dtype}; --precision bfloat16 trains faster")
            try:
                call_network(module, fields.to(dtype), constants.to(dtype), len(problem.outputs))
            except PdefmError:
                raise
            except Exception as error:
                other = _other_grid(module, fields.to(dtype), constants.to(dtype))
                if other is None:
                    raise
                raise RunError(
                    f"the network takes fields of {other}², not of {size}²: build it for problem.grid.size, or let "
                    f"supports refuse other grids ({located(error)})"
                ) from error
        return module

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
        """Predict in float32; inside the network in float64 if its weights are."""
        built = self._ready()
        fields, constants = built.normalisation(built.problem, built.problem.embed(inputs))
        built.module.to(fields.device)
        dtype, names = real_dtype(built.module), built.problem.output_names
        prediction = call_network(built.module, fields.to(dtype), constants.to(dtype), len(names)).detach()
        return {name: prediction[:, names.index(name)].to(fields.dtype) for name in problem.output_names}

    @final
    def save(self, path: Path) -> None:
        """Write ``model.safetensors``: weights, with arguments, problem and normalisation as metadata."""
        built = self._ready()
        about = {
            "arguments": self._arguments(),
            "problem": built.problem.describe(),
            "normalisation": built.normalisation.state(),
        }
        if extra := self._extra_state():
            about["extra_state"] = extra
        # Copies: one weight may have two names, and safetensors refuses shared memory.
        weights = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in self._weights().items()}
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
                about = read_plain(_About, json.loads(opened.metadata()[_KEY]))
            self._check_arguments(about.arguments)
            problem, normalisation = Problem.parse(about.problem), InputNormalisation.from_state(about.normalisation)
            if lacking := set(problem.constants) - normalisation.constant_references.keys():
                raise UsageError(f"normalisation.constant_references: {min(lacking)!r} is required")
            self.assemble(problem, normalisation, load_file(file) | about.extra_state)
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

    def _check_arguments(self, theirs: Mapping[str, Any]) -> None:
        """Check that weights were made with the arguments of this model."""
        mine, typed = self._arguments(), bind(type(self), theirs)
        differing = next((name for name in mine if name not in theirs or typed[name] != mine[name]), None)
        if differing is not None:
            made = f"{differing}={theirs[differing]}" if differing in theirs else f"no {differing}"
            raise UsageError(f"made with {made}, this model has {differing}={mine[differing]}")

    def _arguments(self) -> dict[str, Any]:
        """The arguments this model was made with, as plain data."""
        names = inspect.signature(type(self)).parameters
        lost = next((name for name in names if not hasattr(self, name)), None)
        if lost is not None:
            raise UsageError(f"{type(self).__name__} takes {lost!r} and does not keep it: set self.{lost} in __init__")
        return plain(type(self), {name: getattr(self, name) for name in names})

    def _weights(self) -> dict[str, Tensor]:
        """The tensors of the state dict."""
        state = self._ready().module.state_dict()
        # Some libraries add entries of their own, e.g. _metadata: torch's loading does not know them.
        weights = {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}
        for name, value in weights.items():
            plain = value.layout == torch.strided and not value.is_quantized and value.dtype != torch.complex128
            if not plain:
                kind = "quantized" if value.is_quantized else value.dtype if value.layout == torch.strided else "sparse"
                raise UsageError(f"{name} is a tensor that safetensors cannot hold ({kind}): use float32 or complex64")
        return weights

    def _extra_state(self) -> dict[str, Any]:
        """What modules return from ``get_extra_state``, unless it is a tensor and saved with the others."""
        state = self._ready().module.state_dict()
        extra = {n: v for n, v in state.items() if n.endswith(_EXTRA) and not isinstance(v, Tensor)}
        for name, value in extra.items():
            try:
                same = json.loads(json.dumps(value)) == value
            except (TypeError, ValueError):
                same = False
            if not same:
                raise UsageError(
                    f"{name} must be a tensor or plain data (JSON) to be saved, got {type(value).__name__}"
                )
        return extra

    def _ready(self) -> _Built:
        if self._built is None:
            raise RuntimeError(f"{type(self).__name__} has no weights yet: call initialise or load first")
        return self._built


def _other_grid(module: nn.Module, fields: Tensor, constants: Tensor) -> int | None:
    """Return points a side that a network takes which does not take these fields; None if there are none."""
    for size in _GRIDS:
        try:
            module(fields.new_ones(*fields.shape[:2], size, size), constants)
        except Exception:  # of any kind: it is the network's own
            continue
        return size
    return None
