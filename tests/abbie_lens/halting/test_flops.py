"""FLOPs of halted runs by formula, against torch's counter where attention is made of products."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from abbie_lens import halting
from abbie_lens.flops import flops_per_token
from abbie_lens.halting.flops import halted_flops
from abbie_lens.halting.run import halted
from tests.abbie_lens.families import make
from tests.abbie_lens.halting.dense import Dealt

EXITS = torch.randint(1, 5, (3, 24), generator=torch.Generator().manual_seed(3))
RULES = {
    "dealt": Dealt(depths=EXITS.flatten()),
    "kl": halting.policy("kl", threshold=0.1),
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
        ("hrm", "dealt", "reuse"),
        ("ponder", "dealt", "reuse"),
        ("parcae", "dealt", "reuse"),
    ],
)
def test_the_formula_is_what_is_counted(name, rule, kv):
    model = make(name)
    tokens = torch.randint(0, 100, (3, 24), generator=torch.Generator().manual_seed(1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run = halted(model, tokens, 4, RULES[rule], kv)
    flops = halted_flops(model, run)
    assert flops.total == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert (flops.looks > 0) == (rule != "dealt" or kv == "full")
    if kv == "reuse":
        assert flops.total - flops.looks < 0.95 * flops_per_token(model, 4, 24) * tokens.numel()
