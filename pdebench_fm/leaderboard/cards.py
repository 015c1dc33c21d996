"""Model cards, ``leaderboard/cards/<model>.yaml``: who made a model, under which licences, from which data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pdebench_fm.errors import RecordError, SuiteError, suggestion
from pdebench_fm.records.record import FileName, Record
from pdebench_fm.suite.positions import LocatedError, explain, read
from pdebench_fm.suite.scale import Model

FOLDER = "cards"
ENDING = ".yaml"


def _checked(pattern: str, expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {expected}, got {text!r}")
        return text

    return AfterValidator(check)


Line = Annotated[str, _checked(r"\S(?:[^\x00-\x1f\x7f\u2028\u2029]{0,198}\S)?", "one line of 1 to 200 characters")]
Url = Annotated[str, _checked(r"https://[!-~]{3,500}", "a link that starts with https://")]
Sha256 = Annotated[str, _checked(r"[0-9a-f]{64}", "64 hexadecimal digits")]
ArXiv = Annotated[str, _checked(r"\d{4}\.\d{4,5}(v\d+)?", 'a number such as "2306.00258"')]
Doi = Annotated[str, _checked(r"10\.\d{4,9}/[!-~]+", "a DOI such as 10.1000/182")]


class Code(Model):
    """The code of a model.

    Args:
        licence: an SPDX name, such as ``MIT``, or ``none`` if others may not use it.
    """

    licence: Line
    url: Url | None = None


class ReleasedWeights(Model):
    """Published weights.

    Args:
        licence: an SPDX name, or ``none``.
    """

    licence: Line
    url: Url
    sha256: Sha256 | None = None


class Paper(Model):
    """The paper: an arXiv number or a DOI."""

    arxiv: ArXiv | None = None
    doi: Doi | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.arxiv is None) == (self.doi is None):
            raise ValueError("must have one of arxiv and doi")
        return self

    @property
    def url(self) -> str:
        """Where it can be read."""
        return f"https://doi.org/{self.doi}" if self.doi else f"https://arxiv.org/abs/{self.arxiv}"


class Data(Model):
    """Data that released weights were trained on before they came here.

    Args:
        licence: an SPDX name.
        tasks: tasks of our suites whose equations and coefficients are in it; they are marked as seen.
    """

    name: Line
    url: Url | None = None
    licence: Line | None = None
    tasks: tuple[Line, ...] = ()


class Hardware(Model):
    """What it took to make the results: hours of a device, with pre-training and tuning."""

    device: Line
    hours: Annotated[float, Field(ge=0)]


class Card(Model):
    """The card of one model.

    Args:
        model: its name on the leaderboard; a variant such as ``unet,width=16`` shares the card of ``unet``.
        weights: of the released model; none if only suites train it.
        parameters: fitted real numbers on one of the suites.
        training_data: of released weights. What a suite trains on is in its records.
        load: how to load the model: a command or a few lines of Python.
    """

    model: FileName
    authors: Annotated[tuple[Line, ...], Field(min_length=1)]
    code: Code
    weights: ReleasedWeights | None = None
    paper: Paper | None = None
    parameters: Annotated[int, Field(ge=0)]
    training_data: tuple[Data, ...] = ()
    hardware: Hardware
    load: Annotated[str, Field(min_length=1, max_length=2000)]
    notes: Annotated[str, Field(max_length=2000)] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.weights is not None and not self.training_data:
            raise LocatedError("is required beside weights: what were they trained on?", "training_data")
        return self

    @property
    def openness(self) -> str:
        """Return e.g. ``code MIT, weights CC-BY-4.0``."""
        weights = "no weights" if self.weights is None else f"weights {self.weights.licence}"
        return f"code {self.code.licence}, {weights}"

    @property
    def seen(self) -> frozenset[str]:
        """The tasks that the released weights have seen."""
        return frozenset(task for data in self.training_data for task in data.tasks)


Cards = Mapping[str, Card]
"""Model → card."""


def card_of(cards: Cards, model: str) -> Card | None:
    """Return the card of a model or of the model that it is a variant of; None if there is none."""
    return cards.get(model) or cards.get(model.partition(",")[0])


def read_card(path: Path, records: Iterable[Record] = ()) -> Card:
    """Read a card.

    Args:
        records: of a leaderboard; if there are any, its tasks and parameters must be among them.
    """
    try:
        document = read(path)
        try:
            card = Card.model_validate_json(json.dumps(document.data))
        except ValidationError as error:
            raise explain(error, document, Card) from None
        for where, problem in _against(card, list(records)):
            raise document.error(where, problem)
    except SuiteError as error:
        raise RecordError(str(error)) from None
    return card


def _against(card: Card, records: Sequence[Record]) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """Yield (where, what) for statements that the records contradict."""
    tasks = {record.task for record in records if record.kind == "point"}
    for i, data in enumerate(card.training_data):
        for j, task in enumerate(data.tasks):
            if tasks and task not in tasks:
                yield ("training_data", i, "tasks", j), f"no suite here has a task {task!r}{suggestion(task, tasks)}"
    counts = {r.parameters for r in records if r.model == card.model and r.parameters is not None}
    if counts and not min(counts) <= card.parameters <= max(counts):
        yield ("parameters",), f"its records say {min(counts):,} to {max(counts):,}, got {card.parameters:,}"


def read_cards(folder: Path, records: Iterable[Record] = ()) -> dict[str, Card]:
    """Read all cards of a folder, by model."""
    known = list(records)
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith("."):
            continue
        card = read_card(path, known)
        if path.name != f"{card.model}{ENDING}":
            raise RecordError(f"{path}: the card of {card.model} must be {card.model}{ENDING}")
        found[card.model] = card
    return found


def card_path(directory: Path, model: str) -> Path:
    """Return where a leaderboard keeps the card of a model."""
    return directory / FOLDER / f"{model}{ENDING}"


def cards_in(run: Path) -> list[Path]:
    """Return the cards in a bundle."""
    return sorted((run / FOLDER).glob(f"*{ENDING}"))


def rows(cards: Cards) -> list[dict[str, Any]]:
    """Return the cards as rows for the page and for programs; a list within is rows or text."""
    return [
        {
            **card.model_dump(mode="json"),
            "authors": ", ".join(card.authors),
            "training_data": [{**d.model_dump(mode="json"), "tasks": ", ".join(d.tasks)} for d in card.training_data],
            "file": card_path(Path(), name).as_posix(),
            "paper_url": None if card.paper is None else card.paper.url,
        }
        for name, card in sorted(cards.items())
    ]


def template(model: str, parameters: int = 0) -> str:
    """Return a card to fill in."""
    return f"""\
# Card of {model}: save as cards/{model}{ENDING}, fill in, and delete what does not apply.
model: {json.dumps(model)}
authors: [Your Name]
code:
  licence: MIT  # an SPDX name; none if others may not use it
  url: https://example.org/code
weights:  # of a released model; delete if only suites train it
  licence: CC-BY-4.0
  url: https://example.org/weights
  sha256: "{"0" * 64}"
paper:
  arxiv: "0000.00000"  # or doi: 10.1000/182
parameters: {parameters}
training_data:  # what the released weights were trained on
  - name: name of the data set
    url: https://example.org/data
    licence: CC-BY-4.0
    tasks: []  # tasks of the suites that are in it, e.g. ["SYS-1(5,10)"]; they are marked as seen
hardware:
  device: 1 × name of the GPU
  hours: 1.5  # behind the results, with pre-training and tuning
load: pdefm run SUITE --model {model}
notes: ""
"""
