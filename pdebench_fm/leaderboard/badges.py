"""Which results somebody has computed again, kept in ``leaderboard/verified.json``.

A badge belongs to the content of the records: if anything in them changes, the badge no longer applies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from pdebench_fm._util.files import replacing
from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.plain import Strict, first_problem
from pdebench_fm._version import __version__
from pdebench_fm.errors import RecordError
from pdebench_fm.records.record import Record

FILE = "verified.json"

Tier = Literal["scored again", "retrained"]


class Badge(Strict):
    """What was verified of one model on one suite and profile.

    Args:
        content: hash of the records that were there, see `content_hash`.
        tier: ``scored again`` from kept weights, or ``retrained`` from nothing.
        cells: number of records computed again.
        of: number of records with a score.
        seed: drew these records. None if all were to be computed again, and in older badges.
        difference: largest relative difference of a score.
        date: when, in UTC.
        version: of this package.
    """

    suite: str
    suite_version: int
    profile: str
    model: str
    content: str
    tier: Tier
    cells: int
    of: int
    seed: str | None = None
    difference: float
    device: str
    date: str
    version: str

    @classmethod
    def of_records(
        cls,
        records: Sequence[Record],
        tier: Tier,
        cells: int,
        difference: float,
        device: str,
        seed: str | None = None,
    ) -> Badge:
        """Return the badge of records of one model that were verified now."""
        first = records[0]
        return cls(
            suite=first.suite,
            suite_version=first.suite_version,
            profile=first.profile,
            model=first.model,
            content=content_hash(records),
            tier=tier,
            cells=cells,
            of=len(records),
            seed=seed,
            difference=difference,
            device=device,
            date=datetime.now(UTC).date().isoformat(),
            version=__version__,
        )

    @property
    def group(self) -> tuple[str, int, str, str]:
        """Suite, version, profile and model."""
        return (self.suite, self.suite_version, self.profile, self.model)


_BADGES: TypeAdapter[list[Badge]] = TypeAdapter(list[Badge])


def content_hash(records: Iterable[Record]) -> str:
    """Return the SHA-256 of the lines of all records with a score; their order does not matter."""
    lines = sorted(record.line() for record in records if record.status == "ok")
    return hashlib.sha256("\n".join(lines).encode("ascii")).hexdigest()


def read_badges(directory: Path) -> list[Badge]:
    """Read the badges of a leaderboard."""
    path = directory / FILE
    if not path.is_file():
        return []
    try:
        return _BADGES.validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path}: {first_problem(error, 'content')}") from None


def add_badges(directory: Path, badges: Iterable[Badge]) -> None:
    """Add badges to a leaderboard; each replaces an earlier one of the same model, suite and profile."""
    known = {badge.group: badge for badge in read_badges(directory)} | {badge.group: badge for badge in badges}
    lines = [known[group].model_dump(mode="json", exclude_none=True) for group in sorted(known)]
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / FILE) as temporary:
        temporary.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


def badges_that_hold(badges: Iterable[Badge], records: Iterable[Record]) -> Mapping[tuple[str, int, str, str], Badge]:
    """Return the badges whose records have not changed since, by suite, version, profile and model."""
    groups = grouped(records, lambda r: (r.suite, r.suite_version, r.profile, r.model))
    return {
        badge.group: badge
        for badge in badges
        if badge.group in groups and content_hash(groups[badge.group]) == badge.content
    }
