"""Reading YAML that somebody else wrote: plain data, and the place in the file where each key and value stands.

What is accepted is a strict subset of YAML 1.2: one UTF-8 document that is a mapping with text keys; no tags, no
directives, no duplicate keys; aliases only while the expanded document stays small. There is one liberty: names such as
``SYS-1(1,5)`` may stand unquoted inside ``[...]`` and ``{...}``, where YAML would split them at the comma.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.scanner import Scanner

from pdebench_fm._util.text import EXPECTED, one_line, printable, show
from pdebench_fm.errors import SuiteError, suggestion

MAX_BYTES = 1_000_000
MAX_NODES = 10_000
MAX_DEPTH = 32

Mark = tuple[int, int]
"""Line and column, both counted from 1."""
Where = Sequence["str | int"]
"""Where a value stands in the data: keys and indices from the root."""

_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:null"}
_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REST_OF_NAME = re.compile(r",[^\s,\[\]{}()#:'\"]+(?=[,)])")


@dataclass(frozen=True)
class Node:
    """One value of the document.

    Args:
        value: a scalar, or nodes in a tuple or dict.
        mark: where it stands.
        size: values in it, aliases expanded.
        height: levels below it, aliases expanded.
        keys: where its keys stand.
    """

    value: Any
    mark: Mark
    size: int = 1
    height: int = 0
    keys: Mapping[str, Mark] | None = None

    def plain(self) -> Any:
        """Return the value as dicts, tuples and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return tuple(node.plain() for node in self.value)
        return self.value


@dataclass(frozen=True)
class Document:
    """A YAML file that was read: its data, and where everything stands."""

    path: Path
    root: Node

    def mark(self, where: Where, at_key: bool = False) -> Mark:
        """Return where a value (or its key) stands; its nearest parent where it does not exist."""
        node, mark = self.root, self.root.mark
        for part in where:
            if isinstance(node.value, dict) and part in node.value:
                key_mark = (node.keys or {})[str(part)]
                node = node.value[part]
            elif isinstance(node.value, tuple) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                key_mark = node.mark
            else:
                break
            mark = key_mark if at_key else node.mark
        return mark

    def error(self, where: Where, message: str, at_key: bool = False) -> SuiteError:
        """Return the error ``file:line:column: key.path: message``.

        Args:
            where: keys and indices from the root.
            message: what is wrong, what was expected.
            at_key: point at the key and not at its value.
        """
        name = dotted(where)
        return error_at(self.path, self.mark(where, at_key), f"{name}: {message}" if name else message)


class LocatedError(ValueError):
    """What a validator found wrong with a value; ``where`` leads to it from the object being validated."""

    def __init__(self, message: str, *where: str | int, at_key: bool = False) -> None:
        super().__init__(message)
        self.where = where
        self.at_key = at_key


def dotted(where: Where) -> str:
    """Return a place in the data as users read it, e.g. ``tasks[2].name``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable(part, 80)}" for part in where)
    return text.removeprefix(".")


def error_at(path: Path, mark: Mark, message: str) -> SuiteError:
    """Return an error of one line that begins with the place."""
    return SuiteError(f"{printable(str(path), 1000)}:{mark[0]}:{mark[1]}: {printable(message, 1000)}")


def read(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        SuiteError: it cannot be read, or is outside the accepted subset; the text is one line and names the place.
    """
    text = _text(path)
    return Document(path, _Builder(path).build(text))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise error_at(path, (1, 1), f"cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise error_at(path, (1, 1), f"must be at most {MAX_BYTES:,} bytes")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise error_at(path, (line, column), f"must be UTF-8 text, got byte 0x{raw[error.start]:02x}") from None
    control = _CONTROL.search(text)
    if control:
        before = text[: control.start()]
        mark = (before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        raise error_at(path, mark, f"must be text, got control character {control.group()!r}")
    return text


class _Scanner(Scanner):
    """YAML's scanner, but for a comma between the parentheses of a plain name inside ``[...]`` or ``{...}``."""

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


class _Builder:
    """Builds nodes from ruamel.yaml's events, and refuses what is not accepted where it stands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.yaml = YAML(typ="safe", pure=True)
        self.yaml.Scanner = _Scanner
        self.anchors: dict[str, Node | None] = {}  # None while the anchored value is still being read

    def build(self, text: str) -> Node:
        try:
            root = self._document(self.yaml.parse(text))
        except SuiteError:
            raise
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = one_line(error.problem or error.context)
            raise error_at(self.path, place, f"is not valid YAML: {problem}") from None
        except Exception as error:  # the parser's own slips on malformed text
            raise error_at(self.path, (1, 1), f"is not valid YAML: {one_line(error)}") from None
        if not isinstance(root.value, dict):
            expected = "must be a mapping with keys such as name and tasks"
            raise error_at(self.path, root.mark, f"{expected}, got {show(root.plain())}")
        return root

    def _document(self, events: Iterable[Any]) -> Node:
        stream = iter(events)
        root: Node | None = None
        for event in stream:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise self._error(event, "must hold one document, got another one here")
                if event.version or event.tags:
                    raise self._error(event, "YAML directives are not accepted")
                root = self._node(next(stream), stream, depth=0)
        if root is None:
            raise error_at(self.path, (1, 1), "is empty; a suite is a mapping with keys such as name and tasks")
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        if event.tag is not None:
            raise self._error(event, f"tags are not accepted, got {printable(str(event.tag), 80)}")
        if depth > MAX_DEPTH:
            raise self._error(event, f"is nested more than {MAX_DEPTH} deep")
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None
        if isinstance(event, MappingStartEvent):
            node = self._mapping(event, events, depth)
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            node = Node(self._scalar(event), _mark(event))
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def _alias(self, event: Any, depth: int) -> Node:
        if event.anchor not in self.anchors:
            raise self._error(event, f"no anchor is named {event.anchor!r}")
        node = self.anchors[event.anchor]
        if node is None:
            raise self._error(event, f"the alias {event.anchor!r} stands inside its own anchor")
        if depth + node.height > MAX_DEPTH:
            raise self._error(event, f"is nested more than {MAX_DEPTH} deep, aliases expanded")
        return node

    def _sequence(self, start: Any, events: Iterator[Any], depth: int) -> Node:
        items: list[Node] = []
        size = 1
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
            size = self._limited(size + items[-1].size, event)
        return Node(tuple(items), _mark(start), size, _above(items))

    def _mapping(self, start: Any, events: Iterator[Any], depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        size = 1
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            node = self._node(event, events, depth + 1)
            key = node.value
            if not isinstance(key, str):
                raise self._error(event, f"a key must be text, got {show(node.plain())}")
            if key in keys:
                line, column = keys[key]
                raise self._error(event, f"duplicate key {show(key)}; it is already at {line}:{column}")
            keys[key] = _mark(event)
            node = self._node(next(events), events, depth + 1)
            if node.value is None:  # an absent value has no place of its own
                node = replace(node, mark=keys[key])
            values[key] = node
            size = self._limited(size + 1 + values[key].size, event)
        return Node(values, _mark(start), size, _above(values.values()), keys)

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        tag = str(self.yaml.resolver.resolve(ScalarNode, text, event.implicit))
        if tag not in _NUMBERS:
            return text
        try:
            value = self.yaml.constructor.construct_object(ScalarNode(tag, text, event.start_mark, event.end_mark))
        except ValueError:  # Python reads no integer of more than 4,300 digits
            raise self._error(event, f"cannot be read as a number: {show(text)}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._error(event, f"a number must be finite, got {printable(text, 80)}")
        return value

    def _limited(self, size: int, event: Any) -> int:
        if size > MAX_NODES:
            raise self._error(event, f"the document holds more than {MAX_NODES:,} values, aliases expanded")
        return size

    def _error(self, event: Any, message: str) -> SuiteError:
        return error_at(self.path, _mark(event), message)


def _above(nodes: Iterable[Node]) -> int:
    return 1 + max((node.height for node in nodes), default=-1)


def _mark(event: Any) -> Mark:
    return event.start_mark.line + 1, event.start_mark.column + 1


def explain(error: ValidationError, document: Document, model: type[BaseModel]) -> SuiteError:
    """Turn pydantic's findings into one line: an unknown key first (it explains a missing one), else in file order."""
    found = []
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic counts valid items alone; what is wrong with them is another finding
        where, at_key = list(item["loc"]), False
        if where[-1:] == ["[key]"]:  # pydantic's name for the key itself
            where, at_key = where[:-1], True
        unknown = item["type"] == "extra_forbidden"
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, LocatedError):
            where, at_key = [*where, *cause.where], cause.at_key
        found.append((not unknown, document.mark(where, at_key or unknown), where, at_key or unknown, item))
    _, _, where, at_key, item = min(found, key=lambda entry: entry[:2])
    return document.error(where, _explanation(item, where, model), at_key)


def _explanation(item: Any, where: Where, model: type[BaseModel]) -> str:
    kind, limits, got = item["type"], item.get("ctx", {}), f"got {show(item['input'])}"
    for key, relation in {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}.items():
        if key in limits:
            limit = limits[key]
            return f"must be {relation} {limit if isinstance(limit, int) else format(limit, 'g')}, {got}"
    match kind:
        case "extra_forbidden":
            return f"unknown key{suggestion(str(where[-1]), _keys(model, where[:-1]))}"
        case "missing":
            return "is required"
        case "value_error":
            return str(limits["error"])
        case "literal_error":
            valid = re.findall(r"'([^']*)'", limits["expected"])
            return f"unknown value {show(item['input'])}{suggestion(str(item['input']), valid)}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must be at most {limits['max_length']} characters"
    message: str = item["msg"]
    return f"{EXPECTED.get(kind) or message[:1].lower() + message[1:]}, {got}"


def _keys(model: Any, where: Where) -> list[str]:
    """Names of the keys that a mapping inside ``model`` may have."""
    for part in where:
        model = model.model_fields[part].annotation if hasattr(model, "model_fields") else get_args(model)
        if isinstance(model, tuple):  # dict[name, item] and tuple[item, ...]
            model = next(argument for argument in reversed(model) if argument is not ...)
        if get_origin(model) is Annotated:
            model = get_args(model)[0]
        if isinstance(model, UnionType):  # item | None
            model = next(argument for argument in get_args(model) if argument is not NoneType)
    return list(model.model_fields)
