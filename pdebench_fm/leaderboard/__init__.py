"""The leaderboard: committed records, and the files that are generated only from them.

``records/<suite>/<profile>/<model>.jsonl`` holds the records. The same records always give the same ``README.md``,
``index.html``, ``leaderboard.csv`` and ``leaderboard.json``.
"""

from pdebench_fm.leaderboard.audit import Rules
from pdebench_fm.leaderboard.build import build, check
from pdebench_fm.leaderboard.store import RefusedError, Report, add

__all__ = ["RefusedError", "Report", "Rules", "add", "build", "check"]
