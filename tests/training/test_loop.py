from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, Progress, TrialSettings
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.streams import Stream
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import InputNormalisation, Recipe, fit_network
from pdebench_fm.training.loop import mixed_seed
from pdebench_fm.training.resume import ResumeFile
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8))
TRAIN, VALIDATION = SmoothExamples(PROBLEM, 10), SmoothExamples(PROBLEM, 6, seed=1)
TRIAL = TrialSettings({"learning_rate": 1e-2}, seed=3)


def untrained() -> Toy:
    model = Toy()
    model.initialise(PROBLEM, TRAIN, 0)
    return model


def fit(
    model: Toy, budget: Budget, context: FitContext, micro_batch: int | None = None, save_interval: float = 3.0
) -> FitReport:
    normalise = InputNormalisation.fit(PROBLEM, TRAIN)
    return fit_network(
        model.network,
        lambda examples, inputs: normalise(PROBLEM, inputs),
        ("solution",),
        TRAIN,
        VALIDATION,
        budget,
        TRIAL,
        context,
        micro_batch=micro_batch,
        save_interval=save_interval,
    )


def fitted(
    folder: Path, budget: Budget, micro_batch: int | None = None, save_interval: float = 3.0, **context: object
) -> tuple[Toy, FitReport]:
    folder.mkdir(exist_ok=True)
    model = untrained()
    where = FitContext(folder, **context)  # type: ignore[arg-type]
    return model, fit(model, budget, where, micro_batch, save_interval)


def weights(model: Toy) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.network.parameters()])


def plain_training(epochs: int, batch_size: int) -> tuple[Tensor, list[float], int]:
    """The protocol written down once more, without resuming or fused kernels."""
    model = untrained()
    module, normalise = model.network, InputNormalisation.fit(PROBLEM, TRAIN)
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    total, step, losses, best = epochs * math.ceil(10 / batch_size), 0, [], None

    def squared_error(data: Examples, ids: object) -> Tensor:
        inputs, outputs = data.batch(ids)  # type: ignore[arg-type]
        return (module(*normalise(PROBLEM, inputs))[:, 0] - outputs["solution"]).square().sum()

    for epoch in range(epochs):
        order = np.argsort(Stream({"order": 3, "examples": 10}, 10).uniform([epoch])[0], kind="stable")
        for start in range(0, 10, batch_size):
            ids = order[start : start + batch_size]
            for group in optimiser.param_groups:
                group["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / total))
            optimiser.zero_grad()
            (squared_error(TRAIN, ids) / len(ids)).backward()
            optimiser.step()
            step += 1
        with torch.no_grad():
            losses.append(squared_error(VALIDATION, range(6)).item() / 6)
        if losses[-1] == min(losses):
            best = weights(model).clone()
    assert best is not None
    return best, losses, losses.index(min(losses)) + 1


@pytest.mark.parametrize("batch_size", [4, 16])
def test_the_loop_is_the_papers_protocol(tmp_path: Path, batch_size: int) -> None:
    model, report = fitted(tmp_path / "a", Budget(6, None, batch_size))
    expected, losses, best_epoch = plain_training(6, batch_size)
    torch.testing.assert_close(weights(model), expected, rtol=1e-4, atol=1e-6)
    assert report.best_epoch == best_epoch
    assert report.epochs == 6
    assert report.steps == 6 * math.ceil(10 / min(batch_size, 10))
    assert [entry["validation_loss"] for entry in report.history] == pytest.approx(losses, rel=1e-4)


def test_the_weights_kept_are_those_of_the_best_epoch_and_not_the_last(tmp_path: Path) -> None:
    class Contrary(SmoothExamples):
        """Solutions with the opposite sign: the better the fit, the worse the validation."""

        def batch(self, ids):  # type: ignore[no-untyped-def]
            inputs, outputs = super().batch(ids)
            return inputs, {name: -value for name, value in outputs.items()}

    def run(folder: Path, epochs: int, stop: int | None = None) -> tuple[Toy, FitReport]:
        folder.mkdir()
        model = untrained()
        snapshots: list[Tensor] = []
        context = FitContext(folder, progress=lambda _: snapshots.append(weights(model).clone()))
        report = model.fit(TRAIN, Contrary(PROBLEM, 6), Budget(epochs, None, 4), TRIAL, context)
        after_epochs = snapshots[2::3]  # an epoch of 10 examples in batches of 4 takes three steps
        assert not torch.equal(after_epochs[-1], after_epochs[report.best_epoch - 1])
        torch.testing.assert_close(weights(model), after_epochs[report.best_epoch - 1], rtol=0, atol=0)
        return model, report

    _, report = run(tmp_path / "a", 8)
    assert report.best_epoch < 8


class _Numbered(nn.Module):
    """Has the given loss on a validation target of zero, epoch by epoch, and a buffer that counts the epochs."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.losses, self.validated = losses, 0
        self.register_buffer("epoch", torch.zeros(1))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if self.training:
            self.epoch = self.epoch.new_full((self.validated + 1,), self.validated + 1.0)  # replaced, and it grows
            return fields * self.weight
        self.validated += 1
        return fields * 0 + self.losses[self.validated - 1]


class _Zero(SmoothExamples):
    def batch(self, ids):  # type: ignore[no-untyped-def]
        inputs, outputs = super().batch(ids)
        return inputs, {name: 0 * value for name, value in outputs.items()}


def numbered(losses: list[float], folder: Path) -> tuple[_Numbered, FitReport]:
    network = _Numbered(losses)
    zero = _Zero(PROBLEM, 6)
    report = fit_network(
        network,
        lambda examples, inputs: (inputs["source"][:, None], inputs["k11"][:, None]),
        ("solution",),
        zero,
        zero,
        Budget(len(losses), None, 6),
        TRIAL,
        FitContext(folder),
        micro_batch=6,
    )
    return network, report


def test_of_equal_epochs_the_first_is_kept_with_its_buffers(tmp_path: Path) -> None:
    network, report = numbered([3.0, 1.0, 1.0, 2.0], tmp_path)
    assert report.best_epoch == 2
    assert network.epoch.tolist() == [2.0, 2.0]
    assert not network.training


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_epoch_without_a_finite_validation_loss_cannot_be_the_best(bad: float, tmp_path: Path) -> None:
    _, report = numbered([bad, 2.0, bad, 1.0, bad], tmp_path)
    assert (report.status, report.best_epoch) == ("ok", 4)
    assert [entry["validation_loss"] for entry in report.history] == [None, 256.0, None, 64.0, None]
    assert numbered([bad, bad], tmp_path)[1].status == "diverged"


def test_the_loss_is_summed_over_the_grid_and_averaged_over_the_batch(tmp_path: Path) -> None:
    model = untrained()
    inputs, outputs = TRAIN.batch(range(10))
    errors = (model.predict(PROBLEM, inputs)["solution"] - outputs["solution"]).square().sum(dim=(1, 2))
    _, report = fitted(tmp_path / "a", Budget(1, None, 10))
    assert report.history[0]["train_loss"] == pytest.approx(float(errors.mean()), rel=1e-5)


def test_outputs_are_matched_by_name_and_not_by_position(tmp_path: Path) -> None:
    two = Problem(PROBLEM.inputs, (Channel("a"), Channel("b")), Grid(8))

    class Swapped(SmoothExamples):
        def batch(self, ids):  # type: ignore[no-untyped-def]
            inputs, outputs = super().batch(ids)
            return inputs, {"b": 5 * outputs["b"], "a": outputs["a"]}

    class Ordered(Swapped):
        def batch(self, ids):  # type: ignore[no-untyped-def]
            inputs, outputs = super().batch(ids)
            return inputs, {"a": outputs["a"], "b": outputs["b"]}

    models = []
    for name, kind in (("swapped", Swapped), ("ordered", Ordered)):
        (tmp_path / name).mkdir()
        model = Toy()
        model.initialise(two, kind(two, 6), 0)
        model.fit(kind(two, 6), kind(two, 4, 1), Budget(2, None, 4), TRIAL, FitContext(tmp_path / name))
        models.append(weights(model))
    assert torch.equal(*models)


def test_randomness_in_the_network_depends_on_the_seed_alone(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
            return nn.functional.dropout(fields * self.weight, 0.5, self.training)

    found = []
    for count in (0, 5):
        torch.rand(count)  # what the process drew before must not matter
        (tmp_path / str(count)).mkdir()
        network = Noisy()
        fit_network(
            network,
            lambda examples, inputs: (inputs["source"][:, None], inputs["k11"][:, None]),
            ("solution",),
            TRAIN,
            VALIDATION,
            Budget(2, None, 4),
            TRIAL,
            FitContext(tmp_path / str(count)),
        )
        found.append(network.weight.item())
    assert found[0] == found[1]


def test_seeds_ranks_and_steps_draw_numbers_of_their_own() -> None:
    """Torch's generator for a CPU takes the last 32 bits of a seed."""
    drawn = set()
    for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (5, 0, 0), (2**40, 0, 0), (-1, 0, 0)):
        generator = torch.Generator().manual_seed(mixed_seed(*numbers))
        drawn.add(tuple(torch.rand(3, generator=generator).tolist()))
    assert len(drawn) == 7


def test_a_batch_in_parts_trains_as_a_whole_one(tmp_path: Path) -> None:
    whole, report = fitted(tmp_path / "a", Budget(4, None, 10))
    parts, other = fitted(tmp_path / "b", Budget(4, None, 10), micro_batch=3)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-4, atol=1e-6)
    for mine, theirs in zip(other.history, report.history, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)


def test_a_budget_of_steps_is_kept_exactly(tmp_path: Path) -> None:
    _, report = fitted(tmp_path / "a", Budget(None, 7, 4))
    assert (report.steps, report.epochs) == (7, 3)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_killed_fit_ends_where_an_undisturbed_one_does(tmp_path: Path, stop_at: int) -> None:
    budget = Budget(5, None, 4)
    undisturbed, whole = fitted(tmp_path / "a", budget)

    def stop(progress: Progress) -> None:
        if progress.done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "b", budget, save_interval=0, progress=stop)
    assert (tmp_path / "b" / "resume.pt").exists()
    model, report = fitted(tmp_path / "b", budget)
    assert torch.equal(weights(model), weights(undisturbed))
    assert report.best_epoch == whole.best_epoch
    assert report.history == whole.history


def test_a_resumed_fit_does_not_start_again(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "a", Budget(5, None, 10), save_interval=0, progress=stop)
    fitted(tmp_path / "a", Budget(5, None, 10), progress=lambda progress: seen.append(progress.done))
    assert seen[0] >= 3


def test_several_fits_of_a_trial_do_not_go_on_from_each_others_states(tmp_path: Path) -> None:
    budgets = [Budget(3, None, 4), Budget(2, None, 5)]

    def both(folder: Path, context: FitContext | None = None) -> Toy:
        folder.mkdir(exist_ok=True)
        model = untrained()
        for number, budget in enumerate(budgets):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            fit(model, budget, context or FitContext(own), save_interval=0)
        return model

    def stop(progress: Progress) -> None:
        stops.append(progress.done)
        if len(stops) == 4:  # in the second fit's first epoch
            raise KeyboardInterrupt

    expected, stops = weights(both(tmp_path / "a")), []
    (tmp_path / "b").mkdir()
    assert torch.equal(weights(both(tmp_path / "b", FitContext(tmp_path / "b"))), expected)
    (tmp_path / "c").mkdir()
    with pytest.raises(KeyboardInterrupt):
        both(tmp_path / "c", FitContext(tmp_path / "c", progress=stop))
    assert torch.equal(weights(both(tmp_path / "c", FitContext(tmp_path / "c"))), expected)
    model, _ = fitted(tmp_path / "c", Budget(2, None, 5))  # one that comes first now, and was not there before
    other, _ = fitted(tmp_path / "d", Budget(2, None, 5))
    assert torch.equal(weights(model), weights(other))


def test_a_torn_resume_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "resume.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    model, _ = fitted(tmp_path, Budget(2, None, 4))
    other, _ = fitted(tmp_path / "b", Budget(2, None, 4))
    assert torch.equal(weights(model), weights(other))


def test_one_flipped_bit_in_a_resume_file_is_found(tmp_path: Path) -> None:
    file = ResumeFile(tmp_path / "resume.pt")
    file.write({"weights": torch.zeros(1000)})
    assert file.read() is not None
    data = bytearray((tmp_path / "resume.pt").read_bytes())
    data[len(data) // 2] ^= 0x40
    (tmp_path / "resume.pt").write_bytes(data)
    assert file.read() is None


def test_a_resume_file_of_another_version_is_ignored(tmp_path: Path) -> None:
    torch.save({"state": {"step": 3}, "weights": [], "best": []}, tmp_path / "resume.pt")
    model, report = fitted(tmp_path, Budget(2, None, 4))
    other, expected = fitted(tmp_path / "b", Budget(2, None, 4))
    assert torch.equal(weights(model), weights(other))
    assert report.steps == expected.steps


class _Explodes(nn.Module):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls, self.at = 0, at

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        self.calls += self.training
        return fields * self.weight * (math.inf if self.calls >= self.at else 1.0)


def three_steps(network: nn.Module, folder: Path) -> FitReport:
    """Three epochs of one step."""
    return fit_network(
        network,
        lambda examples, inputs: (inputs["source"][:, None], inputs["k11"][:, None]),
        ("solution",),
        TRAIN,
        VALIDATION,
        Budget(3, None, 10),
        TRIAL,
        FitContext(folder),
    )


@pytest.mark.parametrize("at", [1, 2])
def test_a_loss_that_is_not_finite_ends_the_fit_as_diverged(tmp_path: Path, at: int) -> None:
    report = three_steps(_Explodes(at), tmp_path)
    assert report.status == "diverged"
    assert f"at step {at}" in report.reason
    assert report.epochs == at


def test_a_fit_that_diverges_in_validation_alone_has_no_epoch_more_than_it_was_given(tmp_path: Path) -> None:
    class Validates(_Explodes):
        def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
            return fields * self.weight * (1.0 if self.training else math.inf)

    report = three_steps(Validates(0), tmp_path)
    assert (report.status, report.epochs, report.steps) == ("diverged", 3, 3)


def test_the_precision_of_training_is_named_and_evaluation_stays_float32(tmp_path: Path) -> None:
    plain, _ = fitted(tmp_path / "a", Budget(3, None, 4))
    exact, _ = fitted(tmp_path / "b", Budget(3, None, 4), precision="float64")
    rough, _ = fitted(tmp_path / "c", Budget(3, None, 4), precision="bfloat16")
    assert next(exact.network.parameters()).dtype == torch.float32
    torch.testing.assert_close(weights(exact), weights(plain), rtol=1e-3, atol=1e-5)
    assert not torch.equal(weights(rough), weights(plain))
    with pytest.raises(UsageError, match="precision must be one of"):
        fitted(tmp_path / "d", Budget(1, None, 4), precision="int8")


def test_a_recipe_that_is_the_common_rule_changes_nothing(tmp_path: Path) -> None:
    common, _ = fitted(tmp_path / "common", Budget(3, None, 4))
    model = untrained()
    recipe = Recipe(
        [{"params": list(model.network.parameters()), "factor": 1.0}],
        lambda groups: torch.optim.Adam(groups, fused=True),
        lambda done, validated: 0.5 * (1 + math.cos(math.pi * done)),
        lambda prediction, target: (prediction - target).square().sum((1, 2, 3)),
    )
    fit_by(model, recipe, tmp_path / "recipe")
    torch.testing.assert_close(weights(model), weights(common), rtol=1e-5, atol=1e-7)


def test_a_recipe_sets_groups_decay_loss_and_clipping(tmp_path: Path) -> None:
    model = untrained()
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    seen: list[list[float]] = []

    def schedule(done: float, validated: Sequence[float]) -> float:
        seen.append(list(validated))
        return 1.0

    groups = [
        {"params": [model.network.get_parameter("lift.weight")], "factor": 1.0, "weight_decay": 0.0},
        {"params": [model.network.get_parameter("lift.bias")], "factor": 0.5, "weight_decay": 0.0},
    ]
    recipe = Recipe(groups, torch.optim.SGD, schedule, lambda p, t: 1e6 * (p - t).abs().mean((1, 2, 3)), clip=1e-3)
    report = fit_by(model, recipe, tmp_path / "recipe")
    moved = {name: float((p.detach() - before[name]).norm()) for name, p in model.network.named_parameters()}
    assert moved["project.weight"] == moved["project.bias"] == 0
    assert 0 < moved["lift.weight"] <= report.steps * 1e-2 * 1e-3
    assert 0 < moved["lift.bias"] <= report.steps * 0.5e-2 * 1e-3
    assert [len(validated) for validated in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def fit_by(model: Toy, recipe: Recipe, folder: Path) -> FitReport:
    folder.mkdir()
    normalise = InputNormalisation.fit(PROBLEM, TRAIN)
    return fit_network(
        model.network,
        lambda examples, inputs: normalise(PROBLEM, inputs),
        ("solution",),
        TRAIN,
        VALIDATION,
        Budget(3, None, 4),
        TRIAL,
        FitContext(folder),
        recipe=recipe,
    )
