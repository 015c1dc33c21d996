from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pdebench_fm.errors import PluginError, UnknownNameError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.registry.discovery import Registry

GOOD = """
    from pdebench_fm.hookspecs import ModelEntry, hookimpl

    @hookimpl
    def pdefm_models():
        return [ModelEntry("good", "1", "builtins:dict", "fine"), ModelEntry("shared", "1", "builtins:dict", "mine")]
"""
OTHER = """
    from pdebench_fm.hookspecs import ModelEntry, hookimpl

    @hookimpl
    def pdefm_models():
        return [ModelEntry("other", "1", "builtins:dict", "fine"), ModelEntry("shared", "1", "builtins:dict", "mine")]
"""
RAISES = "raise RuntimeError('out of\\n order')"
MISSPELT = """
    from pdebench_fm.hookspecs import hookimpl

    @hookimpl
    def pdefm_modles():
        return []
"""
EMPTY = "x = 1"
BAD_NAME = """
    from pdebench_fm.hookspecs import ModelEntry, hookimpl

    @hookimpl
    def pdefm_models():
        return [ModelEntry("../etc", "1", "builtins:dict", "fine")]
"""
WRONG_KIND = """
    from pdebench_fm.hookspecs import ModelEntry, hookimpl

    @hookimpl
    def pdefm_systems():
        return [ModelEntry("good", "1", "builtins:dict", "fine")]
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Make plugins from source text and load them."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(**sources: str) -> Registry:
        points = []
        for name, source in sources.items():
            module = f"plugin_{name}_{abs(hash(str(tmp_path)))}"
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
            points.append(EntryPoint(name, module, "pdebench_fm"))
        return Registry(points)

    return make


def failures(registry: Registry) -> dict[str, str]:
    return {plugin.name: plugin.failure for plugin in registry.plugins}


def test_a_broken_plugin_takes_nothing_else_with_it(load) -> None:  # type: ignore[no-untyped-def]
    registry = load(good=GOOD, raises=RAISES, misspelt=MISSPELT, empty=EMPTY, bad_name=BAD_NAME, wrong=WRONG_KIND)
    assert registry.names("models") == ["good", "shared"]
    found = failures(registry)
    assert found["good"] == ""
    assert found["raises"] == "RuntimeError: out of order"
    assert "pdefm_modles" in found["misspelt"]
    assert "implements none of the hooks" in found["empty"]
    assert "got '../etc'" in found["bad_name"]
    assert "must return SystemEntry, got ModelEntry" in found["wrong"]


def test_a_name_claimed_twice_is_refused_with_both_owners(load) -> None:  # type: ignore[no-untyped-def]
    registry = load(good=GOOD, other=OTHER)
    assert registry.names("models") == ["good", "other"]
    with pytest.raises(PluginError, match=r"'shared' is registered twice: by good and by other"):
        registry.get("models", "shared")
    assert "registered twice" in failures(registry)["other"]


def test_two_entry_points_of_one_name_are_reported(load) -> None:  # type: ignore[no-untyped-def]
    first = load(good=GOOD)
    module = first.plugins[0].module
    registry = Registry(
        [EntryPoint("same", module, "pdebench_fm"), EntryPoint("same", "zz_other_module", "pdebench_fm")]
    )
    assert [bool(plugin.failure) for plugin in registry.plugins] == [False, True]
    assert "already taken by same" in registry.plugins[1].failure


def test_an_unknown_name_suggests_the_nearest_and_tells_of_broken_plugins(load) -> None:  # type: ignore[no-untyped-def]
    registry = load(good=GOOD, raises=RAISES)
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'goood'; did you mean 'good'\?; could not be loaded: raises"
    ):
        registry.get("models", "goood")


def test_a_factory_that_cannot_be_imported_names_its_owner(load) -> None:  # type: ignore[no-untyped-def]
    registry = load(good=GOOD.replace("builtins:dict", "no_such_module:Model"))
    with pytest.raises(PluginError, match=r"model 'good' of plugin good: ModuleNotFoundError"):
        registry.load("models", "good")


def test_a_plugin_that_ends_the_program_is_a_broken_plugin(load) -> None:  # type: ignore[no-untyped-def]
    registry = load(good=GOOD, leaves='import sys; sys.exit("needs a GPU")')
    assert [plugin.failure for plugin in registry.plugins] == ["", "SystemExit: needs a GPU"]
    assert registry.names("models") == ["good", "shared"]


@pytest.mark.parametrize("version", [1, "", None, "1.2\n"])
def test_a_version_that_no_record_could_take_is_refused_at_once(load, version: object) -> None:  # type: ignore[no-untyped-def]
    registry = load(odd=GOOD.replace('"1"', repr(version)))
    assert "the version of 'good' must be text such as \"1\", got " in registry.plugins[0].failure


def test_no_protocol_may_be_called_as_pretraining_is(load) -> None:  # type: ignore[no-untyped-def]
    taken = GOOD.replace("ModelEntry", "ProtocolEntry").replace("pdefm_models", "pdefm_protocols")
    registry = load(taken=taken.replace('"good"', '"pretraining"'))
    assert "'pretraining' is what records call a pre-training" in registry.plugins[0].failure


def test_what_cannot_be_sent_to_another_process_is_a_broken_plugin(load) -> None:  # type: ignore[no-untyped-def]
    registry = load(other=OTHER, odd=GOOD.replace('"builtins:dict", "fine"', 'lambda: {}, "fine"'))
    assert "pdefm_models: 'good' cannot be sent to another process: name its factory as" in failures(registry)["odd"]
    assert pickle.loads(pickle.dumps(registry)).names("models") == ["other", "shared"]


def test_a_local_class_of_the_calling_program_is_scored_in_its_own_process_alone(load) -> None:  # type: ignore[no-untyped-def]
    class Local:
        pass

    registry = load(good=GOOD).with_model(ModelEntry("local", "1", Local, ""))
    assert registry.load("models", "local") is Local
    with pytest.raises(PluginError, match="'local' cannot be sent to another process"):
        pickle.dumps(registry)


SAME = """
    from pdebench_fm.hookspecs import ModelEntry, hookimpl

    class First:
        def __init__(self, width: int = 16) -> None: ...

    class Second:
        def __init__(self, width: int = 32) -> None: ...

    @hookimpl
    def pdefm_models():
        return [
            ModelEntry("first", "1", __name__ + ":First", "", family="nets"),
            ModelEntry("second", "1", __name__ + ":SECOND", "", ARGUMENTS, family="nets"),
        ]
"""


@pytest.mark.parametrize(
    ("second", "arguments", "usable"),
    [
        ("First", "{}", True),
        ("Second", "{}", True),
        ("Second", "{'width': 16}", False),
        ("Missing", "{'width': 16}", True),
        ("Second", "None", True),
    ],
)
def test_two_factories_do_not_make_one_identity(load, second: str, arguments: str, usable: bool) -> None:  # type: ignore[no-untyped-def]
    registry = load(good=GOOD, same=SAME.replace("SECOND", second).replace("ARGUMENTS", arguments))
    assert registry.names("models") == (["first", "good", "second", "shared"] if usable else ["good", "shared"])
    if not usable:
        assert "have one family, version and arguments, and two factories" in failures(registry)["same"]
        with pytest.raises(PluginError, match="'first' of same and 'second' of same have one family"):
            registry.get("models", "first")


def test_a_class_cannot_take_the_identity_of_a_registered_model(load) -> None:  # type: ignore[no-untyped-def]
    class Mine:
        def __init__(self, width: int = 16) -> None: ...

    entry = ModelEntry("mine", "1", Mine, "", family="nets")
    with pytest.raises(PluginError, match="'first' of same and 'mine' of the calling program have one family"):
        load(same=SAME.replace("SECOND", "Second").replace("ARGUMENTS", "{}")).with_model(entry)


def test_help_and_lists_do_not_import_torch() -> None:
    program = """
        import sys
        from pdebench_fm.cli import cli
        for arguments in (["--help"], *(["list", kind] for kind in
                          ("systems", "samplers", "models", "protocols", "metrics", "suites")), ["plugins"]):
            try:
                cli.main(arguments, standalone_mode=False)
            except SystemExit:
                pass
        heavy = [name for name in ("torch", "h5py", "pandas", "matplotlib", "numpy") if name in sys.modules]
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, timeout=60)


def test_built_in_plugins_are_whole() -> None:
    from click.testing import CliRunner

    from pdebench_fm.cli import cli

    found = json.loads(CliRunner().invoke(cli, ["plugins", "--json"], catch_exceptions=False).stdout)
    assert {plugin["name"]: plugin["failure"] for plugin in found if plugin["failure"]} == {}
