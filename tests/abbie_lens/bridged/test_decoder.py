"""A decoder read once: several windows on one set of weights, each equal to one made on its own."""

import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.decoder import Decoder
from abbie_lens.errors import ConfigError
from tests.abbie_lens.bridged import decoders

TOKENS = torch.randint(0, decoders.VOCABULARY, (1, 7), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
@torch.no_grad()
def test_windows_side_by_side_are_those_made_alone(name):
    decoder = Decoder(decoders.make(name), None, name)
    loops = [Loop(0, 2, "damped"), Loop(1, 3, "abbie-d"), Loop(3, 4)]
    made = [decoder.looped(loop) for loop in loops]
    for loop, model in zip(loops, made, strict=True):
        alone = LoopedBridge(decoders.make(name), loop, None, name)
        assert torch.equal(model(TOKENS, n_iters=3), alone(TOKENS, n_iters=3))
        assert model.info().weight_hash == alone.info().weight_hash
    # a site of one is no site of another
    seen = []
    with made[0].hooks(fwd_hooks=[("loop.hook_state", lambda h, hook: seen.append(1))]):
        made[1](TOKENS, n_iters=3)
    assert not seen


def test_no_weight_is_held_twice():
    decoder = Decoder(decoders.make("llama"), None, "llama")
    held = {tensor.data_ptr() for tensor in decoder.source.parameters()}
    for loop in (Loop(0, 2), Loop(1, 3)):
        model = decoder.looped(loop)
        assert {tensor.data_ptr() for tensor in model.source.parameters()} == held
    plain = decoder.source(TOKENS).logits  # still as it was read
    assert torch.equal(plain, decoders.make("llama")(TOKENS).logits)


def test_a_window_that_does_not_fit_leaves_the_others_alone():
    decoder = Decoder(decoders.make("gpt2"), None, "gpt2")
    with pytest.raises(ConfigError, match="stop=9"):
        decoder.looped(Loop(0, 9))
    assert decoder.looped(Loop(0, 2)).cfg.n_body_blocks == 2
