"""Anything that learns or predicts a solution operator. It need not be a torch network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pdebench_fm.interfaces.examples import Examples
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Budget:
    """How much fitting one trial may do; the same for every arm.

    Args:
        epochs: passes over the training examples; None where ``steps`` is given.
        steps: optimisation steps; None where ``epochs`` is given.
        batch_size: examples a step (fewer if the training set is smaller).
    """

    epochs: int | None
    steps: int | None
    batch_size: int


class _Watched(Mapping[str, float]):
    """A mapping that notes which names were read."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self._values = dict(values)
        self.unread = set(self._values)

    def __getitem__(self, name: str) -> float:
        self.unread.discard(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


@dataclass(frozen=True)
class TrialSettings:
    """What one trial of a search fixes: a value of the search space, and a seed.

    Args:
        hyperparameters: one of what `OperatorModel.search_space` returned, e.g. ``{"learning_rate": 1e-3}``. A run
            refuses a name that neither model nor protocol reads, since a search over it would be none.
        seed: fixes initialisation and data order.
    """

    hyperparameters: Mapping[str, float]
    seed: int

    def __post_init__(self) -> None:
        if not isinstance(self.hyperparameters, _Watched):
            object.__setattr__(self, "hyperparameters", _Watched(self.hyperparameters))

    @property
    def ignored(self) -> str:
        """Why the value of the search space says more than was done; empty if all of it was read."""
        assert isinstance(self.hyperparameters, _Watched)
        names = sorted(self.hyperparameters.unread - {"learning_rate"})  # every suite has rates, whatever the model
        return f"search_space gives {names[0]!r}, which neither model nor protocol reads" if names else ""


@dataclass(frozen=True)
class Progress:
    """How far a fit has got: shown to the user, never part of a result.

    Args:
        done: units of work done, out of ``total`` (epochs for a network).
        total: units of work of the whole fit.
        unit: what is counted.
        best: lowest validation loss so far, in the terms of the model; None before the first.
    """

    done: int
    total: int
    unit: str = "epoch"
    best: float | None = None


@dataclass(frozen=True)
class FitContext:
    """What surrounds a fit and must not change its result.

    Args:
        workspace: a folder private to this trial, kept between interrupted runs: put resume state here.
        device: torch device name.
        precision: arithmetic of training: float32, tf32, bfloat16 or float64. Evaluation is always float32 or better.
        progress: call it now and then; it is cheap.
        rank: which of the processes that fit this trial together this is; rank 0 alone writes into the workspace.
        ranks: how many they are. Where there are several, torch's default process group joins them.
    """

    workspace: Path
    device: str = "cpu"
    precision: str = "float32"
    progress: Callable[[Progress], None] = field(default=lambda progress: None)
    rank: int = 0
    ranks: int = 1
    _begun: list[Path] = field(default_factory=list, repr=False, compare=False)

    def next_resume_file(self) -> Path:
        """Return the file in which the next fit keeps its state: a trial may have several fits, one after the other.

        A file for each, told apart by their order; whose state is in it, a fit must see for itself.
        """
        number = len(self._begun) + 1
        path = self.workspace / (f"resume-{number}.pt" if number > 1 else "resume.pt")
        self._begun.append(path)
        return path


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Args:
        status: ``diverged`` where a loss or weight was no longer finite; the model is then not used.
        reason: one line where the status is not ``ok``.
        epochs: passes over the training examples.
        steps: optimisation steps (0 for a direct solve).
        best_epoch: epoch whose weights were kept, counted from 1; 0 where there are no epochs.
        train_seconds: wall-clock seconds of the fit: validation, waiting and suspension included, summed over resumed
            runs.
        data_seconds: seconds of these spent on making or reading examples.
        history: one mapping per epoch (or fewer), e.g. ``{"epoch": 3, "train_loss": …, "validation_loss": …}``.

    Raises:
        ValueError: a status or number that no record could take.
    """

    status: Literal["ok", "diverged"] = "ok"
    reason: str = ""
    epochs: int = 0
    steps: int = 0
    best_epoch: int = 0
    train_seconds: float = 0.0
    data_seconds: float = 0.0
    history: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        if self.status not in ("ok", "diverged"):
            raise ValueError(f"the status of a fit is 'ok' or 'diverged', got {self.status!r}")
        for name in ("epochs", "steps", "best_epoch"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= 0):
                raise ValueError(f"{name} of a fit must be a whole number of at least 0, got {getattr(self, name)!r}")
        for name in ("train_seconds", "data_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} of a fit must be at least 0 and finite, got {getattr(self, name)!r}")


class OperatorModel(ABC):
    """A model under test. A registered factory is called with the model's arguments, e.g. ``Model(width=16)``.

    Construction is cheap: weights are made by `initialise` or `load`. Class attributes declare what the model can do;
    what it declares is checked by ``pdefm check model NAME``.
    """

    learns_from_pretraining: ClassVar[bool] = True
    """False: it arrives trained or has nothing to learn; `release` makes it ready, no pre-training is planned."""
    warm_starts: ClassVar[bool] = True
    """Whether `fit` continues with the present weights. False: fine-tuning is reported as unsupported."""
    from_scratch: ClassVar[bool] = True
    """Whether `initialise` gives an untrained model. False: the scratch arm is reported as unsupported."""
    has_network: ClassVar[bool] = False
    """Whether `network` gives a torch network. Protocols that freeze or extend a part of it refuse other models."""
    ignores_inputs: ClassVar[bool] = False
    """True: a baseline that ignores its inputs on purpose, e.g. the mean. The gate then does not ask it to learn."""
    local_arguments: ClassVar[Sequence[str]] = ()
    """Arguments that say where files are. `fingerprint` identifies these files; the paths are no part of a job."""

    def supports(self, problem: Problem) -> str | None:
        """Return None if the model can take the problem, otherwise one line saying why not. Called before all work."""
        return None

    def fingerprint(self) -> str:
        """Return what tells two models of equal arguments apart, e.g. the SHA-256 of a released checkpoint.

        It becomes part of the model's identity, so two checkpoints never share a result. Empty by default.
        """
        return ""

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Return the hyperparameters to try, one mapping a trial; by default the suite's learning ``rates``."""
        return [{"learning_rate": rate} for rate in rates]

    def notes(self) -> Mapping[str, str]:
        """What a reader of the record should know, e.g. the adapter of a released model. Recorded as it is."""
        return {}

    @property
    def network(self) -> nn.Module | None:
        """The torch network that `fit` trains, once `initialise` or `load` has run; None if there is none.

        A protocol may change it before a fit: `fit` leaves parameters alone that need no gradient, and trains the
        ones that were added.
        """
        return None

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Name the layers of `network` that protocols may train on their own.

        Returns:
            names of modules or weights, in the order in which they compute: ``embedding`` are those that read the
            inputs, ``head`` those that make the outputs. Of a part that is left out, protocols take the first or the
            last module that has weights.
        """
        return {}

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Number of fitted real numbers, counted once `initialise` or `load` has run."""

    @abstractmethod
    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Make the model ready to fit: build it for ``problem`` and fit its normalisation to ``train``.

        Called once in a model's life, never again when it is fine-tuned. ``train`` may be empty (scratch at N = 0).
        """

    def release(self, problem: Problem, train: Examples, seed: int) -> None:
        """Make a model that arrives trained ready, with its published weights; by default `initialise`.

        Called in place of `initialise` for every arm that starts pre-trained, if ``learns_from_pretraining`` is False.
        A model that defines it may have a scratch arm: `initialise` then makes the same network with fresh weights.
        """
        self.initialise(problem, train, seed)

    @abstractmethod
    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Fit the model further. ``validation`` may choose among epochs; it holds no test example.

        Examples have every output that the model was initialised for. They may lack some of its inputs, if it was
        initialised for a mixture and is fitted to one of its parts.

        If a fit was killed, the next call with the same workspace should continue it.
        """

    @abstractmethod
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict the outputs of a batch.

        Args:
            problem: what ``inputs`` belong to; contained in the problem the model was initialised for, on any grid
                the model supports.
            inputs: fields (batch, n, n) and constants (batch,), float32. Must not be changed.

        Returns:
            every output channel of ``problem``, float32 (batch, n, n), on the device of ``inputs``.
        """

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write everything `load` needs into the existing empty folder ``path``."""

    @abstractmethod
    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` of a model with the same arguments wrote; it then predicts the same numbers.

        Called on a model without weights, in place of `initialise`.
        """
