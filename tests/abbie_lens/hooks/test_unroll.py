"""unroll: TransformerLens' own tools on the equivalent plain transformer, exact or refused."""

import pytest
import torch

from abbie_lens import record
from abbie_lens.errors import SiteError
from abbie_lens.loops import AbbieC, AbbieD, Std

LOOPS = [Std(), AbbieC(), AbbieD("between"), AbbieD("skip_first"), AbbieD("literal")]
LAST = "blocks.7.hook_resid_post"


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (2, 7), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("loop", LOOPS, ids=str)
@pytest.mark.parametrize("norm", ["RMS", "LN"])
@torch.no_grad()
def test_the_last_layer_gives_the_models_logits(tiny_model, tokens, loop, norm):
    model = tiny_model(loop, normalization_type=norm)
    logits, cache = model.run_with_cache(tokens, n_iters=3)
    plain = cache.unroll()
    stack, labels = plain.accumulated_resid(apply_ln=True, return_labels=True)
    assert labels == [f"{layer}_pre" for layer in range(8)] + ["final_post"]
    torch.testing.assert_close(model.unembed(stack[-1]), logits, atol=1e-5, rtol=0)
    lens = plain.logit_lens(positions=None)
    torch.testing.assert_close(lens.values[-1].reshape(logits.shape), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("loop", [Std(), AbbieC()], ids=str)
@torch.no_grad()
def test_components_sum_to_the_residual_where_the_carry_is_a_plain_sum(tiny_model, tokens, loop):
    _, cache = tiny_model(loop).run_with_cache(tokens, n_iters=3)
    plain = cache.unroll()
    torch.testing.assert_close(plain.decompose_resid().sum(0), plain[LAST], atol=1e-5, rtol=0)
    heads = plain.stack_head_results()
    mlps = torch.stack([plain["mlp_out", layer] for layer in range(8)])
    torch.testing.assert_close(
        heads.sum(0) + mlps.sum(0) + plain["hook_embed"], plain[LAST], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("residual", ["between", "skip_first", "literal"])
@torch.no_grad()
def test_abbie_d_refuses_by_name(tiny_model, tokens, residual):
    plain = tiny_model(AbbieD(residual)).run_with_cache(tokens, n_iters=3)[1].unroll()
    for tool in (
        "decompose_resid",
        "stack_head_results",
        "stack_neuron_results",
        "get_full_resid_decomposition",
    ):
        with pytest.raises(SiteError, match=f"{tool}: in abbie-d at r = 3"):
            getattr(plain, tool)()


@torch.no_grad()
def test_a_normed_stream_is_no_sum(tiny_model, tokens):
    model = tiny_model(AbbieC(), norm_placement="sandwich_stream")
    plain = model.run_with_cache(tokens, n_iters=3)[1].unroll()
    with pytest.raises(SiteError, match="decompose_resid: blocks with norm_placement"):
        plain.decompose_resid()


@torch.no_grad()
def test_abbie_d_at_one_iteration_is_a_plain_sum_again(tiny_model, tokens):
    plain = tiny_model(AbbieD("between")).run_with_cache(tokens, n_iters=1)[1].unroll()
    torch.testing.assert_close(
        plain.decompose_resid().sum(0), plain["blocks.3.hook_resid_post"], atol=1e-5, rtol=0
    )
    with pytest.raises(SiteError):
        tiny_model(AbbieD("literal")).run_with_cache(tokens, n_iters=1)[
            1
        ].unroll().decompose_resid()


@torch.no_grad()
def test_layers_are_the_iterations_in_order_and_share_memory(tiny_model, tokens):
    _, cache = tiny_model().run_with_cache(tokens, n_iters=3)
    plain = cache.unroll()
    assert plain.model.cfg.n_layers == 8
    for i in range(3):
        for b in range(2):
            assert torch.equal(
                plain["resid_pre", 1 + 2 * i + b], cache[f"body.{b}.hook_resid_pre@{i}"]
            )
    assert plain["resid_pre", 3].data_ptr() == cache["body.0.hook_resid_pre@1"].data_ptr()
    assert torch.equal(plain["pattern", 7], cache["tail.0.attn.hook_pattern"])


def test_a_foreign_cache_refuses():
    from tests.abbie_lens.hooks.test_capture import Counter

    with pytest.raises(SiteError, match="only a cache of one of our looped models"):
        record(Counter(), torch.zeros(1, 1, 1), 2)[1].unroll()
