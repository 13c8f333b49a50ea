"""Patching: what is known of it in every family, and equality with one hooked forward pass a cell."""

import numpy as np
import pytest
import torch
from transformer_lens import patching as theirs
from transformer_lens.ActivationCache import ActivationCache

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import Huginn
from probes import bundle, patching
from probes.interventions.reruns import Reruns
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import LOOPS, make

R = 2
CLEAN, CORRUPT = torch.tensor([[3, 5, 7, 9, 11]]), torch.tensor([[3, 5, 8, 9, 11]])


def made(name, **changes):
    return make(name, seed=7, **changes).double()


def one_by_one(model, site, k, p, head=None, clean=CLEAN, corrupt=CORRUPT):
    """Logits of the last token of a run with one value of the clean run."""
    with torch.no_grad():
        _, cache = model.run_with_cache(clean, n_iters=R, names_filter=site)

        def patch(x, hook):
            x = x.clone()
            there = (slice(None), p) if head is None else (slice(None), p, head)
            x[there] = cache[f"{site}@{k}"][there]
            return x

        return model.run_with_hooks(corrupt, n_iters=R, fwd_hooks=[(f"{site}@{k}", patch)])[0, -1]


@pytest.mark.parametrize("name", LOOPS)
def test_all_of_the_last_state_brings_the_answer_back_and_an_equal_token_nothing(name):
    model = made(name)
    every = patching(
        model, CLEAN, CORRUPT, R, metric="kl", together=True, attribution=False, control=False
    )
    assert abs(every.score[0, R, 0, 0, 0] - 1) < 1e-6
    found = patching(model, CLEAN, CORRUPT, R, metric="kl", iterations=[0, R])
    assert (found.score[0, [0, R], 0, :2] == 0).all()  # causal: the runs are one up to there
    assert np.isnan(found.score[0, 1]).all() and np.isfinite(found.score[0, R]).all()
    assert np.isfinite(found.attribution[0, R]).all()


@pytest.mark.parametrize("name", ["abbie-d", "huginn", "ponder", "hrm", "mor-shared", "parcae"])
def test_folded_cells_are_those_of_hooked_forward_passes(name):
    model = made(name)
    for site in ("hook_state", "z"):
        found = patching(model, CLEAN, CORRUPT, R, site=site, blocks=None if site != "z" else [1],
                         answer=4, other=6, attribution=False)  # fmt: skip
        there = np.argwhere(np.isfinite(found.patched))
        assert len(there) >= 10
        for s, k, _, p, h in there[:: max(1, len(there) // 6)]:
            logits = one_by_one(model, found.sites[s], k, p, h if site == "z" else None)
            expected = float(logits[4] - logits[6])
            assert found.patched[s, k, 0, p, h] == pytest.approx(expected, abs=1e-9)


def test_runs_behind_a_prefix_are_the_whole_ones(monkeypatch):
    """Sharing what comes before a change gives the same numbers, and is given up where a family's State holds more."""
    model = made("abbie-c")
    given = dict(answer=4, other=6, attribution=False, control=False)
    shared = patching(model, CLEAN, CORRUPT, R, **given)
    monkeypatch.setattr(Reruns, "resumes", property(lambda self: False))
    whole = patching(model, CLEAN, CORRUPT, R, **given)
    np.testing.assert_allclose(shared.patched, whole.patched, atol=1e-10)
    monkeypatch.undo()
    from probes.inputs import prepare

    assert Reruns(model, prepare(model, CLEAN, R)).resumes
    odd = made("mor-shared")
    assert not Reruns(odd, prepare(odd, CLEAN, R)).resumes


def test_transformer_lens_finds_the_same_on_the_unrolled_model():
    """Its own activation patching, run on the r times unrolled stack through names it knows."""
    model = made("std")
    answer, other = 4, 6

    class Unrolled:
        """What `transformer_lens.patching` asks of a model, answered by the loop: block 1 + 2 i + b is body.b@i."""

        class cfg:
            n_layers, n_heads, device = 2 * R, 4, "cpu"

        tokenizer = None

        def run_with_hooks(self, tokens, fwd_hooks):
            hooks = []
            for name, fn in fwd_hooks:
                _, layer, rest = name.split(".", 2)
                address = f"body.{int(layer) % 2}.{rest}@{int(layer) // 2}"
                hooks.append((address, fn))
            return model.run_with_hooks(tokens, n_iters=R, fwd_hooks=hooks)

    with torch.no_grad():
        _, cache = model.run_with_cache(CLEAN, n_iters=R)
        flat = {
            f"blocks.{2 * i + b}.{site}": cache[f"body.{b}.{site}@{i}"]
            for i in range(R) for b in range(2)
            for site in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "attn.hook_z")
        }  # fmt: skip
        named = ActivationCache(flat, Unrolled())
        metric = lambda logits: logits[0, -1, answer] - logits[0, -1, other]  # noqa: E731
        for fn, site in (
            (theirs.get_act_patch_resid_pre, "resid_pre"),
            (theirs.get_act_patch_attn_out, "attn_out"),
            (theirs.get_act_patch_mlp_out, "mlp_out"),
        ):
            expected = fn(Unrolled(), CORRUPT, named, metric)
            found = patching(
                model,
                CLEAN,
                CORRUPT,
                R,
                site=site,
                answer=answer,
                other=other,
                attribution=False,
                control=False,
            )
            ours = found.patched[:, :, 0, :, 0].transpose(1, 0, 2).reshape(2 * R, -1)
            np.testing.assert_allclose(ours, expected.double().numpy(), atol=1e-5)


def test_a_bridged_model(tiny_tokenizer):
    model = LoopedBridge(
        decoders.make("gpt2", seed=3, vocab_size=300), Loop(1, 3, "damped"), tiny_tokenizer, "tiny"
    )
    clean, corrupt = CLEAN, CORRUPT
    for site in ("state", "attn_out"):
        found = patching(model, clean, corrupt, R, site=site, answer=4, other=6)
        assert np.isfinite(found.score).all() and found.pearson > 0
        s, k, p = len(found.sites) - 1, 1, 2
        if site != "state":
            logits = one_by_one(model, found.sites[s], k, p)
            assert found.patched[s, k, 0, p, 0] == pytest.approx(
                float(logits[4] - logits[6]), abs=1e-4
            )
    every = patching(model, clean, corrupt, R, answer=4, other=6, together=True, attribution=False)
    assert abs(every.score[0, R, 0, 0, 0] - 1) < 1e-4


def test_gradients_are_the_derivative_of_a_patch():
    """Towards a clean run that is hardly another one, the estimate is the score."""
    model = made("abbie-d")
    with torch.no_grad():
        model.embed.weight[8] = model.embed.weight[7] + 1e-4 * model.embed.weight[9]
    for site in ("state", "z", "mlp_out"):
        found = patching(model, CLEAN, CORRUPT, R, site=site, answer=4, other=6)
        np.testing.assert_allclose(found.attribution, found.score, atol=2e-3)
        assert found.pearson > 0.9999


def test_pairs_of_different_length_are_padded_together(tiny_tokenizer):
    model = make("abbie-d", tokenizer=tiny_tokenizer, d_vocab=300, seed=7).double()
    clean, corrupt = ["the cat sat on the mat", "the cat"], ["the rat sat on the mat", "the mat"]
    for side in ("left", "right"):
        tiny_tokenizer.padding_side = side
        try:
            both = patching(model, clean, corrupt, R, answer=[5, 6], other=[7, 8])
        finally:
            tiny_tokenizer.padding_side = "right"
        for n in range(2):
            one = patching(
                model, clean[n], corrupt[n], R, answer=[5 + n], other=[7 + n], attribution=n == 0
            )
            np.testing.assert_allclose(
                both.score[0, :, n][:, both.valid[n]], one.score[0, :, 0], atol=1e-8
            )
            if n == 0:
                np.testing.assert_allclose(
                    both.attribution[0, :, 0][:, both.valid[0]], one.attribution[0, :, 0], atol=1e-8
                )


def test_a_result_is_kept_and_drawn(tmp_path):
    model = make("abbie-d", seed=7)
    found = patching(model, CLEAN, CORRUPT, R, site="z", answer=4, other=6)
    folder = bundle.save({"patching": found}, tmp_path / "out")
    back = bundle.load(folder).results["patching"]
    assert back.to_frame().equals(found.to_frame())
    assert found.to_frame().score.notna().sum() == np.isfinite(found.score).sum()
    site, k, p, h = found.best()
    drawn = found.figure(site=site, head=h, cell=(k, p), selectable=True, theme="dark")
    np.testing.assert_array_equal(drawn.data[0].z, found.score[site, :, 0, :, h])
    together = patching(model, CLEAN, CORRUPT, R, site="z", answer=4, other=6, together=True)
    assert together.figure().data[0].z.shape == (R, 8)


def test_progress_and_cancel():
    told = []
    patching(make("std"), CLEAN, CORRUPT, R, metric="kl", progress=lambda *at: told.append(at))
    assert told[-1] == (30, 30)  # the control's cells too


def refused(message, *args, **given):
    with pytest.raises(InputError, match=message) as caught:
        patching(given.pop("model", None) or make("abbie-d", seed=7), *args, **given)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_patched_is_told():
    refused("pair 0 has 5 and 4 tokens", CLEAN, CORRUPT[:, :4], R)
    refused("the same tokens", CLEAN, CLEAN, R)
    refused("1 and 2 prompts", CLEAN, CORRUPT.repeat(2, 1), R)
    refused("site='attn_ot'", CLEAN, CORRUPT, R, site="attn_ot")
    refused("outside the loop", CLEAN, CORRUPT, R, site="head.0.hook_resid_pre")
    refused("blocks=7", CLEAN, CORRUPT, R, site="z", blocks=7)
    refused("iterations=.9.", CLEAN, CORRUPT, R, iterations=[9])
    refused("metric='loss'", CLEAN, CORRUPT, R, metric="loss")
    refused("answer, other: both are", CLEAN, CORRUPT, R, answer=4, other=4)
    refused("answer=200", CLEAN, CORRUPT, R, answer=200, other=4)
    refused("metric: gave", CLEAN, CORRUPT, R, metric=lambda logits, pair: logits)
    refused("nothing to compute", CLEAN, CORRUPT, R, exact=False, attribution=False)
    refused("aligned: .9, 0.", CLEAN, CORRUPT, R, aligned=[(9, 0)])
    refused("control: prompt 0 has 4 tokens", CLEAN, CORRUPT, R, control=CLEAN[:, :4])
    refused("control: 2 prompts", CLEAN, CORRUPT, R, control=CLEAN.repeat(2, 1))
    refused("with a row for each token", CLEAN, CORRUPT, R, site="z", model=make("spiral"))


def test_aligned_positions_and_a_function_of_ones_own():
    """Prompts of different length: only the named positions are cells; the last token's State is the whole answer."""
    model = made(Huginn())
    longer = torch.tensor([[2, 3, 5, 7, 9, 11]])

    def of_four(logits, pair):
        return logits[:, 4]

    found = patching(
        model, longer, CORRUPT, R, metric=of_four, aligned=[(3, 2), (5, 4)], attribution=False
    )
    assert found.metric == "of_four"
    assert np.isfinite(found.score[0, :, 0, [2, 4], 0]).all()
    assert np.isnan(found.score[0, :, 0, [0, 1, 3], 0]).all()


def test_a_score_without_a_difference_is_undefined():
    found = patching(
        make("std"), CLEAN, CORRUPT, R, metric=lambda logits, pair: 0 * logits[:, 0] + 1
    )
    assert np.isnan(found.score).all() and np.isfinite(found.patched).all()
    assert np.isnan(found.pearson) and found.best() is None


@pytest.mark.parametrize("name", ["abbie-d", "hrm", "mor-shared"])
def test_the_control_patches_a_third_prompt(name):
    """Its cells are those of patching from that prompt, on the same scale; by default it differs where the two do."""
    model, third = made(name), torch.tensor([[3, 5, 9, 9, 11]])
    given = dict(answer=4, other=6, attribution=False)
    found = patching(model, CLEAN, CORRUPT, R, control=third, **given)
    from_third = patching(model, third, CORRUPT, R, control=False, **given)
    expected = (from_third.patched - found.corrupt) / (found.clean - found.corrupt)
    np.testing.assert_allclose(found.control, expected, atol=1e-9)
    np.testing.assert_array_equal(found.score, patching(model, CLEAN, CORRUPT, R, **given).score)
    assert found.control[0, R, 0, -1, 0] != pytest.approx(1, abs=1e-3)
    drawn = patching(model, CLEAN, CORRUPT, R, seed=1, **given)
    differs = [a != b for a, b in zip(drawn.control_tokens[0], drawn.tokens[0], strict=True)]
    assert differs == found.differs[0].tolist()
    assert drawn.control_tokens[0][2] not in (drawn.tokens[0][2], drawn.clean_tokens[0][2])
    assert not patching(model, CLEAN, CORRUPT, R, exact=False, answer=4, other=6).control.size


def test_a_third_prompt_of_prompts_that_share_no_token(tiny_tokenizer):
    model = made("std")
    found = patching(model, torch.tensor([[3]]), torch.tensor([[5]]), R, metric="kl")
    assert found.control_tokens[0][0] not in (found.tokens[0][0], found.clean_tokens[0][0])


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same():
    model = make("abbie-d", seed=7)
    for site in ("state", "z"):
        given = dict(site=site, answer=4, other=6)
        here = patching(model.to("cpu"), CLEAN, CORRUPT, R, **given)
        there = patching(model.to("cuda"), CLEAN, CORRUPT, R, **given)
        for name in ("score", "attribution", "control"):
            ours, theirs = getattr(there, name), getattr(here, name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-2)
        assert there.control_tokens == here.control_tokens
