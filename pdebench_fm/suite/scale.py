"""The pydantic models of a profile: the scale at which a suite is run."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pdebench_fm._util.plain import Strict
from pdebench_fm.suite.positions import LocatedError

MOST_SEEDS = 1000
"""Seeds that a profile may have, and ``pdefm run --seeds``."""

MOST_EXTENDED = 20
"""Learning rates that a search may try beyond those listed."""

_LARGEST_ID = 2**50  # what the random streams can address
Count = Annotated[int, Field(ge=1, le=_LARGEST_ID)]
Points = Annotated[int, Field(ge=8, le=8192)]
Rate = Annotated[float, Field(gt=0)]


class Model(Strict):
    """Base of all models: nothing is converted, unknown keys are errors."""

    also: ClassVar[tuple[str, ...]] = ()
    """Keys that are handled before validation."""


class ExampleCounts(Model):
    """The number of examples in each split.

    Args:
        pretraining: examples of each distribution; a mixture has this many of each.
        downstream: sizes of the few-shot training sets, increasing. They are drawn from the pool and nested.
        pool: number of downstream training examples to draw from.
    """

    pretraining: Count
    validation: Count
    test: Count
    downstream: Annotated[tuple[Count, ...], Field(min_length=1)]
    pool: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for i, (low, high) in enumerate(zip(self.downstream, self.downstream[1:], strict=False)):
            if low >= high:
                raise LocatedError(f"sizes must increase, got {high} after {low}", "downstream", i + 1)
        if self.pool is not None:
            for i, size in enumerate(self.downstream):
                if size > self.pool:
                    message = f"must be at most the pool's size, {self.pool}, got {size}"
                    raise LocatedError(message, "downstream", i)
        return self

    @property
    def pool_size(self) -> int:
        """The number of downstream training examples to draw from."""
        return self.pool if self.pool is not None else max(self.pretraining, self.downstream[-1])


class _Search(Model):
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1)]

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        for i, rate in enumerate(rates):
            if rate in rates[:i]:
                raise LocatedError(f"must be distinct, got {rate} twice", i)
        return rates


class _Budget(_Search):
    epochs: Count | None = None
    steps: Count | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"needs exactly one of epochs and steps, got {'none' if self.steps is None else 'both'}")
        return self


class Training(_Budget):
    """The budget of pre-training: epochs or steps, batch size, learning rates."""

    batch_size: Count = 128


class FineTuning(_Budget):
    """The budget of every downstream arm; arms from scratch use `Profile.scratch_rates`.

    Args:
        batch_size: by default that of pre-training.
        validation: number of validation examples that select a downstream trial and its epoch, the first of the
            profile's; by default all of them. Pre-training always uses all of them.
    """

    batch_size: Count | None = None
    validation: Count | None = None


class ScratchSearch(_Search):
    """Learning rates of arms that start untrained; their other budget is that of fine-tuning."""


class Profile(Model):
    """A scale at which a suite is run.

    Args:
        grid: points along each side.
        test_grids: other numbers of points, on which the models trained on ``grid`` are scored too.
        scratch: learning rates of arms that start untrained; by default those of ``training``.
        extend: how many learning rates a search may try beyond those listed, one at a time, while the best one so far
            is at an end. The same for every arm and for pre-training.
        seeds: number of runs with different few-shot sets and initialisations.
        under_trained: models are not trained to the end at this scale; tables say so.
    """

    also = ("use",)

    grid: Points
    test_grids: tuple[Points, ...] = ()
    examples: ExampleCounts
    training: Training
    fine_tuning: FineTuning
    scratch: ScratchSearch | None = None
    extend: Annotated[int, Field(ge=0, le=MOST_EXTENDED)] = 0
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 1
    under_trained: bool = False

    @property
    def scratch_rates(self) -> tuple[float, ...]:
        """Learning rates of arms that start untrained."""
        return (self.scratch or self.training).learning_rates

    @field_validator("test_grids")
    @classmethod
    def _other_grids(cls, grids: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        for i, grid in enumerate(grids):
            if grid in (info.data.get("grid"), *grids[:i]):
                raise LocatedError(f"must differ from each other and from grid, got {grid} again", i)
        return grids

    @model_validator(mode="after")
    def _same_tuning(self) -> Self:
        source = "training" if self.scratch is None else "scratch"
        wanted, got = len(self.scratch_rates), len(self.fine_tuning.learning_rates)
        if wanted != got:
            message = f"must be as many as in {source}, {wanted}, got {got}: every arm has the same tuning budget"
            if self.scratch is None:
                message += " (list other rates for scratch under 'scratch')"
            raise LocatedError(message, "fine_tuning", "learning_rates")
        return self

    @model_validator(mode="after")
    def _validation_within(self) -> Self:
        wanted, available = self.fine_tuning.validation, self.examples.validation
        if wanted is not None and wanted > available:
            message = f"must be at most the profile's validation examples, {available}, got {wanted}"
            raise LocatedError(message, "fine_tuning", "validation")
        return self

    @property
    def downstream_validation(self) -> int:
        """The number of validation examples that select a downstream trial and its epoch."""
        return self.fine_tuning.validation or self.examples.validation
