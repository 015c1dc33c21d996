"""The leaderboard: committed records, and the tables that are generated from them and from nothing else.

``records/<suite>/<profile>/<model>.jsonl`` holds what was admitted; ``README.md`` and ``leaderboard.csv`` are rebuilt
from it at any time, the same bytes from the same records.
"""

from pdebench_fm.leaderboard.build import build, check
from pdebench_fm.leaderboard.standing import Planned
from pdebench_fm.leaderboard.store import RefusedError, Report, add

__all__ = ["Planned", "RefusedError", "Report", "add", "build", "check"]
