"""Checks of a protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import Any

from pdebench_fm.errors import PLUGIN_ERRORS, PluginError
from pdebench_fm.interfaces import (
    Budget,
    FitContext,
    FitReport,
    OperatorModel,
    TransferProtocol,
    TrialSettings,
)
from pdebench_fm.plan.protocol import protocol_spec
from pdebench_fm.plan.search import check_space
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry import registry
from pdebench_fm.registry.calling import call_plugin, refusal_reason
from pdebench_fm.testing.claims import (
    Check,
    Skipped,
    claims,
    expect,
    expect_close,
    parametrised,
)
from pdebench_fm.testing.examples import SmoothExamples
from pdebench_fm.testing.model_subject import ROUNDING, change, model_subject, predict

_PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(16))
_RATES = (1e-3, 3e-3)
_BUDGET = Budget(None, 4, 4)


def protocol_checks(
    name: str,
    *,
    model: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered protocol.

    Args:
        name: the protocol.
        model: a registered model to adapt, for a protocol that refuses a small convolutional network.
        arguments: overrides of the model's arguments, e.g. its checkpoint.
        expected_failures: claim → reason; such a check must fail, and is shown with its reason.
    """
    return parametrised(lambda: protocol_subject(name, model, arguments), PROTOCOL_CHECKS, expected_failures)


def checks_of_protocol(
    name: str, *, model: str | None = None, arguments: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered protocol; arguments as for `protocol_checks`.

    Raises:
        UnknownNameError: it, or the model, is not registered.
        SettingError: an argument of the model is unknown or wrong.
        PluginError: it cannot be made.
    """
    return claims(PROTOCOL_CHECKS, protocol_subject(name, model, arguments))


def protocol_subject(
    name: str, model: str | None = None, arguments: Mapping[str, Any] | None = None
) -> ProtocolSubject:
    """Make a protocol and settle what it adapts; errors as for `checks_of_protocol`."""
    found = registry()
    spec = protocol_spec(found, name, {})
    protocol = call_plugin(f"protocol {name!r} cannot be made", lambda: spec.make(found))
    if model is None:
        return ProtocolSubject(protocol)
    subject = model_subject(model, arguments or {}, found)
    return ProtocolSubject(protocol, subject.new, subject.problem)


def small_network() -> OperatorModel:
    """Return a network of three convolutions, made for these checks."""
    from torch import Tensor, nn

    from pdebench_fm.training import NetworkModel, planes

    class Convolutions(nn.Module):
        def __init__(self, layers: nn.Sequential) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
            result: Tensor = self.layers(planes(fields, constants))
            return result

    class Small(NetworkModel):
        def build(self, problem: Problem) -> nn.Module:
            widths = [(len(problem.inputs), 6), (6, 6), (6, len(problem.outputs))]
            first, middle, last = (nn.Conv2d(*two, 3, padding=1, padding_mode="circular") for two in widths)
            return Convolutions(nn.Sequential(first, nn.Tanh(), middle, nn.Tanh(), last))

    return Small()


class ProtocolSubject:
    """A protocol under test, and the model it adapts, carried out as a run does."""

    def __init__(
        self,
        protocol: TransferProtocol,
        new: Callable[[], OperatorModel] = small_network,
        problem: Problem = _PROBLEM,
    ) -> None:
        self.protocol = protocol
        self.new = new
        self.train = SmoothExamples(problem, 8)
        self.unseen = SmoothExamples(problem, 4, seed=2)

    def accepts_the_model(self) -> None:
        """Skip a check if the protocol refuses the model tried."""
        reason = self.protocol.refuses(self.new())
        if reason is not None:
            raise Skipped(f"it refuses the model tried: {reason}; give --model NAME, one that it takes")

    @property
    def adapts(self) -> bool:
        """Whether it is scored at any number of examples above zero."""
        return any(size > 0 for size in self.protocol.sizes((4, 8)))

    @cached_property
    def space(self) -> Sequence[Mapping[str, float]]:
        """The hyperparameters to try."""
        return list(self.protocol.search_space(self.new(), _RATES))

    def started(self) -> OperatorModel:
        """The model as an arm finds it: pre-trained or initialised."""
        model = self.new()
        pretrained = self.protocol.starts_from == "pretrained"
        if pretrained and not model.learns_from_pretraining:
            model.release(self.train.problem, self.train, 0)
            return model
        model.initialise(self.train.problem, self.train, 0)
        if pretrained:
            other = SmoothExamples(self.train.problem, 8, seed=1)
            with tempfile.TemporaryDirectory() as folder:
                trial = TrialSettings(model.search_space(_RATES)[0], 0)
                model.fit(other, other, _BUDGET, trial, FitContext(Path(folder)))
        return model

    def adapted(self) -> tuple[OperatorModel, FitReport]:
        """The model wrapped and adapted, with the last value of the search space."""
        self.accepts_the_model()
        if not self.adapts:
            raise Skipped("it is scored without examples only")
        try:
            check_space("the protocol", self.space)
        except PluginError:
            raise Skipped("nothing to try: see search space is plain numbers") from None
        model = self.protocol.wrap(self.started())
        if not isinstance(model, OperatorModel):
            raise Skipped("nothing to adapt: see wraps a model")
        with tempfile.TemporaryDirectory() as folder:
            trial, context = TrialSettings(self.space[-1], 0), FitContext(Path(folder))
            report = self.protocol.adapt(model, self.train, self.train, _BUDGET, trial, context)
        expect(report.status != "ok" or not trial.ignored, trial.ignored)
        return model, report

    def soundly_adapted(self) -> OperatorModel:
        """The adapted model; skips a check that would only repeat in other words that adapting fails."""
        try:
            model, report = self.adapted()
            sound = report.status == "ok"
        except PLUGIN_ERRORS as error:
            if isinstance(error, Skipped):
                raise
            sound = False
        if not sound:
            raise Skipped("nothing to compare: see adapts a model")
        return model


def check_sizes_are_counts(subject: ProtocolSubject) -> None:
    """Sizes are counts, at least one, that rise from 0 up."""
    protocol = subject.protocol
    sizes = list(protocol.sizes((8, 32)))
    counts = all(isinstance(size, Integral) and not isinstance(size, bool) and size >= 0 for size in sizes)
    rising = counts and sizes == sorted(set(sizes))
    expect(bool(sizes) and rising, f"sizes must be rising whole numbers from 0 up, at least one, got {sizes}")


def check_start_is_known(subject: ProtocolSubject) -> None:
    """It starts from the pre-trained or from an initialised model."""
    start = subject.protocol.starts_from
    known = ("pretrained", "initialised")
    expect(start in known, f"starts_from must be 'pretrained' or 'initialised', got {start!r}")


def check_refuses_says_why(subject: ProtocolSubject) -> None:
    """Asked whether it can use a model, whatever that declares, it answers None or gives a reason."""
    for learns, warm, scratch in product((True, False), repeat=3):
        declared = {"learns_from_pretraining": learns, "warm_starts": warm, "from_scratch": scratch}
        # A protocol decides by what a model declares: one that fits or predicts with it here has not asked but begun.
        nothing = dict.fromkeys(OperatorModel.__abstractmethods__)
        model = type("Unfitted", (OperatorModel,), {**nothing, **declared, "parameters": 0})()
        refusal_reason("the protocol: refuses", partial(subject.protocol.refuses, model))


def check_search_space_is_plain_numbers(subject: ProtocolSubject) -> None:
    """For a model without weights there is at least one trial, and each maps names to finite numbers."""
    subject.accepts_the_model()
    check_space("the protocol", subject.space)


def check_wraps_a_model(subject: ProtocolSubject) -> None:
    """`wrap` returns a model, which predicts every output, before any fit if it is scored without examples."""
    subject.accepts_the_model()
    model = subject.protocol.wrap(subject.started())
    expect(isinstance(model, OperatorModel), f"wrap must return an OperatorModel, got {type(model).__name__}")
    if 0 in subject.protocol.sizes((4, 8)):
        _expect_outputs(subject, model)


def check_adapts_a_model(subject: ProtocolSubject) -> None:
    """`adapt` ends well and reports, and the model then predicts other, finite numbers."""
    model, report = subject.adapted()
    expect(isinstance(report, FitReport), f"adapt must return a FitReport, got {type(report).__name__}")
    expect(report.status == "ok", f"adapt must end with status ok on smooth data, got {report.status}: {report.reason}")
    _expect_outputs(subject, model)
    before = predict(subject.started(), subject.unseen, range(4))
    by = change(predict(model, subject.unseen, range(4)), before)
    expect(by > ROUNDING, "predictions are those of the model before it was adapted")


def check_adapting_is_reproducible(subject: ProtocolSubject) -> None:
    """The same start, examples and trial give the same model."""
    first, second = subject.soundly_adapted(), subject.soundly_adapted()
    one, other = (predict(model, subject.unseen, range(4)) for model in (first, second))
    expect_close(one, other, "adapting twice gave two models")


def check_adapted_models_are_saved_and_loaded(subject: ProtocolSubject) -> None:
    """What was wrapped around a model without weights loads what an adapted one saved."""
    model = subject.soundly_adapted()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        loaded = subject.protocol.wrap(subject.new())
        loaded.load(Path(folder))
    expect(loaded.parameters == model.parameters, f"{model.parameters} parameters became {loaded.parameters}")
    one, other = (predict(made, subject.unseen, range(4)) for made in (model, loaded))
    expect_close(one, other, "saving changed the model")


def _expect_outputs(subject: ProtocolSubject, model: OperatorModel) -> None:
    outputs = predict(model, subject.unseen, range(4))
    for name, value in subject.unseen.batch(range(4))[1].items():
        expect(name in outputs, f"the model must predict {name!r}, got {sorted(outputs)}")
        found = outputs[name]
        expect(found.shape == value.shape, f"{name} must be {tuple(value.shape)}, got {tuple(found.shape)}")
        expect(bool(found.isfinite().all()), f"{name} must be finite")


PROTOCOL_CHECKS: tuple[Callable[[ProtocolSubject], None], ...] = (
    check_sizes_are_counts,
    check_start_is_known,
    check_refuses_says_why,
    check_search_space_is_plain_numbers,
    check_wraps_a_model,
    check_adapts_a_model,
    check_adapting_is_reproducible,
    check_adapted_models_are_saved_and_loaded,
)
