"""Everything that people put into a leaderboard, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pdebench_fm.leaderboard.audit import Verify, refusals
from pdebench_fm.leaderboard.badges import Badge, read_badges
from pdebench_fm.leaderboard.cards import FOLDER as CARDS
from pdebench_fm.leaderboard.cards import Cards, read_cards
from pdebench_fm.leaderboard.confirmations import Confirmations, load_confirmations, wrong_confirmations
from pdebench_fm.leaderboard.solvers import load_solvers
from pdebench_fm.leaderboard.store import load, located
from pdebench_fm.records.record import Record
from pdebench_fm.records.solver import SolverRecord


@dataclass(frozen=True)
class Board:
    """Everything that people put into a leaderboard.

    Args:
        stored: all records with their places, from `pdebench_fm.leaderboard.store.load`.
        badges: what was verified.
        confirmations: second measurements.
        cards: of the models.
        solvers: numerical solvers to compare with, and their places.
    """

    stored: Sequence[tuple[Path, int, Record]]
    badges: Sequence[Badge]
    confirmations: Confirmations
    cards: Cards
    solvers: Sequence[tuple[str, SolverRecord]]

    @classmethod
    def load(cls, directory: Path) -> Board:
        """Read a leaderboard.

        Raises:
            RecordError: a file is malformed.
        """
        stored = load(directory)
        confirmed = (one for _, one in load_confirmations(directory))
        records = [record for *_, record in stored]
        cards = read_cards(directory / CARDS, records)
        return cls(stored, read_badges(directory), Confirmations.of(confirmed, records), cards, load_solvers(directory))

    def wrong(self, directory: Path, verify: Verify | None) -> list[str]:
        """Return everything that is wrong with it, one line each."""
        records = [record for *_, record in self.stored]
        return [*refusals(located(directory, self.stored), verify), *wrong_confirmations(directory, records)]
