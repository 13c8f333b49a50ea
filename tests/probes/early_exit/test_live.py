"""A timed run is the run: its exits, and FLOPs that say what was left out."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import InputError
from abbie_lens.halting import policy
from abbie_lens.halting.run import halted
from probes import exits

R = 4


def test_exits_and_flops_are_those_of_the_run(tiny_model):
    model = tiny_model()
    tokens = torch.randint(1, model.cfg.d_vocab, (1, 12))
    rule = policy("fixed_k", threshold=2)
    found = probes.live_run(model, tokens, R, rule, copies=2)
    assert (found.exit_step == halted(model, tokens, R, rule).exits.numpy()).all()
    assert found.predicted > 1 and found.milliseconds > 0 and "times by FLOPs" in found.sentence()
    assert len(found.figure().data) == 2 and len(found.to_frame()) == 2
    never = probes.live_run(model, tokens, R, policy("fixed_k", threshold=R), copies=2)
    assert never.predicted == pytest.approx(1, rel=1e-6)
    with pytest.raises(InputError, match="min_iters=1"):
        probes.live_run(model, tokens, R, policy("fixed_k", threshold=0, min_iters=0))


def test_no_exits_are_better_than_the_oracle():
    nll = np.random.default_rng(0).exponential(1, (5, 200))
    depth, best = exits.oracle(nll)
    assert (np.diff(depth) > 0).all() and best[-1] == pytest.approx(nll.min(0).mean(), abs=1e-3)
    k = np.arange(5)
    on_hull = np.interp(k[1:], depth, best)
    assert (on_hull <= nll.mean(1)[1:] + 1e-9).all()
    assert len(exits.oracle(np.full((3, 2), np.nan))[0]) == 0
