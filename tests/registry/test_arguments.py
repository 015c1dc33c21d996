"""Arguments of a factory: plain data for the identity, Python values for the call."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pdebench_fm.errors import PluginError, SettingError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Split
from pdebench_fm.plan.model import model_spec
from pdebench_fm.registry.arguments import Written, bind, call, plain
from pdebench_fm.registry.discovery import Registry
from tests.support.toy import Toy

if TYPE_CHECKING:
    from decimal import Decimal


class Typed:
    """Keeps what it is called with."""

    def __init__(
        self,
        ends: tuple[float, float],
        sizes: tuple[int, ...] = (1, 2),
        kind: Literal["a", "b"] = "a",
        named: Mapping[str, tuple[int, int]] | None = None,
        untyped=(1, 2),  # type: ignore[no-untyped-def]
    ) -> None:
        self.given = (ends, sizes, kind, named, untyped)


def test_the_identity_is_plain_data_and_the_call_has_the_types_of_the_annotations() -> None:
    bound = bind(Typed, {"ends": [1, 5], "named": {"x": [1, 2]}})
    assert bound == {"ends": [1.0, 5.0], "sizes": [1, 2], "kind": "a", "named": {"x": [1, 2]}, "untyped": [1, 2]}
    assert call(Typed, bound).given == ((1.0, 5.0), (1, 2), "a", {"x": (1, 2)}, [1, 2])
    assert bind(Typed, bound) == bound


def test_arguments_of_a_model_arrive_as_annotated() -> None:
    class Shaped(Toy):
        def __init__(self, widths: tuple[int, ...] = (4, 4)) -> None:
            super().__init__(hash(widths) and widths[0])

    found = Registry([]).with_model(ModelEntry("shaped", "1", Shaped, ""))
    spec = model_spec(found, "shaped", {"widths": [3, 5]})
    assert spec.arguments == {"widths": [3, 5]}
    made = spec.make(found)
    assert isinstance(made, Shaped)
    assert made.width == 3


def of_decimals(step: Decimal, *, data_seed: int) -> None: ...
def reserved_decimal(step: int, *, data_seed: Decimal) -> Decimal | None: ...
def of_objects(step: Registry) -> None: ...
def of_nonsense(step: int.nothing) -> None: ...  # type: ignore[name-defined]
def of_splits(split: Split = "test") -> None: ...
def of_names(names: frozenset[str] = frozenset()) -> None: ...
def of_sets(names: dict[str, list[set[int]]]) -> None: ...


@pytest.mark.parametrize(("factory", "value"), [(of_names, ["a", "b"]), (of_sets, {"a": [[1, 2]]})])
def test_a_set_is_refused_because_it_has_no_order(factory: Any, value: object) -> None:
    with pytest.raises(PluginError, match="parameter 'names': a set"):
        bind(factory, {"names": value})


@pytest.mark.parametrize("factory", [of_decimals, functools.partial(of_decimals, data_seed=3), of_objects, of_nonsense])
def test_an_annotation_that_cannot_be_used_is_one_line(factory: Any) -> None:
    with pytest.raises(PluginError, match=r"^[^\n]*parameter 'step'[^\n]*TYPE_CHECKING[^\n]*$"):
        bind(factory, {"step": 1}, reserved=("data_seed",))


def test_a_name_that_is_no_text_is_one_line() -> None:
    given: Any = {1: "test"}
    with pytest.raises(SettingError, match="1: unknown setting"):
        bind(of_splits, given)


def test_only_annotations_of_settings_are_looked_at() -> None:
    assert bind(reserved_decimal, {"step": 1}, reserved=("data_seed",)) == {"step": 1}


def test_what_a_factory_was_called_with_is_plain_data_again() -> None:
    def make(widths: tuple[int, ...], path: Path) -> None: ...

    assert plain(make, {"widths": (4, 2), "path": Path("a/b")}) == {"widths": [4, 2], "path": "a/b"}


@pytest.mark.parametrize("text", ["12345", "01", "1e5", "1.50", "true", "null", "Infinity", "[8]", '{"a": 1}', "debug"])
def test_what_a_user_wrote_is_the_text_where_the_parameter_is_one(text: str) -> None:
    def make(account: str, path: Path, kind: Literal["12345", "debug"] = "debug") -> None: ...

    given = {"account": Written(text), "path": Written(text)}
    assert bind(make, given) == {"account": text, "path": text, "kind": "debug"}
    assert bind(make, {**given, "kind": Written("12345")})["kind"] == "12345"
    with pytest.raises(SettingError, match="account: must be text, got 5"):
        bind(make, {**given, "account": 5})  # not written, but of a program


REFUSED = object()


@pytest.mark.parametrize(
    ("text", "whole", "number", "untyped", "either"),
    [
        ("8", 8, 8.0, 8, 8.0),
        ("1e3", REFUSED, 1000.0, 1000.0, 1000.0),
        ("true", REFUSED, REFUSED, True, "true"),
        ("null", REFUSED, REFUSED, None, None),
        ('"8"', REFUSED, REFUSED, "8", "8"),
        ("wide", REFUSED, REFUSED, "wide", "wide"),
        ("[1, 2]", REFUSED, REFUSED, [1, 2], "[1, 2]"),
        ("NaN", REFUSED, REFUSED, REFUSED, "NaN"),
    ],
)
def test_what_a_user_wrote_is_json_where_the_parameter_takes_that(
    text: str, whole: object, number: object, untyped: object, either: object
) -> None:
    def make(whole: int, number: float, untyped, either: float | str | None) -> None: ...  # type: ignore[no-untyped-def]

    for name, value in {"whole": whole, "number": number, "untyped": untyped, "either": either}.items():
        if value is REFUSED:
            with pytest.raises(SettingError, match=f"{name}: must be (a whole number|a number|finite), got"):
                bind(make, {name: Written(text)}, complete=False)
        else:
            bound = bind(make, {name: Written(text)}, complete=False)[name]
            assert (bound, type(bound)) == (value, type(value))


def test_names_imported_by_the_module_are_found() -> None:
    assert bind(of_splits, {}) == {"split": "test"}
    with pytest.raises(SettingError, match="split: unknown value 'rest'"):
        bind(of_splits, {"split": "rest"})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_numbers_must_be_finite(number: object) -> None:
    def make(rate: float = 0.1, rates: tuple[float, ...] = (), untyped=0.1) -> None:  # type: ignore[no-untyped-def]
        pass

    name = "rates" if isinstance(number, list) else "rate"
    for argument in (name, "untyped"):
        with pytest.raises(SettingError, match=f"{argument}: must be finite, got"):
            bind(make, {argument: number})
