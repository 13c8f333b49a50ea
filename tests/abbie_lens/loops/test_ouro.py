"""Ouro against its equation, written out."""

import pytest
import torch

from abbie_lens.errors import ConfigError
from abbie_lens.loops import Ouro
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import rms, run_block, turning

close = dict(atol=5e-5, rtol=1e-5)


def sandwiched(block, x):
    """One block with norms on what attention and MLP add."""
    plain, branch = block.ln1_post, block.ln2_post
    block.ln1_post = block.ln2_post = None
    rows = {}
    run_block(block, x, turning(range(x.shape[1]), 8), rows, "b")
    mid = x + rms(rows["b.hook_attn_out"][0], plain.eps) * plain.weight
    # The MLP alone of what stands behind attention.
    m = rms(mid, block.ln2.eps) * block.ln2.weight
    gate = torch.nn.functional.silu(m @ block.mlp.gate_proj.weight.T)
    out = (gate * (m @ block.mlp.in_proj.weight.T)) @ block.mlp.out_proj.weight.T
    block.ln1_post, block.ln2_post = plain, branch
    return mid + rms(out, branch.eps) * branch.weight


@torch.no_grad()
def test_every_state_is_the_equations(tokens):
    model = make("ouro")
    norm = lambda x: rms(x, model.ln_final.eps) * model.ln_final.weight  # noqa: E731
    for norms in (model.ln_final, *(n for b in model.body for n in (b.ln1_post, b.ln2_post))):
        norms.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(2))
    h = z = model.embed.weight[tokens]
    for state in walk(model, tokens, 3):
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(state.z, z, **close)
        logits = norm(z) @ model.unembed.weight.T
        torch.testing.assert_close(model.readout(state), logits, **close)
        z = h
        for block in model.body:
            z = sandwiched(block, z)
        h = norm(z)


def test_settings_out_of_range_are_told():
    with pytest.raises(ConfigError, match="entropy_weight"):
        make(Ouro(entropy_weight=(0.1, -0.1)))
    with pytest.raises(ConfigError, match="gate_slope"):
        make(Ouro(gate_slope=0.0))
    with pytest.raises(ConfigError, match="n_tail_blocks"):
        make(Ouro(), n_tail_blocks=1)
