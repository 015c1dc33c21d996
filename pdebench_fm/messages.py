"""Text for people: what they wrote, shown safely, and what was expected instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EXPECTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
"""What pydantic's error types say, in our words."""


def printable(text: str, limit: int = 200) -> str:
    """Return the text with control characters escaped, cut to ``limit`` characters: safe on one line of a terminal."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def show(value: Any) -> str:
    """Return a value as an error message prints it: short, on one line, lists as YAML writes them."""
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item) for item in value[:9]) + (", …]" if len(value) > 9 else "]")
    elif isinstance(value, Mapping):
        text = "a mapping"
    elif value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int) and abs(value) >= 10**30:
        text = "a number beyond 1e30"
    else:
        text = repr(value)
    return printable(text, 80)
