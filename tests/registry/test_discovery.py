from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pdebench_fm.errors import PluginError, UnknownNameError, UsageError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.registry.discovery import Registry
from tests.support.command import PATIENCE, pdefm

Load = Callable[..., Registry]

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
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
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


def points(folder: Path, **sources: str) -> dict[str, str]:
    """Install packages of one plugin each into a folder; returns the environment in which they are found."""
    for name, source in sources.items():
        (folder / f"pdefm_{name}.py").write_text(textwrap.dedent(source))
        about = folder / f"pdefm_{name}-1.5.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pdefm_{name}\nVersion: 1.5\n")
        (about / "entry_points.txt").write_text(f"[pdebench_fm]\n{name} = pdefm_{name}\n")
    return {"PYTHONPATH": str(folder)}


def failures(registry: Registry) -> dict[str, str]:
    return {plugin.name: plugin.failure for plugin in registry.plugins}


def test_a_broken_plugin_takes_nothing_else_with_it(load: Load) -> None:
    registry = load(good=GOOD, raises=RAISES, misspelt=MISSPELT, empty=EMPTY, bad_name=BAD_NAME, wrong=WRONG_KIND)
    assert registry.names("models") == ["good", "shared"]
    found = failures(registry)
    assert found["good"] == ""
    assert re.fullmatch(r"RuntimeError: out of order \(plugin_raises_\d+\.py:1\)", found["raises"])
    assert "pdefm_modles" in found["misspelt"]
    assert "pdefm_models" in found["empty"]
    assert "../etc" in found["bad_name"]
    assert "SystemEntry" in found["wrong"]


def test_a_name_claimed_twice_is_refused_with_both_owners(load: Load) -> None:
    registry = load(good=GOOD, other=OTHER)
    assert registry.names("models") == ["good", "other"]
    with pytest.raises(PluginError, match=r"'shared' is registered twice: by good and by other"):
        registry.get("models", "shared")
    assert "registered twice" in failures(registry)["other"]


def test_two_packages_may_name_their_entry_points_alike(load: Load) -> None:
    modules = [plugin.module for plugin in load(good=GOOD, other=OTHER.replace('"shared"', '"mine"')).plugins]
    registry = Registry([EntryPoint("plugin", module, "pdebench_fm") for module in modules])
    assert registry.names("models") == ["good", "mine", "other", "shared"]


def test_an_unknown_name_suggests_the_nearest_and_tells_of_broken_plugins(load: Load) -> None:
    registry = load(good=GOOD, raises=RAISES)
    with pytest.raises(UnknownNameError, match=r"'good'.*could not be loaded: raises") as caught:
        registry.get("models", "goood")
    assert "raise RuntimeError" in caught.value.__notes__[0]


def test_a_factory_that_cannot_be_imported_names_its_owner(load: Load) -> None:
    registry = load(good=GOOD.replace("builtins:dict", "no_such_module:Model"))
    with pytest.raises(PluginError, match=r"model 'good' of plugin good: ModuleNotFoundError"):
        registry.load("models", "good")


def test_a_plugin_that_ends_the_program_is_a_broken_plugin(load: Load) -> None:
    registry = load(good=GOOD, leaves='import sys; sys.exit("needs a GPU")')
    assert [plugin.failure.partition(" (")[0] for plugin in registry.plugins] == ["", "SystemExit: needs a GPU"]
    assert registry.names("models") == ["good", "shared"]


@pytest.mark.parametrize("version", [1, "", None])
def test_a_version_that_no_record_could_take_is_refused_at_once(load: Load, version: object) -> None:
    registry = load(odd=GOOD.replace('"1"', repr(version)))
    assert "version of 'good'" in registry.plugins[0].failure


def test_no_protocol_may_be_called_pretraining(load: Load) -> None:
    taken = GOOD.replace("ModelEntry", "ProtocolEntry").replace("pdefm_models", "pdefm_protocols")
    registry = load(taken=taken.replace('"good"', '"pretraining"'))
    assert "'pretraining'" in registry.plugins[0].failure


def test_the_registry_can_be_sent_to_another_process(load: Load) -> None:
    assert pickle.loads(pickle.dumps(load(good=GOOD, raises=RAISES))).names("models") == ["good", "shared"]


def test_a_plugin_that_crashes_is_shown_and_can_be_left_out(tmp_path: Path) -> None:
    variables = points(tmp_path, bad="import ctypes; ctypes.string_at(0)", good=GOOD)
    ended = pdefm("plugins", folder=tmp_path, **variables)
    assert "Segmentation fault" in ended.stderr
    assert re.search(r"pdefm_bad\.py\W+line 1 in <module>", ended.stderr)
    for arguments, more in ((("--no-plugin", "bad"), {}), ((), {"PDEFM_PLUGINS": "good"})):
        listed = pdefm("list", "models", "--json", *arguments, folder=tmp_path, **variables, **more)
        assert listed.returncode == 0, listed.stderr
        assert "good" in listed.stdout


def test_what_a_plugin_prints_in_any_way_goes_to_standard_error(tmp_path: Path) -> None:
    prints = """
        import ctypes, os, subprocess, sys
        print("by Python")
        os.write(1, b"by the system\\n")
        subprocess.run(["echo", "by another process"])
        libc = ctypes.CDLL(None)
        libc.puts(b"by C")
        libc.fflush(None)
    """
    variables = points(tmp_path, good=textwrap.dedent(prints) + textwrap.dedent(GOOD))
    listed = pdefm("list", "models", "--json", folder=tmp_path, **variables)
    assert "good" in {model["name"] for model in json.loads(listed.stdout)}
    for what in ("Python", "the system", "another process", "C"):
        assert f"by {what}\n" in listed.stderr


def test_a_selection_says_which_plugins_are_loaded() -> None:
    def names(selection: str) -> list[str]:
        return [plugin.name for plugin in Registry(selection=selection).plugins]

    everything = names("")
    assert names("fno, unet") == ["fno", "unet"]
    assert names("-fno,-unet") == [name for name in everything if name not in ("fno", "unet")]
    assert names("fno,unet,-unet") == ["fno"]
    with pytest.raises(UsageError, match="unknown plugin 'unte'; did you mean 'unet'"):
        names("-unte")
    with pytest.raises(UnknownNameError, match="left out: unet"):
        Registry(selection="-unet").get("models", "unet")


def test_what_a_plugin_prints_goes_to_standard_error(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    load(loud=GOOD + "    print('hello')")
    assert capsys.readouterr() == ("", "hello\n")


def test_an_entry_can_be_added_or_replaced(load: Load) -> None:
    registry = load(good=GOOD)
    entry = ModelEntry("good", "2", dict, "")
    assert registry.with_entry("models", entry).get("models", "good") is entry
    assert registry.get("models", "good").version == "1"
    with pytest.raises(PluginError, match="'good' is already registered by good"):
        registry.with_model(entry)


def test_help_and_lists_do_not_import_torch() -> None:
    program = """
        import sys
        from pdebench_fm.cli import cli
        from pdebench_fm.registry import KINDS
        for arguments in (["--help"], *(["list", kind] for kind in KINDS), ["plugins"]):
            try:
                cli.main(arguments, standalone_mode=False)
            except SystemExit:
                pass
        heavy = [name for name in ("torch", "h5py", "pandas", "matplotlib", "numpy") if name in sys.modules]
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, timeout=PATIENCE)
