"""A wrong mapping is seen: each mistake that gives plausible logits moves them away from the originals."""

import dataclasses

import pytest
import torch

from abbie_lens import load
from abbie_lens.files.formats import FORMATS
from abbie_lens.loops import Retrofit
from tests.abbie_lens.originals import CLOSE, Original, variant

DEEPEST = {
    "huginn": ("logits_r4", 4),
    "retrofit_llama": ("logits_r4", 4),
    "ouro": ("logits_T4", 4),
    "hrm_text": ("logits_H2_L3", 2),
    "parcae": ("logits_r4", 4),
    "pondering_pythia": ("logits_k3", 3),
    "loopus": ("logits_r4", 4),
}
"""The deepest logits of the original code, and their n_iters."""
WRONG_NORM = {
    "huginn": {"norm_placement": "sandwich_branch"},
    "retrofit_llama": {"loop": Retrofit(norm="readout")},
    "ouro": {"norm_placement": "sandwich_stream"},
    "hrm_text": {"norm_placement": "sandwich_branch"},
    "parcae": {"qk_norm": "none"},
    "pondering_pythia": {"parallel_attn_mlp": False},
}
FAMILIES = pytest.mark.parametrize("name", DEEPEST)


@torch.no_grad()
def error(model, folder, name):
    """Largest difference from the original's logits."""
    original, (logits, r) = Original.read(folder / name), DEEPEST[name]
    start = {"initial_state": original.expected["s0"]} if model.cfg.loop.draws_state else {}
    return (model(original.tokens, n_iters=r, **start) - original.expected[logits]).abs().max()


def swapped(monkeypatch, name, first, second):
    """The format `name` with two of our names in each other's place."""
    form = next(each for each in FORMATS if each.name == name)
    right = form.entries

    def wrong(cfg, stored):
        other = lambda n: n.replace(first, "?").replace(second, first).replace("?", second)  # noqa: E731
        return {
            key: dataclasses.replace(entry, names=tuple(map(other, entry.names)))
            for key, entry in right(cfg, stored).items()
        }

    monkeypatch.setattr(type(form), "entries", lambda self, cfg, stored: wrong(cfg, stored))


@FAMILIES
def test_it_loads_and_its_logits_are_the_originals(shared_fixtures, name):
    model = load(shared_fixtures / name, device="cpu")
    assert error(model, shared_fixtures, name) < CLOSE["atol"]
    assert model.load_report.complete and not model.training
    dropped = {
        "huginn": ("freqs_cis",),
        "parcae": ("freqs_cis",),
        "pondering_pythia": ("adapter.weight",),
    }
    assert model.load_report.dropped == dropped.get(name, ())


@FAMILIES
def test_the_other_form_of_rotation_is_seen(shared_fixtures, name):
    model = load(shared_fixtures / name, device="cpu")
    wrong = variant(model, rotary_adjacent_pairs=not model.cfg.rotary_adjacent_pairs)
    assert error(wrong, shared_fixtures, name) > 0.1


@FAMILIES
def test_another_order_of_rows_is_seen(shared_fixtures, monkeypatch, name):
    gated = name not in ("parcae", "pondering_pythia")
    swapped(monkeypatch, name, *(("mlp.gate_", "mlp.in_") if gated else ("q_proj", "k_proj")))
    assert error(load(shared_fixtures / name, device="cpu"), shared_fixtures, name) > 0.1


@pytest.mark.parametrize("name", WRONG_NORM)
def test_a_norm_in_another_place_is_seen(shared_fixtures, name):
    wrong = variant(load(shared_fixtures / name, device="cpu"), **WRONG_NORM[name])
    assert error(wrong, shared_fixtures, name) > 0.1


@pytest.mark.parametrize("name", ["huginn", "retrofit_llama", "ouro", "parcae", "loopus"])
def test_norms_in_each_others_place_are_seen(shared_fixtures, monkeypatch, name):
    swapped(monkeypatch, name, "ln1.", "ln2.")
    assert error(load(shared_fixtures / name, device="cpu"), shared_fixtures, name) > 0.05


def test_queries_and_keys_have_their_own_biases(shared_fixtures, monkeypatch):
    swapped(monkeypatch, "huginn", "q_proj.bias", "k_proj.bias")
    assert error(load(shared_fixtures / "huginn", device="cpu"), shared_fixtures, "huginn") > 0.1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@FAMILIES
@torch.no_grad()
def test_half_precision(shared_fixtures, name, dtype):
    model = load(shared_fixtures / name, device="cpu", dtype=dtype)
    assert str(model.dtype) == f"torch.{dtype}"
    assert error(model, shared_fixtures, name) < 2
