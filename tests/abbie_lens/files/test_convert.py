"""Pickles become safetensors once, tensors alone: nothing in them runs, and nothing half-made stays."""

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from abbie_lens import load
from abbie_lens.errors import CheckpointError, ExistsError
from abbie_lens.files.convert import convert
from tests.abbie_lens.files.formats.checkpoints import write

TOKENS = torch.arange(6)[None]


@pytest.fixture
def pickled(tmp_path):
    """`pickled(wrap, file)`: a Parcae folder as it is published, and what its model makes of TOKENS."""

    def make(wrap=lambda tensors: tensors, file="pytorch_model.bin"):
        folder = tmp_path / "published"
        write("parcae", folder)
        expected = load(folder, device="cpu")(TOKENS)
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
        torch.save(wrap(tensors), folder / file)
        return folder, expected

    return make


@pytest.mark.parametrize(
    ("wrap", "file"),
    [
        (dict, "pytorch_model.bin"),
        (dict, "model.pt"),
        (lambda tensors: {"model": tensors, "step": 7}, "weights.pth"),
    ],
)
def test_in_its_folder_or_into_a_new_one(pickled, tmp_path, wrap, file):
    folder, expected = pickled(wrap, file)
    out = convert(folder, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}
    assert torch.equal(load(out, device="cpu")(TOKENS), expected)
    assert convert(folder) == folder
    assert torch.equal(load(folder, device="cpu")(TOKENS), expected)
    for again in (lambda: convert(folder), lambda: convert(folder, out)):
        with pytest.raises(ExistsError, match="exists already"):
            again()


def test_a_file_and_shards(pickled, tmp_path):
    folder, expected = pickled()
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert convert(folder / "pytorch_model.bin") == folder / "pytorch_model.safetensors"
    assert load_file(folder / "pytorch_model.safetensors").keys() == tensors.keys()
    for path in folder.glob("pytorch_model.*"):
        path.unlink()
    names = sorted(tensors)
    shards = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, keys in shards.items():
        torch.save({key: tensors[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in shards.items() for key in keys}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert torch.equal(load(convert(folder), device="cpu")(TOKENS), expected)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model-2.bin").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model-2\.bin named by"):
        convert(folder)
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": 3}}')
    with pytest.raises(CheckpointError, match="names '3', not a weight file"):
        convert(folder)


class Runs:
    """Makes a folder when it is unpickled by the ordinary unpickler."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_pickle_is_not_run(pickled, tmp_path):
    ran = tmp_path / "ran"
    folder, _ = pickled(lambda tensors: {**tensors, "extra": Runs(ran)})
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: .*more than tensors") as caught:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(caught.value) and not ran.exists()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Runs(ran)))
    with pytest.raises(CheckpointError, match="more than tensors"):
        convert(folder)
    assert not ran.exists() and not (tmp_path / "out").exists()
    assert {path.name for path in folder.iterdir()} == {"config.json", "pytorch_model.bin"}


@pytest.mark.parametrize("keep", [0, 100, -200])
def test_damaged(pickled, tmp_path, keep):
    folder, _ = pickled()
    file = folder / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: damaged") as caught:
        convert(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"published"}


def test_what_is_no_checkpoint(pickled, tmp_path):
    folder, _ = pickled(lambda tensors: [1, 2])
    with pytest.raises(CheckpointError, match="expected tensors by name, found list"):
        convert(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="expected one file of pickled weights, found none"):
        convert(folder)
    with pytest.raises(CheckpointError, match="expected a pickled file, a folder, or a hub id"):
        convert(tmp_path / "nowhere")
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")


def test_from_the_hub_by_one_command(pickled, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from abbie_lens.files import hub
    from app.cli import cli

    folder, expected = pickled()
    asked = []

    def download(repo_id, revision, token, allow_patterns):
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["convert", "SandyResearch/parcae-tiny", "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout) == {"converted": "parcae-tiny"}
    assert torch.equal(load(tmp_path / "parcae-tiny", device="cpu")(TOKENS), expected)
    assert "pytorch_model.bin" in asked and "model.pt" in asked
    assert not any(pattern.endswith(".py") for pattern in asked)
