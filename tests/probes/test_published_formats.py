"""Analyses on a checkpoint of every published format, loaded as such: what `test_every_family` cannot know of it."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens import halting, load, tasks
from abbie_lens.errors import InputError
from probes import overlays
from tests.abbie_lens.families import walk
from tests.abbie_lens.files.formats.checkpoints import CONFIGS, write

R = 3
PROMPTS = ["the cat sat on the mat", "the rat ran"]
GATED = ("ouro", "loopus")
TASK = tasks.make("k-hop", n_nodes=6, n_ctx=40, train_difficulty=(1, 2), test_difficulty=(1, 3))
every_format = pytest.mark.parametrize("name", CONFIGS)


def sizes(name, vocabulary):
    """The fields of a model that reads 96 tokens of so many."""
    if name == "loopus":
        return {"base_vocab_size": vocabulary, "base_max_position_embeddings": 96}
    fields = {"vocab_size": vocabulary}
    if "padded_vocab_size" in CONFIGS[name]:
        return {**fields, "padded_vocab_size": vocabulary, "block_size": 96}
    return {**fields, "max_position_embeddings": 96}


@pytest.fixture(scope="module")
def speaker(tiny_tokenizer, tmp_path_factory):
    """`speaker(name, tokenizer)`: a model of that format that reads text, loaded once."""
    loaded = {}

    def model(name, tokenizer=tiny_tokenizer):
        if (name, tokenizer) not in loaded:
            folder = tmp_path_factory.mktemp("formats") / name
            vocabulary = 300 if tokenizer is tiny_tokenizer else TASK.d_vocab
            write(name, folder, **sizes(name, vocabulary))
            tokenizer.save_pretrained(folder)
            loaded[name, tokenizer] = load(folder, device="cpu")
        return loaded[name, tokenizer]

    return model


@every_format
def test_fixed_point(speaker, name):
    model = speaker(name)
    found = probes.fixed_point(model, PROMPTS, n_iters=R, control=name in ("hrm_text", "parcae"))
    tokens, mask = model.tokenize(PROMPTS)
    states = walk(model, tokens, R, attention_mask=mask)
    for k in range(R):
        step = (states[k + 1].h - states[k].h).double().norm(dim=-1).numpy()
        np.testing.assert_allclose(
            found.raw[k][found.valid], step[found.valid], rtol=1e-4, atol=1e-5
        )
    assert np.isnan(found.raw[:, ~found.valid]).all() and (found.diverged_at == -1).all()
    assert len(found.to_frame()) >= R * found.valid.sum() and found.figure()


@every_format
def test_lens(speaker, name):
    model = speaker(name)
    found = probes.lens(model, PROMPTS[0], n_iters=R, top_k=3)
    with torch.no_grad():
        top = model(PROMPTS[0], n_iters=R).softmax(-1).topk(3)
    np.testing.assert_array_equal(found.top_ids[R], top.indices.numpy())
    np.testing.assert_allclose(found.top_probabilities[R], top.values.numpy(), rtol=1e-3)
    assert np.abs(found.kl_to_final[R]).max() < 1e-6
    assert found.top_ids.shape[0] == R + 1 and found.figure()


@every_format
def test_halting_by_every_rule(speaker, name):
    model = speaker(name)
    found = probes.halting(model, PROMPTS, n_iters=R)
    assert list(found.names) == halting.rules_for(model)
    assert ("learned_gate" in found.names) == (name in GATED)
    tokens, mask = model.tokenize(PROMPTS)
    states = walk(model, tokens, R, attention_mask=mask)
    with torch.no_grad():
        best = torch.stack([model.readout(state).argmax(-1) for state in states]).numpy()
    np.testing.assert_array_equal(found.prediction[:, found.valid], best[:, found.valid])
    for rule in found.names:
        outcome, sweep = found.at(rule, halting.policy(rule).threshold), found.sweep(rule)
        steps = outcome.exit_step[found.valid]
        assert ((steps >= 0) & (steps <= R)).all() and outcome.figure() and sweep.figure()


@pytest.mark.parametrize("name", GATED)
def test_the_learned_gate_stops_where_its_own_probabilities_say(speaker, name):
    model = speaker(name)
    found = probes.halting(model, PROMPTS[0], n_iters=R, rules=["learned_gate"])
    _, cache = model.run_with_cache(PROMPTS[0], n_iters=R, names_filter="loop.hook_gate")
    stopped = 1 - (1 - cache["loop.hook_gate"][..., 0].double()).cumprod(0).numpy()
    between = np.sort(stopped.ravel())[stopped.size // 2 - 1 : stopped.size // 2 + 1]
    threshold = float(between.mean())
    over = stopped >= threshold
    expected = np.where(over.any(0), 1 + over.argmax(0), R)
    np.testing.assert_array_equal(found.at("learned_gate", threshold).exit_step, expected)
    assert len(set(expected.ravel())) > 1, "else this shows nothing"


@every_format
def test_depth_on_a_task(speaker, name):
    found = probes.task_depth(speaker(name, TASK.tokenizer()), TASK, 2, n_answers=6, n_rows=3)
    assert found.accuracy.shape[0] == 3 and np.isfinite(found.accuracy).all() and found.figure()


@every_format
def test_bundle(speaker, name, tmp_path):
    model = speaker(name)
    results = {
        "lens": probes.lens(model, PROMPTS[0], R),
        "halting": probes.halting(model, PROMPTS[0], R),
    }
    _, cache = model.run_with_cache(PROMPTS[0], n_iters=R, names_filter="loop.hook_state")
    states = {"h": cache["loop.hook_state"]}
    back = probes.bundle.load(probes.bundle.save(results, tmp_path / "run", states=states))
    np.testing.assert_array_equal(back.results["lens"].top_ids, results["lens"].top_ids)
    assert (
        back.results["halting"].model == results["halting"].model
        and back.results["halting"].figure()
    )


def test_two_formats_on_one_scale(speaker):
    runs = [
        (name, probes.fixed_point(speaker(name), PROMPTS[0], n_iters=R, control=False))
        for name in ("huginn", "parcae")
    ]
    assert overlays.distances(runs).figure()


def test_a_model_with_its_own_split_is_asked_for_no_other(speaker):
    with pytest.raises(InputError, match="has its split already"):
        probes.split(speaker("huginn"), PROMPTS[0])
