"""Submissions: a bundle of records, errors, cards and weights, and what it changes on a leaderboard."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdebench_fm.errors import UsageError
from pdebench_fm.leaderboard.audit import NO_RULES, Located, Rules, repeated
from pdebench_fm.leaderboard.badges import FILE as BADGES
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.cards import FOLDER as CARDS
from pdebench_fm.leaderboard.cards import Cards, card_of, card_path
from pdebench_fm.leaderboard.confirmations import FOLDER as CONFIRMATIONS
from pdebench_fm.leaderboard.standing import Standing, SuiteResults
from pdebench_fm.leaderboard.store import RefusedError, Report, add, write
from pdebench_fm.records.file import collect, file_of, jobs_of
from pdebench_fm.records.record import Record
from pdebench_fm.tables.wording import escape_markdown, markdown, number

TEXT, WEIGHTS = "PULL_REQUEST.md", "weights.json"


@dataclass(frozen=True)
class KeptWeights:
    """Files of weights behind the records of a submission.

    Args:
        files: on disk, by their name in the bundle.
        url: where others find them; None if they are in the bundle or nowhere.
        included: whether they are in the bundle.
    """

    files: dict[str, Path]
    url: str | None
    included: bool

    def rows(self) -> list[dict[str, object]]:
        """Return name, size, SHA-256 and link of each file."""
        return [
            {"file": name, "bytes": path.stat().st_size, "sha256": _sha256(path), "url": self.url}
            for name, path in sorted(self.files.items())
        ]


def weights_of(runs: Sequence[Path], url: str | None, included: bool) -> KeptWeights:
    """Return the weights that the points in some runs chose."""
    if url is not None and not url.startswith("https://"):
        raise UsageError(f"--weights-url: must be a link that starts with https://, got {url!r}")
    files = {}
    for where, record in collect(runs):
        for job_id in (trial.job_id for trial in record.trials):
            folder = jobs_of(file_of(where)) / job_id / "model"
            found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
            files.update({f"weights/{job_id}/{path.relative_to(folder).as_posix()}": path for path in found})
    if included and not files:
        raise UsageError("--with-weights: the runs have no weights in jobs/<id>/model")
    return KeptWeights(files, url, included)


def submit(
    directory: Path,
    runs: Sequence[Path],
    rules: Rules = NO_RULES,
    *,
    cards: Sequence[Path] = (),
    output: Path | None = None,
    weights: KeptWeights | None = None,
) -> str:
    """Add runs to a copy of a leaderboard, and return the text of a pull request. The leaderboard stays as it is.

    Args:
        runs: as `pdebench_fm.leaderboard.add` takes them; a bundle is one.
        output: folder or ``.zip`` file to write the bundle to; none by default.
    """
    if output is not None and (output.is_file() or (output.is_dir() and any(output.iterdir()))):
        raise UsageError(f"{output}: is there already")
    incoming = collect(runs)
    if twice := [f"{where}: {what}" for where, what in repeated(incoming)]:
        raise RefusedError("nothing submitted", twice)
    with tempfile.TemporaryDirectory(prefix="pdefm-submit-") as temporary:
        copy = Path(temporary) / "board"
        _copy(directory, copy)
        before = Board.load(copy, rules)
        try:
            report = add(copy, runs, rules, cards=cards)
        except RefusedError as error:
            lines = [line.replace(str(copy), str(directory)) for line in error.refused]
            raise RefusedError("nothing submitted", lines) from None
        after = Board.load(copy, rules)
        _refuse(report, incoming, after.cards)
        text = _text(before, after, report, incoming, weights)
        if output is not None:
            bundle = Path(temporary) / "bundle"
            models = {card.model for _, record in incoming if (card := card_of(after.cards, record.model))}
            kept = {card_path(bundle, model): card_path(copy, model).read_bytes() for model in models}
            write(bundle, incoming, (), {**kept, bundle / TEXT: text.encode("utf-8")})
            _write_weights(bundle, weights)
            _move(bundle, output)
    return text


def _copy(directory: Path, copy: Path) -> None:
    """Copy what people put into a leaderboard, without the files that are generated from it."""
    copy.mkdir()
    for name in ("records", CONFIRMATIONS, CARDS):
        if (directory / name).is_dir():
            shutil.copytree(directory / name, copy / name)
    if (directory / BADGES).is_file():
        shutil.copy2(directory / BADGES, copy / BADGES)


def _refuse(report: Report, incoming: Sequence[Located], cards: Cards) -> None:
    if not (report.added or report.replaced or report.confirming or report.cards):
        raise RefusedError("nothing submitted", report.skipped)
    bare = {record.model: where for where, record in reversed(incoming) if card_of(cards, record.model) is None}
    if bare:
        hint = "has no card; write one with `pdefm leaderboard card` and give it as --card"
        raise RefusedError("nothing submitted", [f"{where}: {model} {hint}" for model, where in bare.items()])


def _write_weights(bundle: Path, weights: KeptWeights | None) -> None:
    if weights is None or not weights.files:
        return
    (bundle / WEIGHTS).write_text(json.dumps(weights.rows(), indent=1) + "\n", encoding="utf-8")
    for name, path in weights.files.items() if weights.included else ():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, bundle / name)


def _move(bundle: Path, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".zip":
        shutil.move(shutil.make_archive(str(bundle), "zip", bundle), output)
        return
    if output.is_dir():  # it is empty
        output.rmdir()
    shutil.move(bundle, output)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(
    before: Board,
    after: Board,
    report: Report,
    incoming: Sequence[Located],
    weights: KeptWeights | None,
) -> str:
    """Return the text of a pull request, in Markdown."""
    models = sorted({record.model for _, record in incoming})
    parts = [f"# Results of {escape_markdown(', '.join(models))}\n", f"{report.summary()}.\n"]
    old, new = _rankings(before), _rankings(after)
    for study, (found, ranking) in new.items():
        if changes := list(_changes(old.get(study, (found, []))[1], ranking)):
            rows = [{key: escape_markdown(text) for key, text in row.items()} for row in changes]
            parts.append(f"## {escape_markdown(study)}\n\n{markdown(rows, left=1)}\n")
    flagged = list(_apart(after, (record for _, record in incoming)))
    if flagged:
        parts.append("## Beyond the spread\n\n" + "".join(f"- {escape_markdown(line)}\n" for line in flagged))
    cards = {card.model: card for model in models if (card := card_of(after.cards, model)) is not None}
    parts.append("## Cards\n\n" + "".join(f"- {escape_markdown(f'{m}: {c.openness}')}\n" for m, c in cards.items()))
    if weights is not None and weights.files:
        place = "in the bundle" if weights.included else weights.url or "not published"
        parts.append(f"Weights: {len(weights.files)} files, {escape_markdown(place)}; SHA-256 in `{WEIGHTS}`.\n")
    return "\n".join(parts)


def _rankings(board: Board) -> dict[str, tuple[SuiteResults, list[Standing]]]:
    return {f"{one.suite} v{one.suite_version}, profile {one.profile}": (one, of) for one, of in board.rankings()}


def _shown(standing: Standing | None) -> dict[str, str]:
    """Return what a table shows of a model's standing."""
    if standing is None:
        return dict.fromkeys(("rank", "score", "gain", "confirmed by"), "–")
    return {
        "rank": "–" if standing.rank is None else str(standing.rank),
        "score": number(standing.score) if standing.score is not None else f"none: {standing.reason}",
        "gain": number(standing.gain) if standing.gain is not None else "–",
        "confirmed by": str(standing.confirmed),
    }


def _changes(old: Sequence[Standing], new: Sequence[Standing]) -> Iterator[dict[str, str]]:
    """Yield a row for each model whose row of the table changes, with ``before → now`` where it does."""
    known = {standing.model: standing for standing in old}
    for standing in new:
        was, now = _shown(known.get(standing.model)), _shown(standing)
        if standing.model not in known:
            yield {"model": f"{standing.model} (new)", **now}
        elif was != now:
            row = {key: now[key] if was[key] == now[key] else f"{was[key]} → {now[key]}" for key in now}
            yield {"model": standing.model, **row}


def _apart(board: Board, records: Iterable[Record]) -> Iterator[str]:
    """Yield second measurements of these jobs that are too far from the first."""
    firsts = {record.key: record for record in board.records}
    for key in dict.fromkeys(record.key for record in records):
        first = firsts[key]
        for one, apart in board.confirmations.of_record(first):
            if apart:
                how_far = "another outcome" if one.difference is None else f"{100 * one.difference:.3g}% apart"
                yield f"{first.suite}, {first.model}, {first.cell}: {how_far} on {one.device or 'an unknown device'}"
