"""Weights of a published model: every key has its place; what is damaged, pickled or left over is an error."""

import pytest
import torch
from safetensors.torch import load_file

from abbie_lens import load
from abbie_lens.errors import CheckpointError
from abbie_lens.files.convert import convert

FAMILIES = ("huginn", "retrofit_llama", "ouro", "hrm_text", "parcae", "pondering_pythia", "loopus")


@pytest.mark.parametrize("keep", [0, 7, 500, -1])
@pytest.mark.parametrize("name", ["huginn", "loopus"])
def test_truncated(changed, name, keep):
    folder = changed(name)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        load(folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_and_an_extra_key_are_named(changed, name):
    key = next(k for k in load_file(changed(name) / "model.safetensors") if ".mlp." in k)
    with pytest.raises(CheckpointError, match=f"weights missing for {name}: {key}"):
        load(changed(name, lambda w: w.pop(key)))
    with pytest.raises(CheckpointError, match=f"no place for in {name}: model.new.weight"):
        load(changed(name, lambda w: w.update({"model.new.weight": torch.ones(2)})))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_shape_that_the_config_contradicts(changed, name):
    key = next(k for k in load_file(changed(name) / "model.safetensors") if ".mlp." in k)
    with pytest.raises(CheckpointError, match=f"{key} is .*, config.json says"):
        load(changed(name, lambda w: w.update({key: w[key][:-2].contiguous()})))


def test_a_stored_copy_of_the_tied_head(changed):
    copy = lambda w: w.update({"lm_head.weight": w["transformer.wte.weight"].clone()})  # noqa: E731
    assert load(changed("huginn", copy), device="cpu").cfg.tie_word_embeddings
    other = lambda w: w.update({"lm_head.weight": w["transformer.wte.weight"] + 1})  # noqa: E731
    with pytest.raises(CheckpointError, match="is another tensor than the embedding"):
        load(changed("huginn", other))
    assert not load(changed("huginn", other, tie_embeddings=False)).cfg.tie_word_embeddings


def test_older_names_of_loopus(changed):
    def older(weights):
        for key in list(weights):
            new = key.replace("reasoning.", "plateau.module.").replace("q_head.", "q_head.module.")
            weights[new] = weights.pop(key)

    tokens = torch.arange(8)[None]
    expected = load(changed("loopus"), device="cpu")(tokens)
    assert torch.equal(load(changed("loopus", older), device="cpu")(tokens), expected)


def test_hrm_stored_one_projection_at_a_time(changed):
    def split(weights):
        for key in list(weights):
            tensor = weights.pop(key)
            names = ("gate", "q", "k", "v") if "gqkv" in key else ("gate", "up")
            fused = "gqkv_proj" if "gqkv" in key else "gate_up_proj"
            new = key.replace(".attn.", ".self_attn.")
            parts = tensor.chunk(len(names)) if fused in key else [tensor]
            for name, part in zip(names, parts, strict=False):
                weights[new.replace(fused, f"{name}_proj")] = part.clone()

    tokens = torch.arange(8)[None]
    expected = load(changed("hrm_text"), device="cpu")(tokens)
    assert torch.equal(load(changed("hrm_text", split), device="cpu")(tokens), expected)


def test_pickles_are_converted_once_as_the_error_says(changed):
    folder = changed("parcae")
    tokens = torch.arange(8)[None]
    expected = load(folder, device="cpu")(tokens)
    old, new = folder / "pytorch_model.bin", folder / "model.safetensors"
    tensors = load_file(new)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    torch.save(tensors, old)
    new.unlink()
    with pytest.raises(CheckpointError, match=r"abbie-lens convert .*weights_only=True"):
        load(folder)
    assert convert(folder) == folder
    assert torch.equal(load(folder, device="cpu")(tokens), expected)
    new.unlink()
    old.unlink()
    with pytest.raises(CheckpointError, match="Parcae is published as pickles"):
        load(folder)


def test_a_tokenizer_with_more_tokens_than_the_vocabulary(changed, tiny_tokenizer):
    folder = changed("ouro")
    tiny_tokenizer.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"tokenizer.json: has .* d_vocab is 128"):
        load(folder)


def test_a_saved_copy_is_an_ordinary_model(changed, tmp_path):
    model = load(changed("huginn"), device="cpu")
    again = load(model.save_pretrained(tmp_path / "again"), device="cpu")
    tokens = torch.arange(8)[None]
    assert torch.equal(model(tokens, n_iters=2, seed=3), again(tokens, n_iters=2, seed=3))
