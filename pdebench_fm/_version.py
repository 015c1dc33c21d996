"""The version of the package. It has a room of its own, so that no room imports the package as a whole."""

__version__ = "0.1.0"
