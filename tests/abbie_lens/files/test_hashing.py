"""The weight hash names weights: equal for equal ones, whatever the file, different after any change."""

import hashlib

import numpy as np
import torch

from abbie_lens import load
from abbie_lens.files.hashing import tensor_hash, weight_hash


def test_known_value() -> None:
    tensors = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor([3], dtype=torch.int64)}
    text = b"a|torch.int64|(1,)|" + np.int64(3).tobytes()
    text += b"b|torch.float32|(1, 2)|" + np.array([1, 2], np.float32).tobytes()
    assert tensor_hash(tensors) == hashlib.sha256(text).hexdigest()


def test_stable_across_save_and_load(tiny_model, tmp_path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny_model().to(dtype)
        folder = model.save_pretrained(tmp_path / str(dtype))
        assert weight_hash(load(folder)) == weight_hash(model)


def test_equal_weights_equal_hash_and_any_change_shows(tiny_model) -> None:
    model, twin = tiny_model(seed=1), tiny_model(seed=1)
    first = weight_hash(model)
    assert weight_hash(twin) == first == weight_hash(model)
    assert weight_hash(tiny_model(seed=2)) != first
    with torch.no_grad():
        model.body[0].attn.q_proj.weight[0, 0] += 1e-3
    assert weight_hash(model) != first
    model.load_state_dict(twin.state_dict())
    assert weight_hash(model) == first
    assert weight_hash(model.to(torch.bfloat16)) != first


def test_names_shapes_and_dtypes_count() -> None:
    base = tensor_hash({"a": torch.zeros(4)})
    assert tensor_hash({"b": torch.zeros(4)}) != base
    assert tensor_hash({"a": torch.zeros(2, 2)}) != base
    assert tensor_hash({"a": torch.zeros(4, dtype=torch.int32)}) != base
    assert tensor_hash({"a": torch.zeros(8)[::2]}) == base


def test_computed_once_while_nothing_changes(tiny_model, monkeypatch) -> None:
    model = tiny_model()
    first = weight_hash(model)
    monkeypatch.setattr("abbie_lens.files.hashing.tensor_hash", lambda _tensors: "computed again")
    assert weight_hash(model) == first
    torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.tensor([[1, 2, 3]]), return_type="loss").backward()
    torch.optim.AdamW(model.parameters(), lr=0.1).step()
    assert weight_hash(model) == "computed again"
