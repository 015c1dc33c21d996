"""The registry of the installed plugins plus the toy model."""

from __future__ import annotations

from pdebench_fm.registry.discovery import Registry, registry
from tests.support.toy import TOY


def with_toy() -> Registry:
    return registry().with_model(TOY)
