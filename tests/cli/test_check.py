"""``pdefm check``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.plugins.released.tiny import tiny_poseidon
from tests.testing.conftest import distribution, installed

__all__ = ["distribution", "installed"]

REGRESSION = ("model", "mode-regression", "--set", "modes=3")


@pytest.mark.parametrize(
    "what", [REGRESSION, ("distribution", "smoke:SYS-3(1,5)"), ("metric", "pde_residual"), ("protocol", "fine-tune")]
)
def test_a_part_that_keeps_its_interface_gets_one_line_a_claim(call: Call, what: tuple[str, ...]) -> None:
    code, out, err = call("check", *what)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "has_network = False" not in line]
    assert all(line.endswith(": ok") for line in lines)
    code, out, _ = call("check", *what, "--json")
    assert code == 0
    found = json.loads(out)
    assert {claim for claim, said in found.items() if said} <= {"leaves_frozen_weights_alone"}


def test_what_does_not_apply_is_skipped_visibly(call: Call) -> None:
    code, out, _ = call("check", "model", "mean")
    assert code == 0
    assert "continues after loading: skipped: it declares warm_starts = False\n" in out
    code, out, _ = call("check", "model", "mean", "--json")
    assert code == 0
    assert json.loads(out)["continues_after_loading"] == {"skipped": "it declares warm_starts = False"}


def test_a_failure_is_named_and_ends_with_1(call: Call, distribution: Callable[[str], str]) -> None:
    reference = distribution("iterative")
    said = "the relative residual must be 1e-10 at most, got 1.00e-07"
    code, out, err = call("check", "distribution", reference)
    assert (code, err) == (1, "")
    assert f"solution solves the pde: failed: {said}\n" in out
    code, out, _ = call("check", "distribution", reference, "--json")
    assert code == 1
    assert {claim: text for claim, text in json.loads(out).items() if text} == {"solution_solves_the_pde": said}


@pytest.mark.parametrize("kind", ["metric", "protocol"])
def test_a_part_that_cannot_be_made_is_one_line(call: Call, installed: None, kind: str) -> None:
    code, out, err = call("check", kind, "unlucky")
    assert (code, out) == (1, "")
    assert err.startswith(f"pdefm: {kind} 'unlucky' cannot be made: ZeroDivisionError: no luck")


def test_a_model_is_checked_on_the_channels_of_a_distribution(
    call: Call, distribution: Callable[[str], str], tmp_path: Path
) -> None:
    code, out, err = call("check", *REGRESSION, "--distribution", distribution("good"))
    assert (code, err) == (0, "")
    assert "failed" not in out


def test_a_model_that_supports_no_problem_tried_is_told_to_name_one(call: Call) -> None:
    code, out, err = call("check", "model", "mode-regression", "--set", "modes=200")
    assert (code, out) == (2, "")
    assert err.startswith("pdefm: model 'mode-regression' supports none of the problems tried: wavenumbers up to 200")
    assert err.endswith("give --distribution SUITE:NAME, one whose channels it takes (in Python: problem=)\n")


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (("model", "uent"), "unknown model 'uent'; did you mean 'unet'?"),
        (("model", "unet", "--distribution", "smoke:SYS-9"), "unknown distribution 'SYS-9'; expected one of SYS-1("),
        (
            ("model", "unet", "--set", "problem=3"),
            "model unet: problem: unknown setting; expected one of levels, width",
        ),
        (("distribution", "smoek:SYS-1(1,5)"), "unknown suite 'smoek'; did you mean 'smoke'?"),
        (("distribution", "smoke:SYS-1(1,4)"), "unknown distribution 'SYS-1(1,4)'; did you mean 'SYS-1(1,5)'?"),
        (("metric", "pde_residual", "--set", "a=1"), "--set overrides an argument of a model: name it by --model"),
        (("metric", "pde_residual", "--model", "fno"), "--model is what a protocol adapts, and this is a metric"),
        (("distribution", "smoke"), "a distribution is given as SUITE:NAME"),
        (("metric", "pde_residuum"), "unknown metric 'pde_residuum'; did you mean 'pde_residual'?"),
        (("metric", "max_error", "--distribution", "smoke:SYS"), "unknown distribution 'SYS'"),
        (("protocol", "scrath"), "unknown protocol 'scrath'; did you mean 'scratch'?"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(call: Call, what: tuple[str, ...], line: str) -> None:
    code, out, err = call("check", *what)
    assert (code, out) == (2, "")
    assert err.startswith(f"pdefm: {line}")
    assert len(err.splitlines()) == 1


def test_a_model_that_ends_the_program_fails_its_checks_and_no_more(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_baselines.mode_regression import ModeRegression

    monkeypatch.setattr(ModeRegression, "fit", lambda *_: sys.exit("no licence"))
    code, out, err = call("check", *REGRESSION)
    assert (code, err) == (1, "")
    assert "fits and reports: failed: SystemExit: no licence (test_check.py:" in out
    assert out.count("no licence") == 1
    assert re.search(r"^\d more checks fail for the same reason$", out, re.MULTILINE)
    assert "saves and loads: skipped: nothing to compare: see fits and reports\n" in out


def test_a_protocol_for_released_models_is_checked_on_one_with_its_checkpoint(call: Call) -> None:
    arguments = ("check", "protocol", "fine-tune-native")
    given = ("--model", "poseidon", "--set", f"checkpoint={tiny_poseidon()}")
    code, out, err = call(*arguments, *given)
    assert (code, err) == (0, "")
    assert "adapts a model: ok\n" in out
    assert "adapted models are saved and loaded: ok\n" in out
    code, out, err = call(*arguments, *given[2:])
    assert (code, out) == (2, "")
    assert "--set overrides an argument of a model: name it by --model" in err
    code, _, err = call(*arguments, "--model", "poseidon", "--set", "checkpiont=x")
    assert code == 2
    assert "did you mean 'checkpoint'?" in err


def test_an_expected_failure_needs_a_reason_and_a_claim_and_must_fail(
    call: Call, distribution: Callable[[str], str]
) -> None:
    reference = distribution("iterative")
    code, out, _ = call("check", "distribution", reference, "--expect", "solution_solves_the_pde=stops early")
    assert code == 0
    assert "failed as expected: stops early" in out
    code, out, _ = call("check", "protocol", "fine-tune", "--expect", "start_is_known=why not")
    assert (code, "passed, but was expected to fail" in out) == (1, True)
    assert call("check", "protocol", "fine-tune", "--expect", "start_is_knwn=x")[0] == 2
