"""Everything that people put into a leaderboard, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pdebench_fm.leaderboard.audit import NO_RULES, Rules, refusals
from pdebench_fm.leaderboard.badges import Badge, badges_that_hold, read_badges
from pdebench_fm.leaderboard.cards import FOLDER as CARDS
from pdebench_fm.leaderboard.cards import Cards, read_cards
from pdebench_fm.leaderboard.confirmations import FOLDER as CONFIRMATIONS
from pdebench_fm.leaderboard.confirmations import Confirmation, Confirmations, wrong_confirmations
from pdebench_fm.leaderboard.evidence import errors_of
from pdebench_fm.leaderboard.intervals import Errors
from pdebench_fm.leaderboard.lines import misplaced, read
from pdebench_fm.leaderboard.solvers import FOLDER as SOLVERS
from pdebench_fm.leaderboard.standing import Standing, SuiteResults, group, standings
from pdebench_fm.leaderboard.store import RECORDS, load, located, order, relative_path
from pdebench_fm.records.record import Record
from pdebench_fm.records.solver import SolverRecord


@dataclass(frozen=True)
class Board:
    """Everything that people put into a leaderboard.

    Args:
        stored: all records with their places, from `pdebench_fm.leaderboard.store.load`.
        badges: what was verified.
        confirmed: second measurements, and their places.
        solvers: numerical solvers to compare with, and their places.
        suites: files of superseded suites, by name and version.
    """

    directory: Path
    stored: Sequence[tuple[Path, int, Record]]
    badges: Sequence[Badge]
    confirmed: Sequence[tuple[str, Confirmation]]
    cards: Cards
    solvers: Sequence[tuple[str, SolverRecord]]
    suites: Mapping[tuple[str, int], str]
    rules: Rules

    @classmethod
    def load(cls, directory: Path, rules: Rules = NO_RULES) -> Board:
        """Read a leaderboard."""
        stored = load(directory)
        records = [record for *_, record in stored]
        cards = read_cards(directory / CARDS, records)
        confirmed = read(directory / CONFIRMATIONS, Confirmation)
        badges, solvers = read_badges(directory), read(directory / SOLVERS, SolverRecord)
        return cls(directory, stored, badges, confirmed, cards, solvers, _kept_suites(directory), rules)

    @cached_property
    def confirmations(self) -> Confirmations:
        """The second measurements, by what they repeat."""
        return Confirmations.of((one for _, one in self.confirmed), (record for *_, record in self.stored))

    def errors(self) -> Errors:
        """Read the errors of the test examples, as far as they are kept, by their hash."""
        return errors_of(located(self.directory, self.stored))

    def rankings(self, errors: Errors | None = None) -> list[tuple[SuiteResults, list[Standing]]]:
        """Return every study with the ranking of its models; ``errors`` are those of the test examples, if known."""
        records = [record for *_, record in self.stored]
        verified = badges_that_hold(self.badges, records)
        return [(found, standings(found, verified, self.confirmations, errors)) for found in group(records, self.rules)]

    def wrong(self) -> list[str]:
        """Return everything that is wrong with it, one line each."""
        records = [record for *_, record in self.stored]
        stored = located(self.directory, self.stored)
        return [
            *misplaced(self.directory / RECORDS, stored, lambda one: (self.directory / relative_path(one), order(one))),
            *refusals(stored, self.rules),
            *wrong_confirmations(self.directory, self.confirmed, records),
            *self.rules.check_solvers(self.solvers),
        ]


def _kept_suites(directory: Path) -> dict[tuple[str, int], str]:
    """Return the files ``suites/NAME-vVERSION.yaml``, as they are named in the repository."""
    named = ((re.fullmatch(r"(.+)-v(\d+)", file.stem), file) for file in sorted((directory / "suites").glob("*.yaml")))
    return {(name[1], int(name[2])): f"leaderboard/suites/{file.name}" for name, file in named if name}
