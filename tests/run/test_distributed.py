"""Two processes on the CPU train as one."""

from __future__ import annotations

import json
import multiprocessing
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pdebench_fm.errors import RunError
from pdebench_fm.interfaces import Budget, FitContext, FitReport, Trial
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.run.distributed import Group, gathered
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import fit_network
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8))


def fit(folder: Path, group: Group, batch_size: int = 5) -> tuple[Toy, FitReport]:
    """50 steps, the last of every epoch on a single example; each fit has a workspace of its own."""
    workspace = folder / f"{batch_size} of {group.count}"
    workspace.mkdir(exist_ok=True)  # a fit that takes seconds, on a busy machine, leaves its state there
    train, validation = SmoothExamples(PROBLEM, 11), SmoothExamples(PROBLEM, 7, seed=1)
    model = Toy()
    model.initialise(PROBLEM, train, 0)
    context = FitContext(workspace, rank=group.rank, ranks=group.count)
    budget = Budget(None, 50, batch_size, ())
    return model, model.fit(train, validation, budget, Trial({"learning_rate": 1e-2}, seed=3), context)


def follow(folder: Path, group: Group, device: str) -> None:
    while (word := group.hear()) is not None:
        model, report = fit(folder, group, int(word))
        weights = [p.tolist() for p in model.module.parameters()]
        (folder / f"follower-{word}.json").write_text(json.dumps([report.best_epoch, weights]))


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    with gathered(2, "cpu", 1, partial(follow, tmp_path)) as group:
        together = []
        for batch_size in (5, 1):  # with one example a step the other process has nothing to add
            group.announce(str(batch_size))
            together.append(fit(tmp_path, group, batch_size))
    for batch_size, (model, report) in zip((5, 1), together, strict=True):
        alone, expected = fit(tmp_path, Group(0, 1), batch_size)
        assert report.best_epoch == expected.best_epoch
        for mine, one in zip(report.history, expected.history, strict=True):
            assert mine["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        pairs = zip(model.module.parameters(), alone.module.parameters(), strict=True)
        for mine, other in pairs:
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)
        best, weights = json.loads((tmp_path / f"follower-{batch_size}.json").read_text())
        assert best == report.best_epoch
        assert weights == [p.tolist() for p in model.module.parameters()]  # to the bit


class Branching(nn.Module):
    """A part of it is needed by some examples alone, and it keeps a mean of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.rarely = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.complex64))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * fields.mean()
        rare = constants[:, :1] > 1.3
        found: Tensor = self.always(fields)
        if rare.any():
            found = found + self.rarely(fields) * rare[:, :, None, None]
        return found


def branching(folder: Path, group: Group) -> dict[str, list[float]]:
    workspace = folder / f"branching of {group.count}"
    workspace.mkdir(exist_ok=True)
    torch.manual_seed(0)
    network, train = Branching(), SmoothExamples(PROBLEM, 12)
    fit_network(
        network,
        lambda examples, inputs: (inputs["source"][:, None], inputs["k11"][:, None]),
        ("solution",),
        train,
        SmoothExamples(PROBLEM, 7, seed=1),
        Budget(None, 40, 2, ()),
        Trial({"learning_rate": 1e-1}, seed=3),
        FitContext(workspace, rank=group.rank, ranks=group.count),
    )
    return {name: torch.view_as_real(value + 0j).flatten().tolist() for name, value in network.state_dict().items()}


def follow_branching(folder: Path, group: Group, device: str) -> None:
    while group.hear() is not None:
        (folder / "follower.json").write_text(json.dumps(branching(folder, group)))


def test_what_no_example_of_a_batch_needs_is_left_alone_and_buffers_are_the_same_in_both(tmp_path: Path) -> None:
    with gathered(2, "cpu", 1, partial(follow_branching, tmp_path)) as group:
        group.announce("")
        together = branching(tmp_path, group)
    assert json.loads((tmp_path / "follower.json").read_text()) == together
    alone = branching(tmp_path, Group(0, 1))
    for name in together.keys() - {"seen"}:  # a mean over one's own examples differs
        assert together[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5)
    constants = SmoothExamples(PROBLEM, 12).batch(range(12))[0]["k11"]
    assert 0 < int((constants > 1.3).sum()) < 6  # some batches have none that needs it


def test_a_follower_that_cannot_start_is_told_at_once() -> None:
    with pytest.raises(RunError, match="ended with exit code"), gathered(2, "cpu", 1, _unpicklable_there):
        pass


def test_a_follower_whose_fit_breaks_off_leaves_a_line_and_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with suppress(RunError), gathered(2, "cpu", 1, _break_off) as group:  # whether it is noticed is a race
        group.announce("a trial")
    assert capfd.readouterr().err == "pdefm: a trial: no room\n"


def _break_off(group: Group, device: str) -> None:
    raise RunError(f"{group.hear()}: no room")


def test_a_follower_that_does_not_end_is_ended_when_all_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdebench_fm.run.distributed._PARTING", 0.2)
    with gathered(2, "cpu", 1, _stay):
        pass
    assert not multiprocessing.active_children()


def _stay(group: Group, device: str) -> None:
    assert group.hear() is None
    time.sleep(600)


class _Unreadable:
    """Can be pickled, but not read back."""

    def __call__(self, group: Group, device: str) -> None:
        raise AssertionError

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("no number",)


_unpicklable_there = _Unreadable()
