"""Names of models: a variant has one of its own, which is a file name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.errors import UsageError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.plan.model import model_spec, variant_name
from pdebench_fm.run.prepare import prepare
from tests.support.installed import with_toy
from tests.support.toy import Toy, toy_suite


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({}, "unet"),
        ({"width": 8}, "unet"),  # its own default
        ({"levels": 2, "width": 4}, "unet,width=4,levels=2"),
    ],
)
def test_what_differs_from_the_registered_model_is_in_the_name(overrides: dict[str, Any], name: str) -> None:
    assert model_spec(with_toy(), "unet", overrides).name == name


def test_a_member_of_a_family_is_compared_with_its_own_arguments() -> None:
    assert model_spec(with_toy(), "fno-64k", {"modes": 3}).name == "fno-64k,modes=3"


def test_a_library_that_is_missing_is_named_with_the_way_to_get_it() -> None:
    found = with_toy()
    found = found.with_entry("models", replace(found.get("models", "toy"), needs={"torch": "torch", "lost": "lost>=2"}))
    with pytest.raises(UsageError, match=r"^model toy: it needs lost, which is not installed: pip install 'lost>=2'$"):
        model_spec(found, "toy")


def test_texts_that_no_file_name_takes_do_not_collide() -> None:
    names = [variant_name("m", {"path": text}) for text in ("a/b", "a\\b", "a b", "a_b", "x" * 300, "x" * 301)]
    assert len(set(names)) == len(names)
    assert all(len(name) < 150 and "/" not in name and "\\" not in name and " " not in name for name in names)


def test_runs_that_differ_in_arguments_or_precision_have_folders_of_their_own(tmp_path: Path) -> None:
    def folder(**options: Any) -> str:
        (plan,) = prepare("toy", toy_suite(tmp_path), output=tmp_path, installed=with_toy(), **options)
        return plan.folder.name

    assert folder() == "toy"
    assert folder(arguments={"width": 2}) == "toy,width=2"
    assert folder(precision="bfloat16") == "toy,precision=bfloat16"


def test_a_long_name_is_cut_once(tmp_path: Path) -> None:
    class Described(Toy):
        def __init__(self, description: str = "") -> None:
            super().__init__()

    installed, long = with_toy().with_model(ModelEntry("described", "1", Described, "")), {"description": "a" * 130}
    spec = model_spec(installed, "described", long)

    def name(**options: Any) -> str:
        return prepare(
            "described", toy_suite(tmp_path), arguments=long, output=tmp_path, installed=installed, **options
        )[0].model.name

    assert name() == spec.name == spec.in_run("float32").name
    assert name(precision="bfloat16") == spec.in_run("bfloat16").name != spec.name


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="toy is named twice"):
        prepare(["toy", "unet", "toy"], toy_suite(tmp_path), output=tmp_path, installed=with_toy())


def test_weights_belong_to_one_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights belong to one model"):
        prepare(["toy", "unet"], toy_suite(tmp_path), pretrained="w", output=tmp_path, installed=with_toy())
