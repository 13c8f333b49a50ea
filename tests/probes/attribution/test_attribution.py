"""Direct logit attribution: terms that add up to the logit, and what refuses to be a sum."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AbbieD, Huginn, Std
from probes import bundle
from probes.attribution import logit_attribution
from tests.abbie_lens.families import make
from tests.abbie_lens.loops.test_entry_weights import LINEAR

R = 3
TOKENS = torch.tensor([[5, 9, 2, 7, 1]])


@pytest.fixture
def doubling():
    return make(AbbieD(), d_vocab=100, seed=1).double()


@pytest.mark.parametrize("name", LINEAR)
def test_terms_add_up_to_the_logit(name):
    model = make(LINEAR[name], seed=2).double()
    found = logit_attribution(model, TOKENS, R, target=11, versus=3)
    with torch.no_grad():
        logits = model(TOKENS, n_iters=R)
    np.testing.assert_allclose(found.logit, (logits[..., 11] - logits[..., 3]).numpy(), rtol=1e-12)
    np.testing.assert_allclose(found.contribution.sum(0), found.logit, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        found.random_contribution.sum(0), found.random_logit, rtol=1e-9, atol=1e-11
    )
    parts = found.by_stage()
    np.testing.assert_allclose(sum(parts.values()), found.logit, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found.by_iteration().sum(0), parts["body"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_placement": "sandwich_branch", "normalization_type": "LN", "use_bias": True, "use_attn_bias": True},
        {"norm_placement": "post_branch", "output_logits_soft_cap": 3.0},
        {"parallel_attn_mlp": True, "attention_gate": True, "n_key_value_heads": 2, "positional_embedding_type": "standard"},
        {"n_head_blocks": 0, "n_tail_blocks": 0},
    ],
    ids=["sandwich-LN", "post-capped", "parallel-gated", "body-alone"],
)  # fmt: skip
def test_every_kind_of_block(changes):
    model = make(AbbieD(), seed=3, **changes).double()
    for p in model.parameters():  # norms with weights and biases that are not 1 and 0
        torch.nn.init.normal_(p, 0.1, 0.3, generator=torch.Generator().manual_seed(p.numel()))
    found = logit_attribution(model, TOKENS, R, target=11)
    np.testing.assert_allclose(found.contribution.sum(0), found.logit, rtol=1e-8, atol=1e-9)
    with torch.no_grad():
        logit = model(TOKENS, n_iters=R)[..., 11].numpy()
    cap = found.soft_cap
    capped = cap * np.tanh(found.logit / cap) if cap else found.logit
    np.testing.assert_allclose(capped, logit, rtol=1e-8, atol=1e-9)


def test_a_term_is_the_components_output_weighted_by_the_carries_after_it(doubling):
    """Against a hand-made sum of one head, one MLP and the embedding."""
    found = logit_attribution(doubling, TOKENS, R, target=11)
    with torch.no_grad():
        sites = ["body.1.attn.hook_z", "tail.0.hook_resid_post", "embed.hook_out"]
        sites += [f"{stage}.0.hook_mlp_out" for stage in ("body", "tail")]
        _, cache = doubling.run_with_cache(TOKENS, n_iters=R, names_filter=sites)
    last = cache["tail.0.hook_resid_post"]
    scale = (last.square().mean(-1, keepdim=True) + doubling.cfg.eps).sqrt()
    read = doubling.unembed.weight[11] * doubling.ln_final.weight / scale
    head = cache["body.1.attn.hook_z@0"][:, :, 2] @ doubling.body[1].attn.W_O[2]
    expected = {
        ("body", 0, 1, "head 2"): 2 * head,
        ("body", 2, 0, "mlp"): cache["body.0.hook_mlp_out@2"],
        ("begin", -1, -1, "embedding"): 4 * cache["embed.hook_out"],
        ("tail", -1, 0, "mlp"): cache["tail.0.hook_mlp_out"],
    }
    keys = list(zip(found.stage, found.iteration, found.block, found.component, strict=True))
    for key, made in expected.items():
        row = keys.index(key)
        np.testing.assert_allclose(
            found.contribution[row], (made * read).sum(-1).detach(), rtol=1e-6
        )
    row = keys.index(("body", 0, 1, "head 2"))
    np.testing.assert_allclose(found.direct[row] * 2, found.contribution[row])
    np.testing.assert_allclose(found.carry[row] * 2, found.contribution[row])


def test_it_is_that_of_the_plain_stack_that_std_unrolls_into():
    """TransformerLens' own attribution of the unrolled cache, component by component."""
    model = make(Std(), seed=4, n_body_blocks=1)
    found = logit_attribution(model, TOKENS, 2, target=11)
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, n_iters=2)
        flat = cache.unroll()
        blocks, names = flat.decompose_resid(return_labels=True, mode="mlp")
        heads, of_heads = flat.stack_head_results(return_labels=True)
        parts = flat.apply_ln_to_stack(torch.cat([blocks, heads]))
        names = [*names, *of_heads]
        theirs = dict(zip(names, (parts @ model.unembed.weight[11]).numpy(), strict=True))
    frame = found.to_frame()
    layer = {"head": 0, "body": 1, "tail": 3}
    for name, own in frame[frame.component != "bias"].groupby(
        ["stage", "iteration", "block", "component"]
    ):
        stage, k, b, component = name
        if component == "attention bias":
            continue
        at = layer.get(stage, 0) + b + max(k, 0)
        label = (
            "embed"
            if component == "embedding"
            else f"{at}_mlp_out"
            if component == "mlp"
            else f"L{at}H{component[5:]}"
        )
        np.testing.assert_allclose(own.contribution, theirs[label][0], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(doubling):
    alone = logit_attribution(doubling, TOKENS, R, target=11, positions=[4])
    for side in ("left", "right"):
        zeros = torch.zeros(1, 2, dtype=torch.long)
        parts = (zeros, TOKENS) if side == "left" else (TOKENS, zeros)
        mask = torch.cat([torch.ones_like(p) * (p is TOKENS) for p in parts], 1)
        at = 6 if side == "left" else 4
        found = logit_attribution(
            doubling, torch.cat(parts, 1), R, target=11, positions=[at], attention_mask=mask
        )
        np.testing.assert_allclose(found.contribution, alone.contribution, rtol=1e-8, atol=1e-10)
        everywhere = logit_attribution(
            doubling, torch.cat(parts, 1), R, target=11, attention_mask=mask
        )
        assert (np.isnan(everywhere.logit) == (mask.numpy() == 0)).all()


def test_without_a_target_it_is_what_the_model_predicts(doubling):
    told = []
    found = logit_attribution(
        doubling, TOKENS, R, progress=lambda done, total: told.append((done, total))
    )
    with torch.no_grad():
        best = doubling(TOKENS, n_iters=R).max(-1)
    np.testing.assert_array_equal(found.target_ids, best.indices)
    np.testing.assert_allclose(found.logit, best.values)
    assert told[-1] == (2 * (R + 1), 2 * (R + 1)) and (found.random_ids != found.target_ids).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_adds_up_to_rounding(dtype):
    model = make(AbbieD("literal"), seed=5).to(dtype)
    found = logit_attribution(model, TOKENS, 8, target=11)
    size = np.abs(found.contribution).sum(0)
    assert (np.abs(found.error) / size).max() < (1e-5 if dtype == torch.float32 else 0.05)


def test_what_is_no_sum_is_refused_by_name():
    for name, why in (
        ("lt", "lt between"),
        ("ouro", "ouro"),
        ("fprm", "fprm"),
        ("mor", "mor"),
        ("hrm", "hrm"),
    ):
        with pytest.raises(InputError, match=f"carry of .*{why}|{why} norm the stream"):
            logit_attribution(make(name), TOKENS, 2)
    with pytest.raises(InputError, match="norm the stream itself"):
        logit_attribution(make(Huginn()), TOKENS, 2)
    with pytest.raises(InputError, match="norm the stream itself"):
        logit_attribution(make(AbbieC(), norm_placement="sandwich_stream"), TOKENS, 2)


def test_bad_input_is_named(doubling):
    for given, named in (
        ({"positions": [9]}, "positions: 9"), ({"positions": []}, "positions"), ({"target": 100}, "targets"),
        ({"target": 4, "versus": 4}, "versus"), ({"target": "x"}, "targets='x'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=named) as caught:
            logit_attribution(doubling, TOKENS, R, **given)
        assert "\n" not in str(caught.value)


def test_a_model_that_does_more_than_norm_and_unembed_is_refused(doubling, monkeypatch):
    plain = type(doubling)._readout
    monkeypatch.setattr(type(doubling), "_readout", lambda self, s: (2 * plain(self, s)[0], s))
    with pytest.raises(InputError, match="cannot be split"):
        logit_attribution(doubling, TOKENS, R, target=11)


def test_it_reads_back_from_a_bundle_and_is_drawn(doubling, tmp_path):
    found = logit_attribution(doubling, TOKENS, R, target=11, versus=3)
    back = bundle.load(bundle.save({"attribution": found}, tmp_path / "out")).results["attribution"]
    assert back.to_frame().equals(found.to_frame())
    for options in ({}, {"view": "heads", "block": 1}, {"view": "iterations"}, {"position": 2}):
        assert back.figure(theme="dark", **options).data
    with pytest.raises(InputError, match="position=9"):
        found.figure(position=9)


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same():
    model = make(AbbieD("literal"), seed=5, norm_placement="sandwich_branch")
    found = logit_attribution(model, TOKENS, R, target=11)
    there = logit_attribution(model.to("cuda"), TOKENS, R, target=11)
    np.testing.assert_allclose(there.contribution, found.contribution, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(there.random_ids, found.random_ids)
