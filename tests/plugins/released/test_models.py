"""Released networks as models: identity, notes, adapters, and the arms of a run."""

from __future__ import annotations

import shutil

import pytest
import torch
from pdefm_released.adapter import spectral

from pdebench_fm import evaluate
from pdebench_fm.errors import DataFileError, PdefmError
from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.plan.model import model_spec
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry.arguments import call
from pdebench_fm.registry.discovery import registry
from pdebench_fm.testing.examples import SmoothExamples
from tests.plugins.released.families import FAMILIES, FIXTURES

MODELS = {
    "poseidon": {"checkpoint": str(FIXTURES / "poseidon")},
    "dpot": {"checkpoint": str(FIXTURES / "dpot")},
    "mpp": {"checkpoint": str(FIXTURES / "mpp")},
    "morph": {"checkpoint": str(FIXTURES / "morph"), "heads": 2, "heads_xa": 4},
    "pde-transformer": {"checkpoint": str(FIXTURES / "pdetransformer")},
    "pde-transformer-sc": {"checkpoint": str(FIXTURES / "pdetransformer_sc")},
}
EACH = pytest.mark.parametrize("name", MODELS)
OTHERS = ("head-only", "frozen-body", "lora", "in-context")
SOURCE, SOLUTION = Channel("source"), Channel("solution")
CONSTANTS = tuple(Channel(name, "constant") for name in ("k11", "k22", "k12", "v1", "v2"))


def problem(constants=3, outputs=(SOLUTION,), size=16):
    return Problem((SOURCE, *CONSTANTS[:constants]), outputs, Grid(size), homogeneous=True)


def made(name, **overrides):
    spec = model_spec(registry(), name, MODELS[name] | overrides)
    return spec.make(registry())


@EACH
def test_a_checkpoint_is_identified_by_its_content(name, tmp_path):
    spec = model_spec(registry(), name, MODELS[name])
    fixture = FIXTURES / MODELS[name]["checkpoint"].rpartition("/")[2]
    copy = tmp_path / "elsewhere"
    shutil.copytree(fixture, copy)
    moved = model_spec(registry(), name, MODELS[name] | {"checkpoint": str(copy)})
    assert moved.describe() == spec.describe()
    assert str(tmp_path) not in str(moved.describe())
    assert str(tmp_path) not in moved.name
    model = moved.make(registry())
    file = model._file()
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    assert model_spec(registry(), name, MODELS[name] | {"checkpoint": str(copy)}).describe() != spec.describe()


def test_the_name_of_a_file_is_part_of_the_identity_only_if_it_changes_predictions(tmp_path):
    def fingerprint(file):
        spec = model_spec(registry(), "morph", MODELS["morph"] | {"checkpoint": str(file)})
        return spec.make(registry()).fingerprint()

    family = FAMILIES["morph"]
    tensors = {name.removeprefix("module."): tensor for name, tensor in family.tensors().items()}
    for frames, same in ((1, True), (2, False)):
        tensors["pos_encoding.pos_embedding"] = torch.randn(1, frames, 48, 16)
        files = [tmp_path / f"{frames}" / name for name in ("morph-S-FM.pth", "weights.pth")]
        files[0].parent.mkdir()
        torch.save(tensors, files[0])
        shutil.copy(*files)
        assert (fingerprint(files[0]) == fingerprint(files[1])) == same


def test_the_configuration_is_part_of_the_identity(tmp_path):
    shutil.copytree(FIXTURES / "poseidon", tmp_path / "copy")
    before = model_spec(registry(), "poseidon", {"checkpoint": str(tmp_path / "copy")})
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text().replace('"window_size": 4', '"window_size": 2'))
    after = model_spec(registry(), "poseidon", {"checkpoint": str(tmp_path / "copy")})
    assert before.describe() != after.describe()


@EACH
def test_a_checkpoint_that_is_missing_is_named(name, tmp_path):
    with pytest.raises(DataFileError, match="no such file or folder"):
        model_spec(registry(), name, {"checkpoint": str(tmp_path / "nothing")})
    with pytest.raises(PdefmError, match="checkpoint: is required"):
        model_spec(registry(), name)


@EACH
def test_notes_say_what_was_assumed(name):
    model = made(name)
    model.release(problem(), SmoothExamples(problem(), 4), 0)
    notes = model.notes()
    assert {"family", "checkpoint", "code", "weights", "pre-training data", "resampling", "normalisation"} <= set(notes)
    assert "boundaries" in notes
    assert "history" in notes
    assert model.fingerprint()[:64] in notes["checkpoint"]


@EACH
def test_released_weights_are_used_and_fresh_ones_differ(name):
    data = SmoothExamples(problem(), 4)
    released, again, fresh, other = made(name), made(name), made(name), made(name)
    released.release(problem(), data, 0)
    again.release(problem(), data, 1)
    fresh.initialise(problem(), data, 0)
    other.initialise(problem(), data, 1)
    published = dict(released._released().named_parameters())
    kept = dict(released.network.network.named_parameters())
    same = [key for key in kept if kept[key].shape == published[key].shape and torch.equal(kept[key], published[key])]
    assert len(same) >= len(published) - 5
    assert "fresh weights" in fresh.notes()["checkpoint"]
    changed = [key for key, value in fresh.network.network.named_parameters() if key in same and value.ndim > 1]
    assert all(not torch.equal(fresh.network.network.get_parameter(key), kept[key]) for key in changed)
    assert any(
        not torch.equal(fresh.network.network.get_parameter(key), other.network.network.get_parameter(key))
        for key in changed
    )


@EACH
@pytest.mark.parametrize(("constants", "outputs"), [(0, 1), (1, 2), (5, 1)])
def test_any_number_of_channels_and_every_one_counts(name, constants, outputs):
    own = problem(constants, (SOLUTION, Channel("pressure"))[:outputs])
    data = SmoothExamples(own, 4)
    model = made(name)
    model.release(own, data, 0)
    inputs, _ = data.batch(range(2))
    before = model.predict(own, inputs)
    assert set(before) == set(own.output_names)
    for key in own.input_names:
        changed = {**inputs, key: inputs[key] * 1.5 + 0.1}
        after = model.predict(own, changed)
        assert all((after[out] - before[out]).abs().max() > 0 for out in own.output_names), key
        assert all(value.isfinite().all() for value in after.values())


@EACH
def test_embedding_and_head_exist(name):
    model = made(name)
    model.release(problem(), SmoothExamples(problem(), 2), 0)
    modules, weights = dict(model.network.named_modules()), dict(model.network.named_parameters())
    for part in ("embedding", "head"):
        assert all(each in modules or each in weights for each in model.parts()[part])


@EACH
def test_results_are_read_back_only_with_their_checkpoint(name, tmp_path):
    model = made(name)
    data = SmoothExamples(problem(), 4)
    model.release(problem(), data, 0)
    context = FitContext(tmp_path / "work")
    (tmp_path / "work").mkdir()
    model.fit(data, data, Budget(None, 2, 2), TrialSettings({"learning_rate": 1e-3}, 0), context)
    (tmp_path / "kept").mkdir()
    model.save(tmp_path / "kept")
    again = made(name)
    again.load(tmp_path / "kept")
    inputs, _ = data.batch(range(2))
    assert torch.equal(again.predict(problem(), inputs)["solution"], model.predict(problem(), inputs)["solution"])
    other = call(
        registry().load("models", "dpot" if name != "dpot" else "mpp"), MODELS["dpot" if name != "dpot" else "mpp"]
    )
    with pytest.raises(DataFileError, match="made from another checkpoint"):
        other.load(tmp_path / "kept")


def test_results_are_read_back_if_the_checkpoint_has_no_tables_of_positions(tmp_path):
    family = FAMILIES["pdetransformer_sc"]
    path = family.rewritten(tmp_path, {name: t for name, t in family.tensors().items() if ".relative_" not in name})
    model, again = (made("pde-transformer-sc", checkpoint=str(path), window_size=8) for _ in range(2))
    data = SmoothExamples(problem(), 2)
    model.release(problem(), data, 0)
    model.save(tmp_path)
    again.load(tmp_path)
    inputs, _ = data.batch(range(2))
    assert torch.equal(again.predict(problem(), inputs)["solution"], model.predict(problem(), inputs)["solution"])


def test_notes_are_true_of_the_problem_and_the_checkpoint():
    def notes(name, grid):
        model, own = made(name), Problem((SOURCE,), (SOLUTION,), grid)
        model.release(own, SmoothExamples(own, 2), 0)
        return model.notes()

    assert "Fourier" in notes("poseidon", Grid(16))["size"]
    assert notes("poseidon", Grid(16, periodic=False))["size"] == "32²"
    assert notes("dpot", Grid(16))["prediction"] == "one frame"
    assert notes("morph", Grid(16))["positions"] == "of one frame"


def test_a_morph_without_room_refuses():
    many = Problem((SOURCE,), tuple(Channel(f"u{i}") for i in range(10)), Grid(16))
    assert made("morph").supports(many) == "this MORPH predicts 3 fields of 3 components, not 10"
    assert made("morph").supports(problem()) is None


@pytest.mark.parametrize(
    ("name", "replaced"), [("morph", "none"), ("pde-transformer-sc", "3 new rows of channel_type")]
)
def test_there_may_be_more_inputs_than_the_checkpoint_has_slots(name, replaced):
    own = Problem((SOURCE, *(Channel(f"c{i}", "constant") for i in range(21))), (SOLUTION,), Grid(16))
    data = SmoothExamples(own, 2)
    model, again = made(name), made(name)
    assert model.supports(own) is None
    model.release(own, data, 0)
    again.release(own, data, 0)
    assert model.notes()["replaced layers"].startswith(replaced)
    inputs, _ = data.batch(range(2))
    before = model.predict(own, inputs)["solution"]
    assert before.equal(again.predict(own, inputs)["solution"])
    for last in ("source", "c20"):
        assert not before.equal(model.predict(own, {**inputs, last: inputs[last] * 1.5 + 0.1})["solution"])


def test_periodic_fields_keep_their_waves_when_resampled():
    def wave(n):
        x = torch.arange(n) / n
        return (torch.sin(2 * torch.pi * 3 * x)[:, None] * torch.cos(2 * torch.pi * 2 * x) + 0.5)[None]

    for n, size in ((16, 24), (24, 16), (15, 20), (20, 15), (16, 17)):
        torch.testing.assert_close(spectral(wave(n), size), wave(size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("resampling", ["spectral", "bilinear"])
def test_the_resampling_can_be_chosen(resampling):
    own = problem(size=24)
    model = made("dpot", resampling=resampling)
    model.release(own, SmoothExamples(own, 2), 0)
    assert model.notes()["resampling"] == f"{resampling}, 24² to 32² and back"


def test_the_suite_ends_in_a_table_with_every_arm(tmp_path):
    """Scores of random weights say nothing; the run shows that each arm works. CI runs more families."""
    result = evaluate(
        "morph", "released", "smoke", arguments=MODELS["morph"], tasks=["SYS-3(1,5)"], output=tmp_path, progress=False
    )
    statuses = {record.protocol: record.status for record in result.records}
    assert set(statuses.values()) == {"ok"}
    assert set(statuses) == {"fine-tune", "fine-tune-native", *OTHERS, "last-layer-ridge", "scratch"}
    notes = {record.protocol: record.notes for record in result.records if record.status == "ok"}
    assert "recipe" in notes["fine-tune-native"]
    assert "recipe" not in notes["fine-tune"]
    assert all("pre-training data" in each for each in notes.values())
    assert all(record.under_trained for record in result.records)
