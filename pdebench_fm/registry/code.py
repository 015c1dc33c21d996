"""Versions of classes that no entry versions: a hash of their code, so that an edit gives new results.

The hash is that of the files of the project that the class's module imports, and of their functions in memory. So a
function that was edited after its import is told apart from both the old and the new one; an edited constant is not.
Libraries are not looked into.
"""

from __future__ import annotations

import ast
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pdebench_fm._util.text import named, show
from pdebench_fm.errors import UsageError

_MAIN = ("__main__", "__mp_main__")  # the second in workers
_PLAIN = (bool, int, float, complex, str, bytes, range, slice, type(None), type(Ellipsis))

PREFIX = "code-"


def code_version(thing: Callable[..., Any]) -> str:
    """Return ``code-`` and a hash of the code of a class or function; `UsageError` if it uses, say, a lock."""
    found = _Code()
    try:
        found.add(thing)
    except _NotPlainError as error:
        raise UsageError(
            f"{thing.__qualname__} refers to {error}, so that its results could not be told from those of other code: "
            "pass a ModelEntry with a version"
        ) from None
    return PREFIX + found.digest.hexdigest()[:16]


class _NotPlainError(Exception):
    pass


class _Code:
    """A hash of code and values, each described once."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, object] = {}  # kept, or another object could get the same id
        self._modules: set[str] = set()

    def add(self, value: Any) -> None:
        """Describe anything."""
        if isinstance(value, _PLAIN):
            self._put(value)
        elif isinstance(value, types.CodeType):
            self._put(value.co_name, value.co_code, value.co_names, value.co_varnames, value.co_argcount)
            self.add(value.co_consts)
        elif isinstance(value, tuple):
            self._add_all(value)
        elif isinstance(value, set | frozenset):
            self._put(sorted(map(repr, value)))
        elif id(value) in self._seen:
            self._put("again", list(self._seen).index(id(value)))
        else:
            self._seen[id(value)] = value
            self._add_object(value)

    def _put(self, *parts: object) -> None:
        self.digest.update(f"{parts!r}\n".encode(errors="backslashreplace"))

    def _add_all(self, values: Any) -> None:
        self._put(len(values))
        for value in values:
            self.add(value)

    def _add_object(self, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            self._put(value.__name__)
            self._add_module(value.__name__)
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, property):
            self._add_all((value.fget, value.fset, value.fdel))
        elif isinstance(value, list):
            self._add_all(value)
        elif isinstance(value, dict):
            self._add_all(tuple(value.items()))
        elif isinstance(value, functools.cached_property):
            self.add(value.func)
        elif hasattr(value, "__wrapped__"):  # a decorator, staticmethod or classmethod
            self.add(value.__wrapped__)
        elif hasattr(value, "detach"):  # torch would name it by its address
            self.add(value.detach().cpu().numpy())
        elif not inspect.isdatadescriptor(value):
            try:
                registered = copyreg.dispatch_table.get(type(value))
                reduced = registered(value) if registered is not None else value.__reduce_ex__(4)
            except Exception as error:  # locks, open files, compiled code
                raise _NotPlainError(f"{show(value)}, which cannot be described ({named(error)})") from None
            self.add(reduced if isinstance(reduced, str) else (type(value), *reduced[:3]))

    def _add_function(self, function: types.FunctionType) -> None:
        self._put(function.__qualname__)
        if not _is_own(function.__module__):
            return
        self.add(function.__code__)
        self.add((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # not filled yet
                self.add(cell.cell_contents)
        self._add_module(function.__module__)
        if function.__module__ in _MAIN and not Path(function.__code__.co_filename).is_file():  # typed in
            for name in sorted(_globals_in(function.__code__) & function.__globals__.keys()):
                self._put(name)
                self.add(function.__globals__[name])

    def _add_class(self, kind: type) -> None:
        self._put(kind.__qualname__)
        if not _is_own(kind.__module__):
            return
        self._add_all((*kind.__bases__, type(kind)))
        for name, value in vars(kind).items():
            if name != "_abc_impl" and not (name.startswith("__") and not callable(value)):
                self._put(name)
                self.add(value)
        self._add_module(kind.__module__)

    def _add_module(self, name: str) -> None:
        """Describe the file of a module of the project, its functions in memory, and the modules it imports."""
        if not name or name in self._modules or not _is_own(name):
            return
        self._modules.add(name)
        self._add_module(name.rpartition(".")[0])
        try:
            module = importlib.import_module(name)  # a function may import it only when it runs
            text = Path(module.__file__ or "").read_bytes()
        except Exception:  # the name of an attribute, not installed here, or without a file
            return
        self._put(hashlib.sha256(text).hexdigest())
        for value in vars(module).values():
            if getattr(value, "__module__", None) == name:
                members = vars(value).values() if isinstance(value, type) else [value]
                for function in filter(inspect.isfunction, members):
                    self.add(function.__code__)
        if str(module.__file__).endswith(".py"):
            for imported in _imports(text, module.__package__ or ""):
                self._add_module(imported)


def _globals_in(code: types.CodeType) -> set[str]:
    """Return the globals that a code object looks up, and those inside it."""
    looked_up = {step.argval for step in dis.get_instructions(code) if "GLOBAL" in step.opname}
    return looked_up.union(
        *(_globals_in(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    )


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Yield the modules that a file imports, and the names it imports from them, which may be modules too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):
                module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def _is_own(module: str) -> bool:
    """Whether a module is of the project itself: not of Python, not installed, not ours."""
    package = module.partition(".")[0]
    if package in _MAIN:  # the file of a notebook's is that of the program that runs it
        return True
    if package in {"pdebench_fm", *sys.stdlib_module_names}:
        return False
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # made by hand
        spec = None
    if spec is None:
        return True
    places = (spec.origin or "", *(spec.submodule_search_locations or ()))
    return not any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places)
