"""Damaged, foreign or dangerous checkpoints end in a CheckpointError that says what is wrong."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from abbie_lens import HookedLoopedTransformer, load
from abbie_lens.errors import CheckpointError
from abbie_lens.files.weights import StoredTensors, weight_files


@pytest.fixture
def saved(tiny_model, tiny_tokenizer, tmp_path) -> Path:
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    return model.save_pretrained(tmp_path / "m")


def edit_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_weights(folder: Path, change) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    edit_config(folder, weights_sha256=None)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_truncated_weights(saved, keep) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load(saved)
    edit_config(saved, weights_sha256=None)  # found without the checksum, too
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load(saved)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 1.0])
def test_one_flipped_bit(saved, place) -> None:
    file = saved / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0b100
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        load(saved)


def test_weights_changed_on_purpose_load_after_the_checksum_is_removed(saved) -> None:
    edit_weights(saved, lambda tensors: tensors["embed.weight"].fill_(0.5))
    assert (load(saved).embed.weight == 0.5).all()


def test_no_config(saved) -> None:
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}"])
def test_config_that_is_no_config(saved, text) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(saved)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(model_type="llama"), "llama"),
        (dict(format_version=99), "format_version is 99"),
        (dict(format_version=None), "format_version is None"),
        (dict(n_heads=5), "n_heads"),
        (dict(d_modell=3), "d_modell"),
        (dict(d_model="wide"), "d_model"),
        (dict(loop={"family": "abbie-x"}), "abbie-x"),
        (dict(loop={"family": "abbie-d", "residual": "sideways"}), "sideways"),
        (dict(loop=None), "loop"),
        (dict(dtype="int8"), "int8"),
    ],
)
def test_config_of_another_kind(saved, changes, says) -> None:
    edit_config(saved, **changes)
    with pytest.raises(CheckpointError, match=says):
        load(saved)


def test_config_that_does_not_fit_the_weights(saved) -> None:
    edit_config(saved, d_mlp=96)
    with pytest.raises(CheckpointError, match=r"body\.0\.mlp.*\[64, 32\].*\[96, 32\]"):
        load(saved)


def test_config_with_other_blocks(saved) -> None:
    edit_config(saved, n_body_blocks=3)
    with pytest.raises(CheckpointError, match=r"missing: body\.2"):
        load(saved)
    edit_config(saved, n_body_blocks=1)
    with pytest.raises(CheckpointError, match=r"unknown to this config: body\.1"):
        load(saved)


def test_an_enormous_config_is_refused_before_memory_is_taken(saved) -> None:
    edit_config(saved, d_vocab=10**12)
    with pytest.raises(CheckpointError, match=r"embed\.weight"):
        load(saved)


def test_tokenizer_larger_than_the_vocabulary(saved, tiny_model, tiny_tokenizer) -> None:
    n = len(tiny_tokenizer)
    small = tiny_model(d_vocab=n - 1).save_pretrained(saved.parent / "small")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(saved / name, small / name)
    with pytest.raises(CheckpointError, match=f"{n} tokens, the model's d_vocab is {n - 1}"):
        load(small)


def test_damaged_tokenizer(saved) -> None:
    (saved / "tokenizer.json").write_text('{"version": "1.0", "model": ')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load(saved)


class Bomb:
    """Unpickling this creates the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickled_weights_are_never_opened(saved, name) -> None:
    sign = saved.parent / "executed"
    (saved / "model.safetensors").unlink()
    (saved / name).write_bytes(pickle.dumps(Bomb(sign)))
    for attempt in (
        lambda: load(saved),
        lambda: load(saved / name, key_map={}),
        lambda: load(saved / name),
        lambda: HookedLoopedTransformer.from_pretrained(saved),
    ):
        with pytest.raises(CheckpointError):
            attempt()
    with pytest.raises(CheckpointError, match="Convert it once"):
        load(saved)
    assert not sign.exists()


def test_pickled_bytes_named_safetensors(saved) -> None:
    sign = saved.parent / "executed"
    (saved / "model.safetensors").write_bytes(pickle.dumps(Bomb(sign)))
    edit_config(saved, weights_sha256=None)
    with pytest.raises(CheckpointError):
        load(saved)
    assert not sign.exists()


def test_no_weights_at_all(saved) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no weights"):
        load(saved)


def test_sharded_weights(tmp_path) -> None:
    a, b = torch.ones(2), torch.zeros(3)
    save_file({"a": a}, tmp_path / "x-1.safetensors")
    save_file({"b": b}, tmp_path / "x-2.safetensors")
    with pytest.raises(CheckpointError, match="several weight files"):
        weight_files(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    shards = {"a": "x-1.safetensors", "b": "x-2.safetensors"}
    index.write_text(json.dumps({"weight_map": shards}))
    assert StoredTensors(weight_files(tmp_path)).keys() == {"a", "b"}
    for bad in ('{"weight_map": {"a": "../secret.safetensors"}}', '{"weight_map": 3}', "{", "{}"):
        index.write_text(bad)
        with pytest.raises(CheckpointError, match="index"):
            weight_files(tmp_path)
    index.write_text(json.dumps({"weight_map": shards | {"c": "x-3.safetensors"}}))
    with pytest.raises(CheckpointError, match="x-3"):
        weight_files(tmp_path)
