"""FLOPs by part against counts written out by hand."""

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, errors
from abbie_lens.flops import count_flops, flops_per_token
from abbie_lens.loops import (
    FLT,
    AbbieC,
    AbbieD,
    AdaPonder,
    Huginn,
    LoopUS,
    MoR,
    Parcae,
    Ponder,
    Ponder2,
    Spiral,
)

D, MLP, V, PROJECTIONS = 32, 64, 100, 4


def block(n_keys, d_mlp=MLP, kv_share=1.0):
    """A block's FLOPs per token: q, o, k, v; scores and their product with v; three MLP matrices."""
    attention = 2 * D * D * (2 + 2 * kv_share) + 2 * (2 * n_keys * D)
    return attention + 3 * 2 * D * d_mlp


def test_parts_of_a_plain_loop(tiny_model):
    flops = count_flops(tiny_model(AbbieD()), n_iters=3, n_ctx=10)
    assert flops.head == flops.tail == block(10)
    assert flops.iterations == (2 * block(10),) * 3
    assert flops.unembed == 2 * D * V
    assert flops.total == flops.at(3) == (2 + 3 * 2) * block(10) + 2 * D * V
    assert flops.at(1) == flops_per_token(tiny_model(AbbieC()), n_iters=1, n_ctx=10)
    with pytest.raises(errors.InputError, match=r"n_iters=4: expected 0 to 3"):
        flops.at(4)


def test_the_window_is_the_models_context_and_the_depth_the_trained_one(tiny_model):
    flops = count_flops(tiny_model(n_iters=3))
    assert flops.n_ctx == 64 and len(flops.iterations) == 3 and flops.head == block(64)
    with pytest.raises(errors.InputError, match=r"n_ctx=65: expected 1 to 64"):
        count_flops(tiny_model(), n_ctx=65)


def test_grouped_queries_cost_fewer_projections(tiny_model):
    assert count_flops(tiny_model(n_key_value_heads=2)).head == block(64, kv_share=0.5)


def test_an_injection_costs_its_adapter(tiny_model):
    flops = count_flops(tiny_model(Huginn(), norm_placement="sandwich_stream"), n_iters=2)
    assert flops.iterations == (2 * block(64) + 2 * 2 * D * D,) * 2


def test_injected_queries_cost_nothing_more(tiny_model):
    flops = count_flops(tiny_model(FLT(), n_head_blocks=0, n_tail_blocks=0), n_iters=2)
    assert (flops.head, flops.tail) == (0, 0)
    assert flops.iterations == (2 * block(64),) * 2


def test_feedback_costs_a_pass_the_logits_and_their_mixture(tiny_model):
    bare = dict(n_head_blocks=0, n_tail_blocks=0)
    flops = count_flops(tiny_model(Ponder(), **bare), n_iters=2)
    update = 2 * block(64) + 2 * (2 * D * V)
    assert flops.head == 2 * block(64), "the pass before the first update"
    assert flops.iterations == (update, update)
    gate = 2 * D * 4 * D + 2 * 4 * D
    dense = count_flops(tiny_model(AdaPonder(threshold=1.0), **bare), n_iters=2)
    assert dense.iterations == (update + gate, update + gate), "halted tokens are counted"


def test_a_coarse_iteration_costs_its_chunks_only(tiny_model):
    flops = count_flops(tiny_model(Spiral(schedule=(4, 1), pooling="mean")), n_iters=2)
    assert flops.iterations == (2 * block(64 // 4) / 4, 2 * block(64))


def test_thoughts_double_the_sequence_after_the_first_pass(tiny_model):
    bare = dict(n_head_blocks=0, n_tail_blocks=0)
    flops = count_flops(tiny_model(Ponder2(), **bare), n_iters=3)
    assert flops.head == 0
    assert flops.iterations == (2 * block(64), 4 * block(128), 4 * block(128))


@pytest.mark.parametrize("kv", ["own", "shared"])
def test_routed_tokens_are_counted_dense(tiny_model, kv):
    expert = count_flops(tiny_model(MoR(kv=kv)), n_iters=3)
    assert expert.iterations == (2 * block(64) + 2 * D,) * 3
    token = count_flops(tiny_model(MoR("token", kv=kv)), n_iters=3)
    assert token.iterations == (2 * block(64) + 2 * 3 * D, 2 * block(64), 2 * block(64))


def test_a_gated_update_costs_its_low_rank_map_and_the_confidence(tiny_model):
    flops = count_flops(tiny_model(LoopUS(dt_rank=5)), n_iters=2)
    assert flops.iterations == (2 * block(64) + 2 * 2 * 5 * D + 2 * D,) * 2


@pytest.mark.parametrize("loop", [AbbieD(), Huginn()], ids=lambda loop: loop.family)
def test_a_model_without_memory_and_one_with_count_alike(tiny_config, loop):
    config = tiny_config(loop)
    with torch.device("meta"):
        planned = HookedLoopedTransformer(config)
    assert planned.device.type == "meta"
    assert count_flops(planned, 2) == count_flops(HookedLoopedTransformer(config), 2)


def test_tokens_without_values_pass_through_a_model_without_memory(tiny_config):
    with torch.device("meta"):
        planned = HookedLoopedTransformer(tiny_config())
        logits = planned(torch.zeros(2, 5, dtype=torch.long), n_iters=2)
    assert logits.shape == (2, 5, V)


def test_counting_leaves_the_model_as_it_is(tiny_model):
    model = tiny_model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seed = torch.get_rng_state()
    count_flops(model)
    assert model.training and torch.equal(seed, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_filter_costs_its_input_once_and_a_readout_in_every_iteration(tiny_model):
    """B before the first iteration; C in each, and once before them."""
    flops = count_flops(tiny_model(Parcae()), n_iters=2)
    assert flops.head == block(64) + 2 * 2 * D * D
    assert flops.iterations == (2 * block(64) + 2 * D * D,) * 2


def test_a_value_embedding_costs_its_gate(tiny_model):
    flops = count_flops(tiny_model(AbbieD(), value_embeddings="alternate"), n_iters=2)
    gate = 2 * 32 * 4
    assert (flops.head, flops.tail) == (block(64), block(64) + gate)
    assert flops.iterations == (2 * block(64) + gate,) * 2
