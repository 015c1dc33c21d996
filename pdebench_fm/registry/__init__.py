"""What plugins registered: discovery, and the arguments of their factories."""

from pdebench_fm.registry.discovery import KINDS, Kind, Plugin, Registry, registry

__all__ = ["KINDS", "Kind", "Plugin", "Registry", "registry"]
