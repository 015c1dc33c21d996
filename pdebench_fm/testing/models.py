"""Checks of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pdebench_fm.plan.search import check_space
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry import Registry
from pdebench_fm.testing import model_fits as fits
from pdebench_fm.testing.claims import Check, claims, expect, expect_close, parametrised
from pdebench_fm.testing.model_subject import ModelSubject, model_subject, predict

_RATES = (1e-3, 3e-3)


def model_checks(
    name: str,
    found: Registry | None = None,
    *,
    problem: Problem | str | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: runs the test once for each check of the registered model ``name``.

    Args:
        name: the model.
        found: where it is registered; everything installed by default.
        problem: what to check it on, for a model that takes channels of its own: a problem, or the distribution
            ``SUITE:NAME`` that has it. Only channels and grid are taken from there; values are smooth random ones.
        expected_failures: claim → reason; such a check must fail, and is shown with its reason.
        arguments: overrides of the model's arguments, e.g. a small width.
    """
    return parametrised(lambda: model_subject(name, arguments, found, problem), MODEL_CHECKS, expected_failures)


def checks_of_model(
    name: str, found: Registry | None = None, *, problem: Problem | str | None = None, **arguments: Any
) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered model, on the first problem it supports; arguments as for `model_checks`.

    Raises:
        UnknownNameError: it is not registered.
        UnsupportedError: it supports none of the problems tried.
        PluginError: it cannot be made, or cannot say what it supports.
    """
    return claims(MODEL_CHECKS, model_subject(name, arguments, found, problem))


def check_declares_what_it_can(subject: ModelSubject) -> None:
    """Class attributes are booleans and `supports` answers None or a reason."""
    model = subject.new()
    for name in ("learns_from_pretraining", "warm_starts", "from_scratch", "has_network", "ignores_inputs"):
        expect(isinstance(getattr(model, name), bool), f"{name} must be True or False, got {getattr(model, name)!r}")
    odd = Problem((Channel("source"),), (Channel("solution"),), Grid(7))
    for problem in (subject.problem, odd):
        reason = model.supports(problem)
        expect(reason is None or (isinstance(reason, str) and reason.strip() != ""),
                f"supports must return None or a reason, got {reason!r}")  # fmt: skip


def check_search_space_is_plain_numbers(subject: ModelSubject) -> None:
    """There is at least one trial, and each is a mapping of names to finite numbers."""
    check_space(subject.spec.name, list(subject.new().search_space(_RATES)))


def check_predicts_every_output(subject: ModelSubject) -> None:
    """`predict` returns each output as finite float32 of the shape of the fields."""
    model, data = subject.ready()
    prediction = predict(model, data, range(3))
    size = data.problem.grid.size
    for name in data.problem.output_names:
        expect(name in prediction, f"predict must return {name!r}, got {sorted(prediction)}")
        value = prediction[name]
        expect(tuple(value.shape) == (3, size, size), f"{name} must be (3, {size}, {size}), got {tuple(value.shape)}")
        expect(str(value.dtype) == "torch.float32", f"{name} must be float32, got {value.dtype}")
        expect(bool(value.isfinite().all()), f"{name} must be finite")
        expect(not value.requires_grad, f"{name} must be detached from the graph")


def check_leaves_inputs_alone(subject: ModelSubject) -> None:
    """`predict` does not change its inputs."""
    model, data = subject.ready()
    inputs, _ = data.batch(range(3))
    before = {name: value.clone() for name, value in inputs.items()}
    model.predict(data.problem, inputs)
    changed = [name for name, value in inputs.items() if not value.equal(before[name])]
    expect(not changed, f"predict changed its inputs {', '.join(changed)}")


def check_seed_fixes_initialisation(subject: ModelSubject) -> None:
    """Two models initialised with one seed predict the same."""
    subject.soundly_fitted()
    (first, data), (second, _) = subject.ready(3), subject.ready(3)
    expect_close(predict(first, data, range(2)), predict(second, data, range(2)), "one seed gave two models")


def check_predicts_every_output_of_two(subject: ModelSubject) -> None:
    """`predict` keeps its claim on a problem of two input fields, no constants and two outputs."""
    check_predicts_every_output(subject.two_fields)


def check_leaves_two_inputs_alone(subject: ModelSubject) -> None:
    """It does the same with two input fields."""
    check_leaves_inputs_alone(subject.two_fields)


def check_uses_both_inputs(subject: ModelSubject) -> None:
    """It uses each of two input fields."""
    fits.check_uses_its_inputs(subject.two_fields)


def check_fits_two_outputs(subject: ModelSubject) -> None:
    """A short fit to two outputs ends well."""
    fits.check_fits_and_reports(subject.two_fields)


def check_saves_and_loads_two_outputs(subject: ModelSubject) -> None:
    """A model of two outputs predicts the same after loading."""
    fits.check_saves_and_loads(subject.two_fields)


MODEL_CHECKS: tuple[Callable[[ModelSubject], None], ...] = (
    check_declares_what_it_can,
    check_search_space_is_plain_numbers,
    check_predicts_every_output,
    fits.check_fits_and_reports,
    fits.check_predicts_the_same_twice,
    check_leaves_inputs_alone,
    fits.check_predicts_each_example_alone,
    check_seed_fixes_initialisation,
    fits.check_fits_by_steps,
    fits.check_uses_its_inputs,
    fits.check_sees_its_constants,
    fits.check_learns,
    fits.check_fits_one_batch,
    fits.check_takes_a_part_of_its_problem,
    fits.check_fit_is_reproducible,
    fits.check_saves_and_loads,
    fits.check_continues_after_loading,
    fits.check_a_killed_fit_can_be_repeated,
    fits.check_leaves_frozen_weights_alone,
    check_predicts_every_output_of_two,
    check_leaves_two_inputs_alone,
    check_uses_both_inputs,
    check_fits_two_outputs,
    check_saves_and_loads_two_outputs,
)
