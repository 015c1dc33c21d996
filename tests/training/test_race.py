"""The race finds the epoch that validating everything would find, and evaluates less."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pdebench_fm.training.feed import Batch
from pdebench_fm.training.race import DivergedError, EpochRace


class Offset(nn.Module):
    """Returns its one weight everywhere: example i of `Targets` has the loss (weight − target i)²."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.examples = 0
        self.largest = 0

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        self.examples += len(fields)
        self.largest = max(self.largest, len(fields))
        return self.weight.expand(len(fields), 1, 1, 1)


class Targets:
    """Validation examples that are one number each, said to stand for a grid of ``size`` × ``size``."""

    def __init__(self, targets: np.ndarray, size: int = 64) -> None:
        self.targets = torch.from_numpy(targets)
        self.points = size**2

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, ids: np.ndarray) -> Batch:
        target = self.targets[ids].view(-1, 1, 1, 1)
        return Batch(target * 0, target[:, :, 0, 0] * 0, target)


def run(
    trajectory: list[float], targets: np.ndarray, room: int, size: int = 64
) -> tuple[EpochRace, Offset, dict[int, float]]:
    module = Offset()
    race = EpochRace(module, Targets(targets, size), room=room)  # type: ignore[arg-type]
    known: dict[int, float] = {}
    for number, weight in enumerate(trajectory, start=1):
        module.weight.data.fill_(weight)
        known |= race.enter(number)
        np.testing.assert_equal(module.weight.item(), weight)  # the network goes on from where it stands
    known |= race.judge()
    return race, module, known


@pytest.mark.parametrize("room", [0, 24, 56, 2**20])
@pytest.mark.parametrize("seed", range(6))
def test_the_best_epoch_is_that_of_full_validation(seed: int, room: int) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.standard_exponential(100) ** 3
    trajectory = list(generator.normal(targets.mean(), 2.0, size=30))
    losses = [float(((weight - targets) ** 2).sum()) / 100 for weight in trajectory]
    race, module, known = run(trajectory, targets, room)
    assert race.best_epoch == int(np.argmin(losses)) + 1
    assert race.best_loss == pytest.approx(min(losses), rel=1e-12)
    for number, loss in known.items():
        assert loss == pytest.approx(losses[number - 1], rel=1e-12)
    race.take_best()
    assert module.weight.item() == trajectory[race.best_epoch - 1]


def test_hopeless_epochs_are_hardly_evaluated() -> None:
    targets = np.random.default_rng(0).standard_normal(1000)
    race, module, _ = run([10.0 + i for i in range(40)] + [0.0], targets, 2**20)
    assert race.best_epoch == 41
    assert module.examples < 0.12 * 41 * 1000


@pytest.mark.parametrize(("size", "at_a_time"), [(16, 64), (32, 32), (64, 8), (256, 8)])
def test_a_call_is_worth_its_while_on_a_small_grid(size: int, at_a_time: int) -> None:
    targets = np.random.default_rng(0).standard_normal(100)
    race, module, _ = run([10.0 + i for i in range(5)] + [0.0], targets, 2**20, size)
    assert race.best_epoch == 6
    assert module.largest == at_a_time


def test_of_equal_epochs_the_first_is_kept() -> None:
    race, _, _ = run([3.0, 1.0, 1.0, 1.0], np.zeros(50), 24)
    assert race.best_epoch == 2


def test_it_goes_on_from_its_state() -> None:
    targets = np.random.default_rng(1).standard_normal(64)
    whole, _, _ = run([2.0, 0.4, 1.0, 0.1, 3.0], targets, 24)
    first, module, _ = run([2.0, 0.4, 1.0], targets, 2**20)
    module.weight.data.fill_(0.1)
    first.enter(4)
    second_module = Offset()
    second = EpochRace(second_module, Targets(targets), room=24)  # type: ignore[arg-type]
    second.restore(first.state())
    second_module.weight.data.fill_(3.0)
    second.enter(5)
    second.judge()
    assert (second.best_epoch, second.best_loss) == (whole.best_epoch, whole.best_loss)
    second.take_best()
    assert second_module.weight.item() == 0.1


@pytest.mark.parametrize("room", [0, 24, 2**20])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_without_a_finite_loss_loses_however_many_wait(bad: float, room: int) -> None:
    for trajectory, best in (([1.0, bad], 1), ([bad, 1.0], 2), ([bad, 2.0, bad, 1.0, bad], 4)):
        race, _, known = run(trajectory, np.zeros(20), room)
        assert race.best_epoch == best
        assert best in known
        assert all(math.isfinite(loss) for loss in known.values())
    race, _, known = run([bad, bad], np.zeros(20), room)
    assert (race.best_loss, known) == (None, {})
    with pytest.raises(DivergedError, match="not finite in any epoch"):
        race.take_best()


def test_buffers_belong_to_an_epoch_and_the_mode_stays(tmp_path: object) -> None:
    class Counting(Offset):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shift", torch.zeros((), dtype=torch.float64))

        def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
            assert not self.training
            return super().forward(fields, constants) + self.shift

    module = Counting().train()
    race = EpochRace(module, Targets(np.zeros(10)))  # type: ignore[arg-type]
    for number, shift in enumerate([5.0, 1.0, 2.0], start=1):
        module.shift.fill_(shift)
        race.enter(number)
    race.judge()
    assert module.training
    assert module.shift.item() == 2.0
    race.take_best()
    assert (race.best_epoch, module.shift.item()) == (2, 1.0)


def test_a_buffer_that_the_network_replaces_is_that_of_the_best_epoch() -> None:
    class Counting(Offset):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("epoch", torch.zeros(1))

    module = Counting()
    race = EpochRace(module, Targets(np.ones(4)))  # type: ignore[arg-type]
    for number, weight in enumerate((0.0, 0.9, 0.5), start=1):
        module.weight.data.fill_(weight)
        module.epoch = torch.full((number,), float(number))
        race.enter(number)
    race.judge()
    race.take_best()
    assert (race.best_epoch, module.epoch.tolist()) == (2, [2.0, 2.0])
