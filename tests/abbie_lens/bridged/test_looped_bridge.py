"""Plain decoders of several shapes, looped: equal to a loop by hand over the source's own blocks."""

import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.loop import RULES
from tests.abbie_lens.bridged import by_hand, decoders

START, STOP, R = 1, 3, 3
every_shape = pytest.mark.parametrize("name", decoders.NAMES)
TOKENS = torch.randint(0, decoders.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))


def close(a, b, tolerance=1e-5):
    """Equal to `tolerance` of the largest value, or of 1 if that is less."""
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


@every_shape
@pytest.mark.parametrize("window", [(0, 4), (1, 3), (0, 1), (3, 4)])
def test_one_iteration_is_the_plain_model(name, window):
    with torch.no_grad():
        plain = decoders.make(name)(TOKENS).logits
        for rule in RULES:
            model = LoopedBridge(decoders.make(name), Loop(*window, rule))
            close(model(TOKENS), plain)
            close(model(TOKENS, n_iters=1), plain)


@every_shape
@pytest.mark.parametrize("rule", RULES)
def test_states_are_those_of_a_loop_by_hand(name, rule):
    source = decoders.make(name)
    blocks = decoders.stack(source)
    hs, zs = by_hand.states(source, blocks, START, STOP, TOKENS, rule, R)
    model = LoopedBridge(decoders.make(name), Loop(START, STOP, rule))
    with torch.no_grad():
        logits, cache = model.run_with_cache(TOKENS, n_iters=R)
    close(cache["loop.hook_state"], torch.stack(hs))
    close(cache["loop.hook_readout"], torch.stack(zs))
    expected, _ = by_hand.logits_and_entry(source, blocks, START, STOP, zs[-1], TOKENS)
    close(logits, expected)
    close(model.decode(torch.stack(zs))[-1], expected)
    close(cache["body.0.hook_resid_pre"], torch.stack(hs[:R]))
    with torch.no_grad():
        state = model.begin(TOKENS, n_iters=R)
        for k in range(R):
            close(model.readout(state), model.decode(state.z))
            state = model.step(state)
            assert state.k == k + 1
        close(model.readout(state), logits, 0)


@every_shape
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_for_real_tokens(name, side):
    model = LoopedBridge(decoders.make(name), Loop(START, STOP, "damped"))
    short = TOKENS[:1, :6]
    padding = torch.zeros(1, 3, dtype=torch.long)
    parts = (padding, short) if side == "left" else (short, padding)
    mask = torch.cat(
        [torch.zeros_like(p) if p is padding else torch.ones_like(p) for p in parts], 1
    )
    with torch.no_grad():
        alone = model(short, n_iters=R)
        padded = model(torch.cat(parts, 1), n_iters=R, attention_mask=mask)
    close(padded[:, mask[0].bool()], alone, 1e-4)
