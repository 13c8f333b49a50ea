"""Direct logit attribution of decoders of transformers' own classes, looped."""

import numpy as np
import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from probes.attribution import logit_attribution
from tests.abbie_lens.bridged.decoders import NAMES, make

RULES = ("repeat", "abbie-d", "damped", "anchored")
TOKENS = torch.tensor([[5, 9, 2, 7, 1]])


@pytest.mark.parametrize("i", range(len(NAMES)), ids=NAMES)
def test_terms_add_up_in_every_shape(i):
    model = LoopedBridge(make(NAMES[i]), Loop(1, 3, RULES[i % 4]))
    found = logit_attribution(model, TOKENS, 3, target=11)
    size = np.abs(found.contribution).sum(0)
    assert (np.abs(found.error) / size).max() < 1e-5
    assert {"head 3", "mlp"} <= set(found.component) and set(found.stage) >= {
        "head",
        "body",
        "tail",
    }
    with torch.no_grad():
        logit = model(TOKENS, n_iters=3)[..., 11].numpy()
    cap = found.soft_cap
    capped = cap * np.tanh(found.logit / cap) if cap else found.logit
    np.testing.assert_allclose(capped, logit, rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_make_up_attention_are_refused(monkeypatch):
    model = LoopedBridge(make("llama"), Loop(1, 3))
    with torch.no_grad():
        right = model.body[1].attn.W_O
    monkeypatch.setattr(type(model.body[1].attn), "W_O", property(lambda self: right))
    with pytest.raises(InputError, match=r"head\.0 the heads' outputs do not add up"):
        logit_attribution(model, TOKENS, 2, target=11)
