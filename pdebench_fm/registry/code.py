"""Versions of code that no entry versions: a hash of what runs, not of a file that may have changed since.

A class is described by the code objects of its functions, their defaults and closures, and everything of the project
that they refer to: base classes, helpers in other modules, constants. Libraries are named, and not looked into.
"""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.util
import site
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm._util.text import named, show
from pdebench_fm.errors import UsageError

_PLAIN = (bool, int, float, complex, str, bytes, range, slice, type(None), type(Ellipsis), type(NotImplemented))
_BUILTIN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_OF_EVERY_CLASS = {
    "__dict__",
    "__weakref__",
    "__module__",
    "__doc__",
    "__abstractmethods__",
    "__annotations__",
    "__annotate__",
    "__annotate_func__",
    "__annotations_cache__",
    "__firstlineno__",
    "__static_attributes__",
    "_abc_impl",
    "__pydantic_core_schema__",  # these follow from the fields, and hold addresses
    "__pydantic_validator__",
    "__pydantic_serializer__",
}
"""Attributes of a class that change nothing, or that its functions show anyway."""


PREFIX = "code-"


def code_version(thing: Callable[..., Any]) -> str:
    """Return ``code-`` and a hash of the code that a class or function runs.

    Raises:
        UsageError: it refers to something that cannot be described.
    """
    try:
        _hash(thing)  # imports what functions import, so that from now on every module is there
        return PREFIX + _hash(thing)[:16]
    except _NotPlainError as error:
        raise UsageError(
            f"{thing.__qualname__} refers to {error}, so that its results could not be told from those of other code: "
            "pass a ModelEntry with a version"
        ) from None


class _NotPlainError(Exception):
    pass


class _Description:
    """A hash of objects, each described once."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # or another object could get the same id
        self._modules: set[tuple[int, frozenset[str]]] = set()

    def add(self, value: Any) -> None:
        """Describe anything."""
        if isinstance(value, _PLAIN):
            self._put(type(value).__name__, repr(value))
        elif isinstance(value, types.CodeType):
            self._add_code(value)
        elif isinstance(value, tuple) and type(value) is tuple:
            self._add_all("tuple", value)
        elif isinstance(value, set | frozenset):
            self._put("set", sorted(_hash(item) for item in value))
        elif id(value) in self._seen:
            self._put("again", self._seen[id(value)])
        else:
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
            self._add_object(value)

    def _put(self, *parts: object) -> None:
        self.digest.update(f"{parts!r}\n".encode(errors="backslashreplace"))

    def _add_all(self, kind: str, values: Any) -> None:
        self._put(kind, len(values))
        for value in values:
            self.add(value)

    def _add_object(self, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, types.ModuleType):
            self._put("module", value.__name__)
        elif isinstance(value, _BUILTIN):
            owner = getattr(value, "__self__", None)
            self._put("builtin", value.__qualname__)
            if isinstance(owner, list | dict | set):
                self.add(owner)
        elif isinstance(value, types.MethodType):
            self._add_all("method", (value.__func__, value.__self__))
        elif isinstance(value, staticmethod | classmethod):
            self._add_all(type(value).__name__, (value.__func__,))
        elif isinstance(value, property):
            self._add_all("property", (value.fget, value.fset, value.fdel))
        elif isinstance(value, functools.cached_property):
            self._add_all("cached property", (value.func,))
        elif isinstance(value, functools.partial):
            self._add_all("partial", (value.func, value.args, value.keywords))
        elif type(value) is list:
            self._add_all("list", value)
        elif type(value) is dict or isinstance(value, types.MappingProxyType):
            self._add_all("dict", tuple(value.items()))
        elif hasattr(value, "__array__") and hasattr(value, "detach"):
            self._put("tensor", str(value.dtype), tuple(value.shape))
            self.add(value.detach().cpu().resolve_conj().contiguous().view(-1).numpy().tobytes())
        elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
            self._put("array", value.dtype.str, value.shape)
            self.add(value.tobytes())
        elif callable(value) and hasattr(value, "__wrapped__"):
            self._add_all(type(value).__qualname__, (value.__wrapped__,))
        else:
            self._add_reduced(value)

    def _add_reduced(self, value: Any) -> None:
        """Describe an object by what pickle would keep of it."""
        try:
            registered = copyreg.dispatch_table.get(type(value))
            reduced = registered(value) if registered is not None else value.__reduce_ex__(4)
        except Exception as error:  # locks, open files, compiled code
            raise _NotPlainError(f"{show(value)}, which cannot be described ({named(error)})") from None
        if isinstance(reduced, str):
            self._put("global", type(value).__qualname__, reduced)
            return
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        kept = (make, arguments, state, tuple(items or ()), tuple(pairs or ()))
        self._add_all(type(value).__qualname__, kept)

    def _add_function(self, function: types.FunctionType) -> None:
        module = function.__globals__.get("__name__", "")
        if not _is_own(module):
            self._put("library", module, function.__qualname__)
            return
        self._put("function", function.__qualname__)
        self._add_code(function.__code__)
        self._add_all("defaults", (function.__defaults__, function.__kwdefaults__, vars(function)))
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # not filled yet
                self._put("empty")
        codes = tuple(_all_codes(function.__code__))
        names = {name for code in codes for name in (*code.co_names, *filter(_is_name, code.co_consts))}
        for name in sorted({name for code in codes for name in _globals_of(code)}):
            if name in function.__globals__:
                self._add_used(name, function.__globals__[name], names)
        for code in codes:
            for imported in _imports_of(code, function.__globals__.get("__package__") or ""):
                self._add_imported(imported, names)

    def _add_used(self, name: str, value: Any, names: set[str]) -> None:
        """Describe a global that functions use; of a module of the project only what they name."""
        self._put("name", name)
        if not isinstance(value, types.ModuleType):
            self.add(value)
            return
        self.add(value)
        if not _is_own(value.__name__):
            return
        key = (id(value), frozenset(names))
        if key in self._modules:
            return
        self._modules.add(key)
        for attribute in sorted(names & vars(value).keys()):
            self._add_used(attribute, vars(value)[attribute], names)
        file = getattr(value, "__file__", None)
        if file is not None and not file.endswith(".py"):  # compiled
            self._put("file", hashlib.sha256(Path(file).read_bytes()).hexdigest())

    def _add_imported(self, module: str, names: set[str]) -> None:
        """Describe a module that a function imports when it runs."""
        if not _is_own(module):
            self._put("library", module)
            return
        try:
            self._add_used(module, importlib.import_module(module), names)
        except ImportError:
            self._put("no module", module)

    def _add_code(self, code: types.CodeType) -> None:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        variables = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self._put("code", code.co_name, *counts, *variables, code.co_code, code.co_exceptiontable)
        self._add_all("constants", code.co_consts)

    def _add_class(self, kind: type) -> None:
        if not _is_own(kind.__module__):
            self._put("library", kind.__module__, kind.__qualname__)
            return
        self._put("class", kind.__qualname__)
        self._add_all("bases", (*kind.__bases__, type(kind)))
        for name, value in vars(kind).items():
            if name not in _OF_EVERY_CLASS:
                self._put("attribute", name)
                self.add(value)


def _hash(value: Any) -> str:
    found = _Description()
    found.add(value)
    return found.digest.hexdigest()


def _all_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield a code object and those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all_codes(constant)


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """Yield the names that code looks up in its module."""
    for step in dis.get_instructions(code):
        if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
            yield step.argval


def _imports_of(code: types.CodeType, package: str) -> Iterator[str]:
    """Yield the modules that code imports."""
    steps = list(dis.get_instructions(code))
    for number, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":
            level = steps[number - 2].argval
            relative = "." * level if isinstance(level, int) else ""
            with suppress(ImportError):
                module = importlib.util.resolve_name(relative + step.argval, package)
                yield module
                for name in steps[number - 1].argval or ():  # from module import name: it may be a module too
                    if name != "*" and _is_own(module) and importlib.util.find_spec(f"{module}.{name}") is not None:
                        yield f"{module}.{name}"


def _is_name(constant: object) -> bool:
    """Whether a constant may be the name of an attribute, as in ``getattr(module, "name")``."""
    return isinstance(constant, str) and constant.isidentifier()


def _is_own(module: str) -> bool:
    """Whether a module is of the project itself: not of Python, not installed, not ours."""
    if module.partition(".")[0] in {"pdebench_fm", *sys.stdlib_module_names, *sys.builtin_module_names}:
        return False
    if module == "__main__":  # the file of a notebook's is that of the program that runs it
        return True
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if file is None and loaded is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            spec = None
        file = spec.origin if spec is not None else None
    if file is None:  # a notebook, a namespace, made by hand
        return True
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & {*path.parts}:
        return False
    return not any(path.is_relative_to(folder) for folder in _library_folders())


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(Path(path).resolve() for path in (*paths, *site.getsitepackages(), site.getusersitepackages()))
