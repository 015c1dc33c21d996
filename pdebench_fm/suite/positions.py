"""Read YAML, remember where every key and value is, and report errors at that place.

Names such as ``SYS-1(1,5)`` need no quotes inside ``[...]`` and ``{...}``, although plain YAML would split them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scanner import RoundTripScanner

from pdebench_fm._util.plain import in_words
from pdebench_fm._util.text import one_line, printable, show
from pdebench_fm.errors import SuiteError

MAX_VALUES = 10_000  # with aliases expanded

Where = tuple["str | int", ...]
"""Keys and indices that lead from the root of the data to a value."""

_SCALARS = {ScalarBoolean: bool, bool: bool, int: int, float: float, str: str}
"""Types of ruamel.yaml's scalars, subclasses included, in this order: a ScalarBoolean is an int."""

_REST_OF_NAME = re.compile(r",[^\s,\[\]{}()#:'\"]+(?=[,)])")


@dataclass(frozen=True)
class Place:
    """A line and column of a file, counted from 1."""

    file: Path
    line: int = 1
    column: int = 1

    def error(self, message: str) -> SuiteError:
        """Return the error ``file:line:column: message``."""
        file = printable(str(self.file), 1000)
        return SuiteError(f"{file}:{self.line}:{self.column}: {printable(message, 1000)}")


@dataclass(frozen=True)
class Document:
    """The plain data of a YAML file, and the places of its keys and values."""

    path: Path
    data: dict[str, Any]
    keys: dict[Where, Place]
    values: dict[Where, Place]

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from: that of the file itself, not of a link to it."""
        return (self.path.resolve() if self.path.is_symlink() else self.path.absolute()).parent

    def place(self, where: Where, at_key: bool = False) -> Place:
        """Return the place of a value or its key; that of its nearest parent if there is no such value."""
        places = self.keys if at_key else self.values
        return next(places[where[:end]] for end in range(len(where), -1, -1) if where[:end] in places)

    def written(self, where: Where) -> Where:
        """Return the path of a value as it is written: a list may stand for ``{distributions: [...]}``."""
        for i in range(len(where)):
            shorter = (*where[:i], *where[i + 1 :])
            if where[: i + 1] not in self.values and len(shorter) > i and shorter[: i + 1] in self.values:
                return self.written(shorter)
        return where

    def error(self, where: Where, message: str, at_key: bool = False) -> SuiteError:
        """Return the error ``file:line:column: key.path: message``, at a value or at its key."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{printable(part, 80)}" for part in where)
        name = "".join(parts).removeprefix(".")
        return self.place(where, at_key).error(f"{name}: {message}" if name else message)


class LocatedError(ValueError):
    """A validator's error about a part of the object it validates; ``where`` leads to that part."""

    def __init__(self, message: str, *where: str | int, at_key: bool = False) -> None:
        super().__init__(message)
        self.where = where
        self.at_key = at_key


def read(path: Path) -> Document:
    """Read a YAML file."""
    yaml = YAML(typ="rt")
    yaml.Scanner = _Scanner
    try:
        root = yaml.load(path.read_text("utf-8-sig"))
        if not isinstance(root, CommentedMap):
            got = "an empty file" if root is None else show(root)
            raise Place(path).error(f"must be a mapping, got {got}")
        top = Place(path, root.lc.line + 1, root.lc.col + 1)
        document = Document(path, {}, {(): top}, {(): top})
        return replace(document, data=_plain(root, document, ()))
    except SuiteError:
        raise
    except OSError as error:
        raise Place(path).error(f"cannot be read: {error.strerror or error}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = one_line(error.problem or error.context).partition(" with value ")[0]  # of a duplicate key
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path)
        raise place.error(f"is not valid YAML: {problem}") from None
    except Exception as error:  # text that is not UTF-8, and Python's own errors from ruamel.yaml
        raise Place(path).error(f"is not valid YAML: {one_line(error)}") from None


class _Scanner(RoundTripScanner):
    """ruamel.yaml's scanner, except that a comma inside ``(...)`` does not end a plain name."""

    def scan_plain(self) -> Any:
        token = super().scan_plain()
        while self.flow_level and token.value.count("(") > token.value.count(")"):
            if not _REST_OF_NAME.match(self.reader.buffer, self.reader.pointer):
                break
            self.reader.forward(1)
            rest = super().scan_plain()
            token.value += "," + rest.value
            token.end_mark = rest.end_mark
        return token


def _plain(node: Any, document: Document, where: Where) -> Any:
    """Return a node as dicts, lists and scalars; enter the places of what is in it in the document."""
    if len(document.values) > MAX_VALUES:
        raise document.error(where, f"the document holds more than {MAX_VALUES:,} values, aliases expanded")
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            # A key that << merged in has no place of its own.
            at = node.lc.data.get(key, (node.lc.line, node.lc.col) * 2)
            key_place, place = (Place(document.path, at[i] + 1, at[i + 1] + 1) for i in (0, 2))
            if not isinstance(key, str):
                raise key_place.error(f"a key must be text, got {show(key)}")
            document.keys[*where, key] = key_place
            document.values[*where, key] = key_place if value is None else place
        return {str(key): _plain(value, document, (*where, key)) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        for i in range(len(node)):
            line, column = node.lc.item(i)
            document.keys[*where, i] = document.values[*where, i] = Place(document.path, line + 1, column + 1)
        return [_plain(item, document, (*where, i)) for i, item in enumerate(node)]
    if node is None:
        return None
    for kind, plain in _SCALARS.items():
        if isinstance(node, kind):
            return plain(node)
    raise document.error(where, "must be plain data: tags are not accepted, dates need quotes")


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> SuiteError:
    """Report the first of pydantic's findings; an unknown key goes before the missing one that it explains."""
    found = []
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic counts only valid items; what is wrong with the others is another finding
        where, at_key = item["loc"], item["type"] == "extra_forbidden"
        if where[-1:] == ("[key]",):  # pydantic's name for the key itself
            where, at_key = where[:-1], True
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, LocatedError):
            where, at_key = (*where, *cause.where), cause.at_key
        where = document.written(where)
        place = document.place(where, at_key)
        order = (item["type"] != "extra_forbidden", place.file != document.path, place.line, place.column)
        found.append((order, where, at_key, item))
    _, where, at_key, item = min(found, key=lambda entry: entry[0])
    keys = _keys(model, where[:-1]) if item["type"] == "extra_forbidden" else None
    return document.error(where, in_words(item, keys), at_key)


def _keys(model: Any, where: Where) -> list[str]:
    """Return the keys that a mapping inside ``model`` may have."""
    for part in where:
        model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)
        if isinstance(model, tuple):  # dict[name, item] and tuple[item, ...]
            model = next(argument for argument in reversed(model) if argument is not ...)
        if get_origin(model) is Annotated:
            model = get_args(model)[0]
        if isinstance(model, UnionType):  # item | None
            model = next(argument for argument in get_args(model) if argument is not NoneType)
    return [*model.model_fields, *model.also]
