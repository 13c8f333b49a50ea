"""Runs whose tokens halt, in half precision and on a GPU."""

import pytest
import torch

from abbie_lens import halting
from abbie_lens.halting.run import halted
from tests.abbie_lens.families import make
from tests.abbie_lens.halting.dense import Dealt, dealt


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_halts_close_to_float32(dtype, tokens, mask):
    """The same exits dealt, so that rounding cannot move them; a rule of its own runs too."""
    real = mask.bool()
    exits = dealt(real, 3)
    policy = Dealt(depths=exits[real])
    full, half = (
        halted(make("ouro").to(d), tokens, 3, policy, attention_mask=mask)
        for d in (torch.float32, dtype)
    )
    assert half.logits.dtype == dtype and torch.equal(half.exits, exits)
    torch.testing.assert_close(half.logits[real].float(), full.logits[real], atol=0.1, rtol=0.1)
    assert 2 * sum(half.kv_bytes) == sum(full.kv_bytes)
    rule = halting.policy("kl", threshold=0.05)
    out, depths = (
        make("ouro")
        .to(dtype)
        .generate(tokens, 2, n_iters=3, attention_mask=mask, halting=rule, return_exits=True)
    )
    assert out.shape == (3, 14) and len(depths.unique()) > 1


@pytest.mark.gpu
@pytest.mark.parametrize("kv", ["reuse", "recompute", "cyclic(2)"])
@pytest.mark.parametrize("name", ["abbie-d", "adaponder", "hrm"])
def test_gpu_equals_cpu(name, kv, tokens, mask):
    real = mask.bool()
    exits = dealt(real, 3)
    cpu = halted(make(name), tokens, 3, Dealt(depths=exits[real]), kv, attention_mask=mask)
    there = Dealt(depths=exits[real].cuda())
    gpu = halted(make(name).cuda(), tokens.cuda(), 3, there, kv, attention_mask=mask.cuda())
    assert torch.equal(gpu.exits.cpu(), cpu.exits)
    torch.testing.assert_close(gpu.logits.cpu()[real], cpu.logits[real], atol=1e-3, rtol=1e-2)
    given = dict(n_iters=3, temperature=0, halting=halting.policy("fixed_k", threshold=2), kv=kv)
    one = make(name).generate(tokens, 3, attention_mask=mask, **given)
    two = make(name).cuda().generate(tokens.cuda(), 3, attention_mask=mask.cuda(), **given)
    assert torch.equal(one, two.cpu())
