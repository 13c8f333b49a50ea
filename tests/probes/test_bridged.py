"""Every analysis on plain decoders looped at test time, unchanged, against what the model itself says."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.loop import RULES
from abbie_lens.errors import SiteError
from probes import bundle, overlays
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import walk

R = 3
PROMPTS = ["the cat sat on the mat", "the rat ran"]
SHAPES = ("gpt2", "llama", "neox", "qwen3", "gemma3")
WORDS = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]
LINEAR_SITES = ("loop.hook_state", "body.0.hook_resid_post")


@pytest.fixture(scope="module")
def speaker(tiny_tokenizer):
    """`speaker(name, start, stop, rule)`: a looped decoder that reads text."""

    def make(name, start=1, stop=3, rule="damped"):
        # a padding token of which no text has one: Gemma's embedding of it is 0, and 0 has no direction
        source = decoders.make(name, seed=3, vocab_size=300, pad_token_id=299)
        return LoopedBridge(source, Loop(start, stop, rule), tiny_tokenizer, name)

    return make


@pytest.fixture(scope="module", params=[(n, r) for n in SHAPES for r in RULES], ids="-".join)
def model(request, speaker):
    """One decoder of every shape, looped by every rule."""
    name, rule = request.param
    return speaker(name, rule=rule)


def rule_of(model):
    return model.window.rule


@pytest.fixture(scope="module")
def linear(model):
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 12)) for _ in range(6)]
    return probes.linear(model, documents, sites=LINEAR_SITES, label="current_class", n_iters=2)


@pytest.fixture(scope="module")
def fixed(model):
    return probes.fixed_point(model, PROMPTS, n_iters=R, control=rule_of(model) == "damped")


def test_fixed_point(model, fixed):
    tokens, mask = model.tokenize(PROMPTS)
    states = walk(model, tokens, R, attention_mask=mask)
    for k in range(R):
        step = (states[k + 1].h - states[k].h).double().norm(dim=-1).numpy()
        np.testing.assert_allclose(
            fixed.raw[k][fixed.valid], step[fixed.valid], rtol=1e-4, atol=1e-5
        )
    assert np.isnan(fixed.raw[:, ~fixed.valid]).all()
    assert np.isfinite(fixed.limit_direction[:, fixed.valid]).all() and fixed.limit_iters == 4 * R
    if rule_of(model) == "damped":
        assert fixed.control.model.weight_hash != fixed.model.weight_hash
    assert len(fixed.to_frame()) >= R * fixed.valid.sum() and fixed.figure()


@pytest.mark.parametrize("kind", ["tail", "logit"])
def test_lens(model, kind):
    found = probes.lens(model, PROMPTS[0], n_iters=R, kind=kind, top_k=3)
    assert found.top_ids.shape[0] == R + 1 and np.isfinite(found.top_probabilities).all()
    if kind == "tail":
        with torch.no_grad():
            top = model(PROMPTS[0], n_iters=R).softmax(-1).topk(3)
        np.testing.assert_allclose(found.top_probabilities[R], top.values.numpy(), rtol=1e-3)
        assert np.abs(found.kl_to_final[R]).max() < 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_without_a_tail_both_lenses_are_one(speaker, name):
    model = speaker(name, 2, 4)
    tail, logit = (probes.lens(model, PROMPTS[0], R, kind=kind) for kind in ("tail", "logit"))
    np.testing.assert_allclose(tail.top_probabilities, logit.top_probabilities, rtol=1e-3)


def test_trajectories(model):
    found = probes.trajectories(model, PROMPTS[0], n_iters=R, unit=False, n_components=32)
    states = walk(model, model.to_tokens(PROMPTS[0]), R)
    expected = torch.stack([state.h for state in states]).numpy()
    rebuilt = found.scores @ found.components + found.mean
    np.testing.assert_allclose(rebuilt, expected, atol=1e-3 * np.abs(expected).max())


def test_halting(model):
    found = probes.halting(model, PROMPTS, n_iters=R)
    tokens, mask = model.tokenize(PROMPTS)
    for k, state in enumerate(walk(model, tokens, R, attention_mask=mask)):
        with torch.no_grad():
            best = model.readout(state).argmax(-1).numpy()
            if rule_of(model) in ("repeat", "abbie-d"):  # the others' steps depend on the depth
                alone = model(tokens, n_iters=k, attention_mask=mask).argmax(-1).numpy()
                np.testing.assert_array_equal(alone, best)
        np.testing.assert_array_equal(found.prediction[k][found.valid], best[found.valid])
    assert all(found.sweep(name).figure() and found.at(name).figure() for name in found.names)


def test_linear(linear):
    assert linear.rows.tolist() == [3, 2] and np.isfinite(linear.trained[:, :2]).all()


@pytest.mark.parametrize(
    "model", [*zip(SHAPES, [*RULES, "damped"], strict=True)], ids="-".join, indirect=True
)
def test_a_bundle_of_all_of_them(model, fixed, linear, tmp_path):
    halting = probes.halting(model, PROMPTS, R)
    results = {
        "fixed points": fixed,
        "trajectories": probes.trajectories(model, PROMPTS, R),
        "lens": probes.lens(model, PROMPTS, R),
        "halting": halting,
        "exits": halting.at(halting.names[0]),
        "sweep": halting.sweep(halting.names[0]),
        "probes": linear,
    }
    with torch.no_grad():
        _, cache = model.run_with_cache(PROMPTS[0], n_iters=R, names_filter="loop.hook_state")
    states = {"h": cache["loop.hook_state"]}
    back = bundle.load(bundle.save(results, tmp_path / "out", states=states))
    assert list(back.results) == list(results)
    for name, result in results.items():
        assert back.results[name].model == result.model
        assert back.results[name].to_frame().equals(result.to_frame())
    torch.testing.assert_close(back.states["h"], states["h"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert model.info().family in page and page.count("class='plot'") >= len(results)


def test_overlays_tell_windows_of_the_same_weights_apart(speaker):
    runs = [
        (label, probes.fixed_point(speaker("gpt2", *window), PROMPTS, n_iters=R, control=False))
        for label, window in (("early", (0, 2)), ("late", (2, 4)))
    ]
    assert runs[0][1].model.weight_hash == runs[1][1].model.weight_hash
    assert overlays.distances(runs).figure()


def test_unrolled_cache_is_that_of_the_plain_stack(model):
    """Exact for repetition; where the carry re-weights outputs, states are right and sums are refused by name."""
    with torch.no_grad():
        logits, cache = model.run_with_cache(PROMPTS[0], n_iters=R)
        flat = cache.unroll()
        last = flat["blocks.7.hook_resid_post"]
        again = model.unembed(model.ln_final(last))
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
    for i in range(R):
        for b in (0, 1):
            layer = f"blocks.{1 + 2 * i + b}"
            for site in ("hook_resid_pre", "attn.hook_pattern"):
                assert torch.equal(flat[f"{layer}.{site}"], cache[f"body.{b}.{site}@{i}"])
                assert torch.equal(flat[f"{layer}.{site}"], cache[f"blocks.{1 + b}.{site}@{i}"])
    parts = flat.accumulated_resid(layer=-1, incl_mid=False)
    torch.testing.assert_close(parts[-1], last)
    read = [
        *cache["loop.hook_state"][:R],
        cache["loop.hook_readout"][R],
    ]  # by Body, Body, Body, Tail
    torch.testing.assert_close(parts[1:-1:2], torch.stack(read))
    if rule_of(model) == "repeat":
        return
    family = model.cfg.loop.family
    for refused in (flat.decompose_resid, flat.stack_head_results, flat.stack_neuron_results):
        with pytest.raises(SiteError, match=f"in {family} at r = 3 the carry") as caught:
            refused(-1)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SHAPES)
def test_repetition_unrolls_into_a_plain_sum(speaker, name):
    model = speaker(name, rule="repeat")
    with torch.no_grad():
        _, cache = model.run_with_cache(PROMPTS[0], n_iters=R)
    flat = cache.unroll()
    whole = flat.decompose_resid(-1).sum(0)
    last = flat["blocks.7.hook_resid_post"]
    torch.testing.assert_close(whole, last, rtol=0, atol=1e-4 * float(last.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_half_precision_has_its_limit_in_full(speaker, name, dtype):
    found = probes.fixed_point(speaker(name).to(dtype), PROMPTS, n_iters=R, control=False)
    assert found.limit_dtype == "float32" and found.limit_iters == 4 * R
    assert np.isfinite(found.limit_direction[:, found.valid]).all()
