"""Which results were computed again, kept in ``leaderboard/verified.json``.

A badge belongs to the content of the records, task by task and seed by seed: if anything in them changes, it no longer
applies, and if others join them, those need one of their own.
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
        parts: what was there, see `parts_of`.
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
    parts: dict[str, str]
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
            parts=parts_of(records),
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


def parts_of(records: Iterable[Record]) -> dict[str, str]:
    """Return for each task and seed the SHA-256 of the lines of its records with a score; their order does not matter.

    A run may do its tasks and seeds one after the other, and each can be verified when it is there.
    """
    scored = (record for record in records if record.status == "ok")
    lines = grouped(scored, lambda record: f"{record.task}, seed {record.seed}")
    texts = {part: "\n".join(sorted(record.line() for record in lines[part])) for part in sorted(lines)}
    return {part: hashlib.sha256(text.encode("ascii")).hexdigest() for part, text in texts.items()}


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
    """Add badges to a leaderboard; each replaces earlier ones of the same parts with the same content."""
    added = list(badges)
    again = {(badge.group, *part) for badge in added for part in badge.parts.items()}
    for badge in read_badges(directory):
        left = dict(part for part in badge.parts.items() if (badge.group, *part) not in again)
        added += [badge.model_copy(update={"parts": left})] if left else []
    added.sort(key=lambda badge: (badge.group, *badge.parts))
    lines = [badge.model_dump(mode="json", exclude_none=True) for badge in added]
    directory.mkdir(parents=True, exist_ok=True)
    with replacing(directory / FILE) as temporary:
        temporary.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


def badges_that_hold(badges: Iterable[Badge], records: Iterable[Record]) -> Mapping[tuple[str, int, str, str], Badge]:
    """Return the badges of results that are verified as a whole, by suite, version, profile and model.

    Several badges may cover them, each some parts. Their sum is then shown: the weaker tier and the largest difference.
    """
    kept = grouped(badges, lambda badge: badge.group)
    members = grouped(records, lambda r: (r.suite, r.suite_version, r.profile, r.model))
    found = {}
    for group in kept.keys() & members.keys():
        wanted = parts_of(members[group])
        holding = [badge for badge in kept[group] if badge.parts.items() & wanted.items()]
        if wanted.items() <= {item for badge in holding for item in badge.parts.items()}:
            found[group] = _sum(holding, wanted, sum(record.status == "ok" for record in members[group]))
    return found


def _sum(badges: Sequence[Badge], parts: dict[str, str], of: int) -> Badge:
    first, *others = badges
    if not others:
        return first
    changes = {
        "parts": parts,
        "tier": min((badge.tier for badge in badges), key=["scored again", "retrained"].index),
        "cells": min(of, sum(badge.cells for badge in badges)),
        "of": of,
        "seed": None,
        "difference": max(badge.difference for badge in badges),
        "date": max(badge.date for badge in badges),
    }
    return first.model_copy(update=changes)
