"""What is wrong with a file of weights is said in one line that names it."""

import pickle
import shutil

import pytest
import torch

from pdebench_fm.errors import DataFileError
from tests.plugins.released.families import FAMILIES

EACH = pytest.mark.parametrize("name", FAMILIES)


def refusal(family, path):
    with pytest.raises(DataFileError) as caught:
        family.load(path, **family.arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400 + 2 * len(str(path))
    return message


@EACH
def test_a_truncated_file(name, tmp_path):
    family = FAMILIES[name]
    path = family.rewritten(tmp_path, family.tensors())
    for kept in (0, 100, path.stat().st_size // 2, path.stat().st_size - 5):
        (tmp_path / "cut").mkdir(exist_ok=True)
        cut = tmp_path / "cut" / path.name
        cut.write_bytes(path.read_bytes()[:kept])
        for file in tmp_path.glob("*.json"):
            (tmp_path / "cut" / file.name).write_bytes(file.read_bytes())
        assert str(cut) in refusal(family, cut)


@EACH
def test_every_missing_tensor_is_named(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    unread = max(1, len(tensors) // 12)
    for missing in list(tensors)[::unread]:
        path = family.rewritten(tmp_path, {other: tensors[other] for other in tensors if other != missing})
        said = refusal(family, path)
        bare = missing.removeprefix("module.").removeprefix("model.")
        assert bare in said or "missing" in said, said


@EACH
def test_a_surplus_tensor(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    prefix = next((prefix for prefix in ("module.", "model.") if next(iter(tensors)).startswith(prefix)), "")
    tensors[prefix + "extra_head.weight"] = torch.zeros(3)
    assert "extra_head.weight" in refusal(family, family.rewritten(tmp_path, tensors))


@EACH
def test_weights_that_are_not_finite(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    last = [each for each in tensors if tensors[each].is_floating_point()][-1]
    tensors[last] = torch.full_like(tensors[last], torch.nan)
    said = refusal(family, family.rewritten(tmp_path, tensors))
    assert last.removeprefix("module.").removeprefix("model.") in said
    assert "not finite" in said


@EACH
def test_a_tensor_of_another_shape(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    last = list(tensors)[-1]
    tensors[last] = torch.zeros(*tensors[last].shape, 2)
    assert last.removeprefix("module.").removeprefix("model.") in refusal(family, family.rewritten(tmp_path, tensors))


@EACH
def test_another_family(name):
    for other in FAMILIES.values():
        if other.name != name:
            refusal(FAMILIES[name], other.file)


@EACH
def test_no_such_file(name, tmp_path):
    family = FAMILIES[name]
    assert "no such file" in refusal(family, tmp_path / "nothing")
    assert "no checkpoint" in refusal(family, tmp_path)


@EACH
def test_a_folder_is_searched(name, tmp_path):
    family = FAMILIES[name]
    (tmp_path / "one").mkdir()
    path = family.rewritten(tmp_path / "one", family.tensors())
    assert family.load(tmp_path / "one", **family.arguments)
    assert family.load(tmp_path, **family.arguments)  # in its only subfolder
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    said = refusal(family, tmp_path)
    assert f"one/{path.name}" in said
    assert f"two/{path.name}" in said
    shutil.copytree(tmp_path / "one", tmp_path, dirs_exist_ok=True)
    assert family.load(tmp_path, **family.arguments)  # its own comes before those of subfolders


class Payload:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('executed').touch()",)


@EACH
@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_nothing_in_a_file_is_executed(name, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family = FAMILIES[name]
    for file in family.file.parent.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "weights.bin"
    content = {"model": {"w": torch.zeros(2)}, "args": Payload()}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    assert "nothing in a checkpoint is executed" in refusal(family, path)
    assert not (tmp_path / "executed").exists()
