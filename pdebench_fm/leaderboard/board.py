"""Everything that people put into a leaderboard, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pdebench_fm.leaderboard.audit import NO_RULES, Located, Rules, refusals
from pdebench_fm.leaderboard.badges import Badge, badges_that_hold, read_badges
from pdebench_fm.leaderboard.cards import FOLDER as CARDS
from pdebench_fm.leaderboard.cards import Cards, read_cards
from pdebench_fm.leaderboard.confirmations import FOLDER as CONFIRMATIONS
from pdebench_fm.leaderboard.confirmations import Confirmation, Confirmations, wrong_confirmations
from pdebench_fm.leaderboard.intervals import Errors
from pdebench_fm.leaderboard.lines import misplaced, read
from pdebench_fm.leaderboard.solvers import FOLDER as SOLVERS
from pdebench_fm.leaderboard.standing import Standing, SuiteResults, group, standings
from pdebench_fm.leaderboard.store import RECORDS, load, place
from pdebench_fm.records.record import Record
from pdebench_fm.records.solver import SolverRecord


@dataclass(frozen=True)
class Board:
    """Everything that people put into a leaderboard.

    Args:
        stored: all records with their places.
        badges: what was verified.
        confirmed: second measurements, and their places.
        solvers: numerical solvers to compare with, and their places.
        suites: files of superseded suites, by name and version.
    """

    directory: Path
    stored: Sequence[Located]
    badges: Sequence[Badge] = ()
    confirmed: Sequence[tuple[str, Confirmation]] = ()
    cards: Cards = field(default_factory=dict)
    solvers: Sequence[tuple[str, SolverRecord]] = ()
    suites: Mapping[tuple[str, int], str] = field(default_factory=dict)
    rules: Rules = NO_RULES

    @classmethod
    def load(cls, directory: Path, rules: Rules = NO_RULES) -> Board:
        """Read a leaderboard."""
        stored = load(directory)
        cards = read_cards(directory / CARDS, (record for _, record in stored))
        confirmed = read(directory / CONFIRMATIONS, Confirmation)
        badges, solvers = read_badges(directory), read(directory / SOLVERS, SolverRecord)
        return cls(directory, stored, badges, confirmed, cards, solvers, _kept_suites(directory), rules)

    @property
    def records(self) -> list[Record]:
        """All records."""
        return [record for _, record in self.stored]

    @property
    def unknown_suites(self) -> list[str]:
        """Suites with results whose plan is not known, so that their models are not ranked, e.g. ``mine v1``."""
        groups = group(self.records, self.rules)
        return sorted({f"{found.suite} v{found.suite_version}" for found in groups if not found.from_suite})

    @cached_property
    def places(self) -> dict[object, tuple[str, int]]:
        """File, relative to the leaderboard's folder, and line of each record, by `Record.key`."""
        parts = ((record.key, where.rpartition(":")) for where, record in self.stored)
        return {key: (Path(file).relative_to(self.directory).as_posix(), int(line)) for key, (file, _, line) in parts}

    @cached_property
    def confirmations(self) -> Confirmations:
        """The second measurements, by what they repeat."""
        return Confirmations.of((one for _, one in self.confirmed), self.records)

    def rankings(self, errors: Errors | None = None) -> list[tuple[SuiteResults, list[Standing]]]:
        """Return every study with the ranking of its models; ``errors`` are those of the test examples, if known."""
        verified, groups = badges_that_hold(self.badges, self.records), group(self.records, self.rules)
        return [(found, standings(found, verified, self.confirmations, errors)) for found in groups]

    def wrong(self) -> list[str]:
        """Return everything that is wrong with it, one line each."""

        return [
            *misplaced(self.directory, RECORDS, self.stored, place),
            *refusals(self.stored, self.rules),
            *wrong_confirmations(self.directory, self.confirmed, self.records),
            *self.rules.check_solvers(self.solvers),
        ]


def _kept_suites(directory: Path) -> dict[tuple[str, int], str]:
    """Return the files ``suites/NAME-vVERSION.yaml``, as they are named in the repository."""
    named = ((re.fullmatch(r"(.+)-v(\d+)", file.stem), file) for file in sorted((directory / "suites").glob("*.yaml")))
    return {(name[1], int(name[2])): f"leaderboard/suites/{file.name}" for name, file in named if name}
