"""Environment variables that command-line options set, so that worker processes read the same."""

DEBUG, VERBOSE, LOG_FILE = "PDEFM_DEBUG", "PDEFM_VERBOSE", "PDEFM_LOG_FILE"
"""Show tracebacks, log to standard error, log to this file."""
PLUGINS = "PDEFM_PLUGINS"
"""Which plugins are loaded."""
