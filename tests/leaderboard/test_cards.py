"""Model cards: a wrong one is named by file, line and column; a right one is shown."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pdebench_fm.cli.leaderboard import leaderboard
from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard import add, build, check
from pdebench_fm.leaderboard.cards import card_of, read_card, read_cards, template
from tests.support.records import append, make_suite

ROOT = Path(__file__).parents[2]
CARD = """\
model: conv-small
authors: [Ada Lovelace, Émilie du Châtelet]
code: {licence: MIT, url: "https://example.org/code"}
weights:
  licence: CC-BY-4.0
  url: https://example.org/weights
paper: {arxiv: "2306.00258"}
parameters: 67281
training_data:
  - name: Poisson data
    licence: CC0-1.0
    tasks: ["SYS-1(5,10)"]
hardware: {device: 1 GPU, hours: 2.5}
load: pdefm run SUITE --model conv-small
"""


@pytest.fixture
def board(tmp_path):
    append(tmp_path / "run" / "records.jsonl", [*make_suite(), *make_suite("conv-small,width=8", 2.0)])
    add(tmp_path / "board", [tmp_path / "run"])
    (tmp_path / "board" / "cards").mkdir()
    (tmp_path / "board" / "cards" / "conv-small.yaml").write_text(CARD, encoding="utf-8")
    return tmp_path / "board"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence: MIT", "license: MIT", r"3:8: code\.license: unknown key; did you mean 'licence'\?"),
        ("parameters: 67281", "params: 67281", r"8:1: params: unknown key; did you mean 'parameters'\?"),
        ("parameters: 67281", "parameters: many", r"8:13: parameters: must be a whole number, got 'many'"),
        ("parameters: 67281", "parameters: -1", r"8:13: parameters: must be at least 0, got -1"),
        ('"2306.00258"', "2306.00258", r"7:16: paper\.arxiv: must be text, got 2306\.00258"),
        ('"2306.00258"', '"hep-th"', r'7:16: paper\.arxiv: must be a number such as "2306\.00258"'),
        ('arxiv: "2306.00258"', 'arxiv: "2306.00258", doi: 10.1000/182', r"7:8: paper: must have one of arxiv and doi"),
        ("https://example.org/weights", "http://example.org", r"6:8: weights\.url: must be a link that starts with"),
        ("https://example.org/weights", "javascript:alert(1)", r"6:8: weights\.url: must be a link that starts with"),
        ("authors: [Ada Lovelace, Émilie du Châtelet]", "authors: []", r"2:10: authors: must not be empty"),
        ("authors: [Ada Lovelace, Émilie du Châtelet]\n", "", r"1:1: authors: is required"),
        (
            "  - name: Poisson data",
            "  - nam: Poisson data",
            r"10:5: training_data\[0\]\.nam: unknown key; did you mean",
        ),
        ("hours: 2.5", "hours: .nan", r"13:34: hardware\.hours: must be finite, got nan"),
        ("load: pdefm", "load: [pdefm", r"is not valid YAML"),
        (
            "SYS-1(5,10)",
            "SYS-1(5,11)",
            r"12:13: training_data\[0\]\.tasks\[0\]: no suite here has a task .*'SYS-1\(5,10\)'",
        ),
        ("67281", "5", r"8:13: parameters: its records say 67,281 to 67,281, got 5"),
        ("model: conv-small", "model: other", r"conv-small\.yaml: the card of other must be other\.yaml"),
    ],
)
def test_a_wrong_card_is_named_by_line_and_column(board, old, new, message):
    assert CARD.count(old) >= 1
    (board / "cards" / "conv-small.yaml").write_text(CARD.replace(old, new, 1), encoding="utf-8")
    (line,) = check(board)
    assert line.startswith(f"{board}/cards/conv-small.yaml:")
    with pytest.raises(RecordError, match=message):
        build(board)


def test_weights_come_with_what_they_were_trained_on(tmp_path):
    text = CARD[: CARD.index("training_data")] + CARD[CARD.index("hardware") :]
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=r"training_data: is required beside weights"):
        read_card(path)


def test_the_board_shows_the_card_and_marks_what_was_seen(board):
    build(board)
    assert check(board) == []
    readme = (board / "README.md").read_text(encoding="utf-8")
    assert "conv-small.jsonl), [card](cards/conv-small.yaml)" in readme
    assert "conv-small saw in its own pre-training: SYS-1(5,10)." in readme
    rows = json.loads((board / "leaderboard.json").read_text(encoding="utf-8"))
    seen = {(row["model"], row["task"]) for row in rows["cells"] if row["seen"]}
    assert seen == {("conv-small", "SYS-1(5,10)"), ("conv-small,width=8", "SYS-1(5,10)")}
    assert rows["ranking"][0]["openness"] == "code MIT, weights CC-BY-4.0"
    assert rows["cards"][0]["paper_url"] == "https://arxiv.org/abs/2306.00258"
    assert "Châtelet" in (board / "index.html").read_text(encoding="utf-8")


def test_a_model_without_a_card_says_so(board):
    (board / "cards" / "conv-small.yaml").unlink()
    build(board)
    assert "no card" in (board / "README.md").read_text(encoding="utf-8")


def test_every_model_on_our_board_has_a_card():
    cards = read_cards(ROOT / "leaderboard" / "cards")
    models = {path.stem for path in (ROOT / "leaderboard" / "records").rglob("*.jsonl")}
    assert [model for model in sorted(models) if card_of(cards, model) is None] == []


def test_the_template_is_a_card(tmp_path):
    (tmp_path / "mine,width=8.yaml").write_text(template("mine,width=8"), encoding="utf-8")
    (card,) = read_cards(tmp_path).values()
    assert card.model == "mine,width=8"
    found = CliRunner().invoke(leaderboard, ["card", "fno-64k", "--directory", str(ROOT / "leaderboard")])
    assert found.exit_code == 0, found.output
    assert "parameters: 67281" in found.output


def test_the_example_of_the_docs_is_a_card(tmp_path):
    page = (ROOT / "docs" / "submitting.md").read_text(encoding="utf-8")
    text = page.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    assert read_card(tmp_path / "card.yaml").authors
