"""FLOPs of halted runs by formula, against torch's counter where attention is made of products."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from abbie_lens import halting
from abbie_lens.flops import count_flops, flops_per_token
from abbie_lens.halting.flops import halted_flops
from abbie_lens.halting.run import halted
from tests.abbie_lens.families import make
from tests.abbie_lens.halting.dense import Dealt, dense

EXITS = torch.randint(1, 5, (3, 24), generator=torch.Generator().manual_seed(3))
RULES = {
    "dealt": Dealt(depths=EXITS.flatten()),
    "kl": halting.policy("kl", threshold=0.1),
    "gate": halting.policy("learned_gate", threshold=1.0),
    "every second": halting.policy("kl", threshold=1.0, check_every=2),
}


@pytest.mark.parametrize(
    ("name", "rule", "kv"),
    [
        ("abbie-d", "dealt", "reuse"),
        ("abbie-d", "dealt", "recompute"),
        ("abbie-d", "dealt", "full"),
        ("abbie-d", "kl", "reuse"),
        ("abbie-d", "every second", "reuse"),
        ("adaponder", "gate", "reuse"),
        ("hrm", "dealt", "reuse"),
        ("ponder", "dealt", "reuse"),
        ("parcae", "dealt", "reuse"),
    ],
)
def test_the_formula_is_what_is_counted(name, rule, kv):
    model, r = make(name), 3 if name == "adaponder" else 4
    tokens = torch.randint(0, 100, (3, 24), generator=torch.Generator().manual_seed(1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run = halted(model, tokens, r, RULES[rule], kv)
    flops = halted_flops(model, run)
    assert flops.total == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert (flops.looks > 0) == (rule != "dealt" or kv == "full")
    if kv == "reuse":
        assert flops.total - flops.looks < 0.95 * flops_per_token(model, r, 24) * tokens.numel()


def test_a_gate_that_is_asked_is_counted():
    """AdaPonder's rule asks the next update's gate: 2 (4 d^2 + 4 d) a token, and nothing after the last."""
    model = make("adaponder")
    gates = count_flops(model, 3, 24).gates
    assert gates == pytest.approx((2 * (4 * 32 * 32 + 4 * 32),) * 3 + (0,))
    assert count_flops(make("abbie-d"), 2, 24).gates == ()


def test_long_rows_are_cut_into_stretches():
    """Keys that come after every query of a stretch are not computed, and nothing changes by it."""
    model = make("abbie-d", n_ctx=300)
    tokens = torch.randint(0, 100, (2, 300), generator=torch.Generator().manual_seed(1))
    exits = torch.randint(1, 5, tokens.shape, generator=torch.Generator().manual_seed(3))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run = halted(model, tokens, 4, Dealt(depths=exits.flatten()))
    assert halted_flops(model, run).total == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert run.iterations[1].pairs < 0.85 * 300 * run.iterations[1].rows
    expected = dense(model, tokens, 4, exits)
    torch.testing.assert_close(run.logits, expected, rtol=0, atol=1e-5)
