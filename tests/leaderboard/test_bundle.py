"""Submissions: a bundle is what `add` takes, its text says what changes, and the workflow runs none of it."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pdebench_fm.cli.leaderboard import leaderboard
from pdebench_fm.errors import RecordError, UsageError
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard import RefusedError, Rules, add, build, check
from pdebench_fm.leaderboard.bundle import submit, weights_of
from pdebench_fm.leaderboard.cards import template
from pdebench_fm.records.errors import digest, load_errors
from pdebench_fm.registry import registry
from pdebench_fm.scoring.bootstrap import interval
from tests.support.records import append, make_suite, read

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "submission.yml"


def planned(*_):
    return {record.cell for record in make_suite() if record.kind == "point"}


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def board(tmp_path):
    append(tmp_path / "there" / "records.jsonl", make_suite("old"))
    add(tmp_path / "board", [tmp_path / "there"])
    build(tmp_path / "board", Rules(planned))
    return tmp_path / "board"


@pytest.fixture
def runs(tmp_path):
    """A run of a better model, with errors of its test examples and weights."""
    values = np.linspace(0.05, 0.15, 256).astype("<f4").astype(np.float64)
    metric = registry().load("metrics", SCORE)()
    scores = {"metrics": {SCORE: float(values.mean())}, "interval": {SCORE: interval(metric, values)}}
    measured = {**scores, "errors_sha256": digest(values)}
    records = [r.model_copy(update=measured) if r.task == "SYS-1(5,10)" else r for r in make_suite("mine", 0.5)]
    output = tmp_path / "runs"
    append(output / "smoke" / "mine" / "records.jsonl", records)
    for record in records:
        if record.errors_sha256:
            (output / "jobs" / record.job_id).mkdir(parents=True)
            np.save(output / "jobs" / record.job_id / "errors.npy", values.astype("<f4"))
    chosen = output / "jobs" / records[-1].trials[0].job_id / "model"
    chosen.mkdir(parents=True)
    (chosen / "weights.safetensors").write_bytes(b"weights")
    return output


@pytest.fixture
def card(tmp_path):
    (tmp_path / "card.yaml").write_text(template("mine", 67281), encoding="utf-8")
    return tmp_path / "card.yaml"


def test_a_bundle_adds_what_its_runs_add(board, runs, card, tmp_path):
    before = contents(board)
    submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "bundle")
    assert contents(board) == before
    others = shutil.copytree(board, tmp_path / "others")
    report = add(board, [tmp_path / "bundle"])
    assert (report.added, report.cards) == (11, [str(board / "cards" / "mine.yaml")])
    add(others, [runs], cards=[card])
    assert contents(board) == contents(others)
    path = tmp_path / "bundle" / "records" / "smoke" / "smoke" / "mine.jsonl"
    hashes = [record.errors_sha256 for record in read(path) if record.errors_sha256]
    assert len(hashes) == 5
    assert load_errors(path, read(path)).keys() == {*hashes}
    build(board, Rules(planned))
    assert check(board, Rules(planned)) == []


def test_the_text_says_which_tables_change(board, runs, card, tmp_path):
    text = submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "bundle")
    assert (tmp_path / "bundle" / "PULL_REQUEST.md").read_text(encoding="utf-8") == text
    assert text.startswith("# Results of mine\n\n11 added")
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["model", "rank", "score"]
    assert rows[2][:2] == ["mine (new)", "1"]
    assert rows[3][:2] == ["old", "1 → 2"]
    assert "- mine: code MIT, weights CC-BY-4.0" in text


def test_a_repeated_result_is_submitted_as_a_confirmation(board, tmp_path):
    slower = [r.model_copy(update={"threads": 9}) for r in make_suite("old")]
    off = slower[0].metrics["relative_l2"] * 1.5
    scores = {"metrics": {"relative_l2": off}, "interval": {"relative_l2": (0.9 * off, 1.1 * off)}}
    append(tmp_path / "again" / "records.jsonl", [slower[0].model_copy(update=scores), *slower[1:]])
    (tmp_path / "old.yaml").write_text(template("old", 67281), encoding="utf-8")
    add(board, [tmp_path / "there"], cards=[tmp_path / "old.yaml"])
    text = submit(board, [tmp_path / "again"], Rules(planned))
    assert "11 confirming" in text
    assert "– → 10 of 11 results, 1 apart" in text
    assert "## Beyond the spread\n\n- smoke, old, poisson, pretraining, N = 1024, seed 0: 50% apart on cpu" in text


def test_what_add_refuses_submit_refuses_and_nothing_is_written(board, runs, card, tmp_path):
    path = runs / "smoke" / "mine" / "records.jsonl"
    path.write_text(path.read_text().replace('"relative_l2": [', '"relative_l2": [0, ', 1))
    with pytest.raises(RecordError, match=r"records\.jsonl:1: "):
        submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "bundle")
    other = [record.model_copy(update={"data_seed": 1}) for record in make_suite("mine")]
    path.write_text("".join(record.line() + "\n" for record in other))
    with pytest.raises(RefusedError, match=rf"nothing submitted: {path}:1: data_seed is 1, its job says 0") as caught:
        submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "bundle")
    assert str(board / "records") in "\n".join(caught.value.refused)  # not a copy of it
    assert not (tmp_path / "bundle").exists()


def test_a_model_needs_a_card_and_a_submission_something_new(board, runs, card, tmp_path):
    with pytest.raises(RefusedError, match=r"records\.jsonl:1: mine has no card; write one with"):
        submit(board, [runs], Rules(planned))
    card.write_text("model: mine\nauthor: [me]\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"card\.yaml:2:1: author: unknown key; did you mean 'authors'\?"):
        submit(board, [runs], Rules(planned), cards=[card])
    with pytest.raises(RefusedError, match="already at"):
        submit(board, [tmp_path / "there"], Rules(planned))


def test_weights_are_named_by_their_hash_and_come_along_if_asked(board, runs, card, tmp_path):
    with pytest.raises(UsageError, match="must be a link"):
        weights_of([runs], "ftp://example.org", False)
    linked = weights_of([runs], "https://example.org/w", False)
    submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "linked", weights=linked)
    (row,) = json.loads((tmp_path / "linked" / "weights.json").read_text())
    assert (row["bytes"], row["url"]) == (7, "https://example.org/w")
    assert row["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert not (tmp_path / "linked" / "weights").exists()
    inside = weights_of([runs], None, True)
    submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "b.zip", weights=inside)
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.read(row["file"]) == b"weights"
        assert "PULL_REQUEST.md" in archive.namelist()
    shutil.rmtree(runs / "jobs")
    with pytest.raises(UsageError, match="the runs have no weights"):
        weights_of([runs], None, True)


def test_nothing_is_overwritten(board, runs, card, tmp_path):
    (tmp_path / "bundle").mkdir()
    submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "bundle")
    with pytest.raises(UsageError, match="bundle: is there already"):
        submit(board, [runs], Rules(planned), cards=[card], output=tmp_path / "bundle")


def test_the_command_prints_the_text_and_every_refusal(board, runs, card, tmp_path):
    at = ["--directory", str(board)]
    more = ["--card", str(card), "--output", str(tmp_path / "b"), "--weights-url", "https://example.org/w"]
    found = CliRunner().invoke(leaderboard, ["submit", str(runs), *more, *at])
    assert found.exit_code == 0, found.output
    assert found.stdout == (tmp_path / "b" / "PULL_REQUEST.md").read_text(encoding="utf-8")
    assert "Weights: 1 files, https://example.org/w" in found.stdout
    add(board, [tmp_path / "b"])
    found = CliRunner().invoke(leaderboard, ["submit", str(tmp_path / "b"), *at])
    assert isinstance(found.exception, RefusedError)
    assert found.stderr.count("already at") == 10  # the error itself says the first


@pytest.fixture(scope="module")
def workflow():
    return YAML(typ="safe", pure=True).load(WORKFLOW.read_text(encoding="utf-8"))


def test_the_workflow_can_only_read_and_has_no_secrets(workflow):
    assert set(workflow["on"]) == {"pull_request"}  # pull_request_target would have a token that writes
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert "timeout-minutes" in job
    text = WORKFLOW.read_text(encoding="utf-8")
    assert "${{ secrets" not in text
    assert "github.token" not in text.lower()


def test_the_workflow_runs_nothing_of_the_submission(workflow):
    (job,) = workflow["jobs"].values()
    checkouts = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert [checkout["path"] for checkout in checkouts] == ["base", "head"]
    assert "base.sha" in checkouts[0]["ref"]
    assert all(checkout["persist-credentials"] is False for checkout in checkouts)
    actions = {step["uses"].split("@")[0] for step in job["steps"] if "uses" in step}
    assert actions == {"actions/checkout", "actions/setup-python"}  # none from the submission, such as ./head/…
    for step in job["steps"]:
        script = step.get("run", "")
        assert "${{" not in script  # a branch or folder may have a name that is a command
        if "pip" in script or "python" in script or "pdefm" in script:
            assert step["working-directory"] == "base"
    (install,) = [step["run"] for step in job["steps"] if "pip install" in step.get("run", "")]
    assert "head" not in install
    commands = [line for step in job["steps"] for line in step.get("run", "").splitlines() if "head/" in line]
    assert {line.split()[0] for line in commands} == {"if", "pdefm"}
    assert not any(word in line for line in commands for word in ("--suite", "--pretrained", "verify", "PYTHONPATH"))


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head: None, ""),
        (lambda head: (head / "submissions" / "mine" / "card.yaml").unlink(), ""),  # a maintainer, after it was added
        (lambda head: (head / "setup.py").write_text("x"), "changes files in submissions/NAME/ only"),
        (lambda head: (head / "verified.json").rename(head / "submissions" / "mine" / "x"), "NAME/ only"),
        (lambda head: (head / "submissions" / "flat").write_text("x"), "changes files in submissions/NAME/ only"),
        (lambda head: (head / "submissions" / "mine" / "link").symlink_to("/etc/passwd"), "has no links"),
        (lambda head: os.truncate(head / "submissions" / "mine" / "card.yaml", 21 << 20), "above 20 MB"),
    ],
)
def test_the_workflow_refuses_other_files_links_and_large_files(workflow, tmp_path, change, message):
    refused = what_the_workflow_refuses(workflow, tmp_path, "CONTRIBUTOR", change)
    assert message in refused if message else not refused


def test_only_a_maintainer_may_change_other_files_while_removing_submissions(workflow, tmp_path):
    def merge(head):
        (head / "submissions" / "mine" / "card.yaml").unlink()
        (head / "verified.json").write_text("{}")

    for author, message in (("CONTRIBUTOR", "changes files in submissions/NAME/ only"), ("OWNER", "")):
        (tmp_path / author).mkdir()
        assert message in (found := what_the_workflow_refuses(workflow, tmp_path / author, author, merge))
        assert bool(message) == bool(found)


def what_the_workflow_refuses(workflow, folder, author, change):
    """The error of its step that looks at the changed files; empty if it passes."""
    head = folder / "head"
    (head / "submissions" / "mine").mkdir(parents=True)
    git(head, "init")
    (head / "submissions" / "mine" / "card.yaml").write_text("model: mine\n")
    (head / "verified.json").write_text("[]")
    git(head, "add", "-A")
    git(head, "commit", "-m", "base")
    (head / "submissions" / "mine" / "card.yaml").write_text("model: mine\nauthors: [me]\n")
    change(head)
    git(head, "add", "-A")
    git(head, "commit", "-m", "a submission")
    (job,) = workflow["jobs"].values()
    (script,) = [step["run"] for step in job["steps"] if step["name"].startswith("Refuse")]
    variables = {**os.environ, "RUNNER_TEMP": str(folder), "AUTHOR": author}
    done = subprocess.run(["bash", "-e", "-c", script], cwd=head, env=variables, capture_output=True, text=True)
    assert (done.returncode == 0) == (not done.stdout)
    return done.stdout
