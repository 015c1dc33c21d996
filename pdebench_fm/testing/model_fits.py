"""Checks of what a model learns and keeps."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from pdebench_fm.interfaces import Budget, Examples, OperatorModel, Progress
from pdebench_fm.problem import Channel
from pdebench_fm.testing.claims import TOLERANCE, Skipped, expect, expect_close
from pdebench_fm.testing.examples import SmoothExamples
from pdebench_fm.testing.model_subject import FITTED, ROUNDING, ModelSubject, change, moved, predict

_STEPS = Budget(None, 3, 4)
_ONE_MORE = Channel("one_more", "constant")


def check_fits_and_reports(subject: ModelSubject) -> None:
    """A short fit ends well, its report is plain, and the model predicts finite numbers afterwards."""
    model, data, report = subject.fitted
    expect(
        report.status == "ok",
        f"a short fit on smooth data must end with status ok, got {report.status}: {report.reason}",
    )
    counts = (report.epochs, report.steps, report.train_seconds, report.data_seconds)
    expect(all(np.isfinite(count) and count >= 0 for count in counts), f"a report's counts must be >= 0, got {counts}")
    expect(
        isinstance(model.parameters, int) and model.parameters >= 0,
        f"parameters must be a count, got {model.parameters!r}",
    )
    finite = all(bool(value.isfinite().all()) for value in predict(model, data, range(2)).values())
    expect(finite, "predictions must be finite after a fit")


def check_predicts_the_same_twice(subject: ModelSubject) -> None:
    """Once fitted, the same inputs give the same prediction."""
    model, data, _ = subject.fitted
    first, again = predict(model, data, range(2)), predict(model, data, range(2))
    if not all(bool(value.isfinite().all()) for value in first.values()):
        raise Skipped("nothing to compare: see fits and reports")
    expect(change(again, first) <= TOLERANCE, "two predictions of the same inputs differ: what is random in training, "
           "such as dropout, must be off in evaluation (self.training)")  # fmt: skip


def check_predicts_each_example_alone(subject: ModelSubject) -> None:
    """An example's prediction does not depend on the batch it comes in."""
    model, data = subject.soundly_fitted()
    together = predict(model, data, range(4))
    for i in range(4):
        alone = predict(model, data, [i])
        expect_close({n: v[i : i + 1] for n, v in together.items()}, alone, "a prediction depends on its batch")


def check_fits_by_steps(subject: ModelSubject) -> None:
    """A budget may be given in steps instead of epochs, and the last batch may be a single example."""
    subject.soundly_fitted()
    model, _ = subject.ready()
    report = subject.fit(model, SmoothExamples(subject.problem, 5), budget=_STEPS)
    expect(report.status == "ok", f"a fit of {_STEPS.steps} steps must end with status ok, got {report.status}")


def check_uses_its_inputs(subject: ModelSubject) -> None:
    """Once fitted, predictions change if examples exchange an input field."""
    model, data = subject.soundly_fitted()
    if model.ignores_inputs:
        raise Skipped("it declares ignores_inputs = True")
    for name in data.problem.input_fields:
        by = moved(model, data, [name])
        expect(by > ROUNDING, f"predictions change by {by:.0e} of their size when examples exchange {name!r}: "
               "the model ignores it")  # fmt: skip


def check_sees_its_constants(subject: ModelSubject) -> None:
    """Once fitted, predictions change if examples exchange their constants."""
    if not subject.problem.constants:
        raise Skipped("it was checked on a problem without constants")
    model, data = subject.soundly_fitted()
    _needs_inputs(model, data)
    by = moved(model, data, data.problem.constants)
    expect(by > ROUNDING, f"predictions change by {by:.0e} of their size when examples exchange their constants: the "
           "model does not see them (e.g. a normalisation removes what is constant in space)")  # fmt: skip


def check_learns(subject: ModelSubject) -> None:
    """A long fit to four examples makes the error on them smaller."""
    _needs_to_learn(subject)
    found = subject.long_fit
    expect(found.learns, f"after a long fit to four examples the relative error on them is {found.after:.3g}, before "
           f"it was {found.before:.3g}: the model learns nothing")  # fmt: skip


def check_fits_one_batch(subject: ModelSubject) -> None:
    """A long fit to four examples brings the error on them well below that of their mean."""
    _needs_to_learn(subject)
    found = subject.long_fit
    if not found.learns:
        raise Skipped("it learns nothing: see learns")
    expect(found.fits, f"after a long fit to four examples the relative error on them is {found.after:.3g} at best; "
           f"it must be below {FITTED:g} of {found.mean:.3g}, that of their mean")  # fmt: skip


def check_takes_a_part_of_its_problem(subject: ModelSubject) -> None:
    """Made for one input more, as by a mixture of PDEs, it predicts without it, and is fitted further if it can be."""
    if not subject.new().learns_from_pretraining:
        raise Skipped("it declares learns_from_pretraining = False")
    subject.soundly_fitted()
    whole = replace(subject.problem, inputs=(*subject.problem.inputs, _ONE_MORE))
    model = subject.new()
    reason = model.supports(whole)
    if reason is not None:
        raise Skipped(f"one more constant is not supported: {reason}")
    model.initialise(whole, SmoothExamples(whole, 8), 0)
    data = SmoothExamples(subject.problem, 8)
    report = subject.fit(model, data if model.warm_starts else SmoothExamples(whole, 8))
    expect(report.status == "ok", f"a fit to a part of the problem must end with status ok, got {report.status}")
    finite = all(bool(value.isfinite().all()) for value in predict(model, data, range(2)).values())
    expect(finite, "predictions on a part of the problem must be finite")


def check_fit_is_reproducible(subject: ModelSubject) -> None:
    """Same start, data, budget and trial: same model."""
    (first, data), (second, _) = subject.soundly_fitted(), subject.ready()
    subject.fit(second, data)
    expect_close(predict(first, data, range(2)), predict(second, data, range(2)), "one fit gave two models")


def check_saves_and_loads(subject: ModelSubject) -> None:
    """A loaded model predicts what the saved one did, and has as many parameters."""
    model, data = subject.soundly_fitted()
    with tempfile.TemporaryDirectory() as folder:
        loaded = subject.reloaded(model, Path(folder) / "saved")
        expect(loaded.parameters == model.parameters, f"{model.parameters} parameters became {loaded.parameters}")
        expect_close(predict(model, data, range(2)), predict(loaded, data, range(2)), "saving changed the model")


def check_continues_after_loading(subject: ModelSubject) -> None:
    """A model that declares warm_starts can be fitted further after loading, and ends elsewhere than one that begins.

    Otherwise its fine-tuning would be training from scratch under another name.
    """
    if not subject.new().warm_starts:
        raise Skipped("it declares warm_starts = False")
    (beginner, data), (model, _) = subject.soundly_fitted(), subject.ready()
    subject.fit(model, SmoothExamples(data.problem, 8, seed=2))
    with tempfile.TemporaryDirectory() as folder:
        loaded = subject.reloaded(model, Path(folder) / "saved")
        report = subject.fit(loaded, data)
    expect(report.status == "ok", f"a loaded model must fit further, got {report.status}: {report.reason}")
    unseen = SmoothExamples(data.problem, 4, seed=3)  # the seen ones may be met by many weights
    _needs_inputs(beginner, unseen)
    if not subject.long_fit.learns:
        raise Skipped("it learns nothing: see learns")
    by = change(predict(loaded, unseen, range(4)), predict(beginner, unseen, range(4)))
    expect(not by <= ROUNDING, "it declares warm_starts, but a fit forgets what was learnt before")


def check_a_killed_fit_can_be_repeated(subject: ModelSubject) -> None:
    """A fit stopped half-way and called again with the same workspace ends with the weights of an undisturbed one."""
    (undisturbed, data), (killed, _) = subject.soundly_fitted(), subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        try:
            subject.fit(killed, data, Path(folder), progress=_stop)
        except KeyboardInterrupt:
            killed, _ = subject.ready()
            subject.fit(killed, data, Path(folder))
        else:
            raise Skipped("it reports no progress, so that nothing stops it half-way")
    expect_close(predict(undisturbed, data, range(2)), predict(killed, data, range(2)), "a repeated fit differs")


def check_leaves_frozen_weights_alone(subject: ModelSubject) -> None:
    """A model that declares has_network gives a torch network, and a fit trains no weight that needs no gradient."""
    from torch import nn

    subject.soundly_fitted()
    model, data = subject.ready()
    network = model.network
    if not model.has_network:
        expect(network is None, "it has a network but declares has_network = False: protocols such as LoRA refuse it")
        raise Skipped("it declares has_network = False")
    expect(isinstance(network, nn.Module), f"network must be a torch.nn.Module, got {type(network).__name__}")
    assert network is not None
    weights = dict(network.named_parameters())
    if len(weights) < 2:
        raise Skipped("its network has fewer than two weights")
    name, frozen = next(iter(weights.items()))
    frozen.requires_grad_(False)
    before = frozen.detach().clone()
    subject.fit(model, data)
    assert model.network is not None
    expect(dict(model.network.named_parameters())[name].equal(before), f"a fit changed {name}, which was frozen")


def _needs_inputs(model: OperatorModel, data: Examples) -> None:
    """Skip a check that would only repeat that a model ignores its inputs."""
    if moved(model, data, data.problem.input_names) < ROUNDING:
        raise Skipped("its predictions depend on no input: see uses its inputs")


def _needs_to_learn(subject: ModelSubject) -> None:
    """Skip a check of what a model learns if there is nothing it could learn from."""
    if subject.new().ignores_inputs:
        raise Skipped("it declares ignores_inputs = True")
    _needs_inputs(*subject.soundly_fitted())


def _stop(progress: Progress) -> None:
    raise KeyboardInterrupt
