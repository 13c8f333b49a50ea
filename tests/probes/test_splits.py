"""The window to loop: angles and knee of known curves, losses equal to those of models looped there."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from probes.splits import knee
from tests.abbie_lens.bridged import decoders

TOKENS = torch.randint(0, decoders.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(4))


def test_the_knee_is_where_a_curve_turns_flat():
    assert knee(np.array([1.0, 0.6, 0.2, 0.19, 0.18, 0.17])) == 2
    assert knee(np.array([0.9, 0.1, 0.1, 0.1])) == 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_losses_are_those_of_models_looped_there(name):
    model = LoopedBridge(decoders.make(name), Loop(0, 1))
    found = probes.split(model, TOKENS, n_iters=3, rule="damped", lengths=(1, 2, 4))
    assert found.loss.shape == (4, 3)
    assert np.isnan(found.loss).tolist() == [[s + n > 4 for n in (1, 2, 4)] for s in range(4)]
    for (s, n), (start, stop) in {(1, 1): (1, 3), (3, 0): (3, 4), (0, 2): (0, 4)}.items():
        looped = LoopedBridge(decoders.make(name), Loop(start, stop, "damped"))
        with torch.no_grad():
            expected = float(looped(TOKENS, n_iters=3, return_type="loss"))
        assert found.loss[s, n] == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        plain = decoders.make(name)(TOKENS, output_hidden_states=True)
    x = [h.double() for h in plain.hidden_states]
    cosine = torch.cosine_similarity(x[1], x[2], dim=-1)
    assert found.angular[1] == pytest.approx(float(cosine.arccos().mean()) / np.pi, abs=1e-6)
    assert found.loss[found.best[0]].min() >= 0 and len(found.to_frame()) == 8
    assert found.figure() and found.figure(view="loss")


def test_only_bridged_models_have_a_window_to_choose(tiny_model):
    with pytest.raises(InputError, match="LoopedBridge"):
        probes.split(tiny_model(), TOKENS)
    with pytest.raises(InputError, match="no window fits"):
        probes.split(LoopedBridge(decoders.make("gpt2"), Loop(0, 1)), TOKENS, lengths=(9,))
