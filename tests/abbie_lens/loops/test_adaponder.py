"""AdaPonderLM against its equation: gates, monotone mask, keys and values of halted tokens, loss on the lowest gates."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from abbie_lens.errors import DepthError
from abbie_lens.loops import AdaPonder, Ponder
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import final_norm, read_out, run_block, turning

close = dict(atol=5e-5, rtol=1e-5)


def dense(model, tokens, loop, n_iters):
    """(h, z, mask) after 0 … n_iters updates: every pass computed whole, halted tokens then put back."""
    scale, rotary = 32**0.5, turning(range(tokens.shape[1]), 8)
    h = scale * model.embed.weight[tokens]
    mask = torch.ones(tokens.shape)
    z, old = None, {}
    for k in range(n_iters + 1):
        if k:
            gate = model.loop.gates[min(k - 1, loop.max_iters - 1)]
            hidden = torch.nn.functional.gelu(
                final_norm(model, z) @ gate[0].weight.T + gate[0].bias
            )
            s = (hidden @ gate[2].weight.T + gate[2].bias).sigmoid()[..., 0]
            mask = mask * (s >= loop.threshold)
            mixed = scale * read_out(model, z).softmax(-1) @ model.embed.weight
            h = h + (mask * s)[..., None] * mixed
        x, served = h, {}
        for b, block in enumerate(model.body):

            def serve(key, value, b=b, served=served, old=old, mask=mask):
                m = mask[..., None, None]
                if b in old:
                    key, value = (
                        m * n + (1 - m) * o for n, o in zip((key, value), old[b], strict=True)
                    )
                served[b] = (key, value)
                return key, value

            x = run_block(block, x, rotary, serve=serve)
        old = served
        z = x if z is None or not loop.freeze else mask[..., None] * x + (1 - mask)[..., None] * z
        yield h, z, mask


@pytest.mark.parametrize("name", ["adaponder", "adaponder-repeat_last", "adaponder-thaw"])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, name):
    model = make(name)
    expected = list(dense(model, tokens, model.cfg.loop, 3))
    for state, (h, z, mask) in zip(walk(model, tokens, 3), expected, strict=True):
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(state.z, z, **close)
        assert torch.equal(state.carry["active"], mask.bool())
    active = [mask.mean() for *_, mask in expected]
    assert active[0] == 1 and 0 < active[1] < 1, "some tokens halt, or this shows nothing"


@torch.no_grad()
def test_the_mask_falls_and_never_rises(tokens):
    model = make(AdaPonder(max_iters=6, threshold=0.3, gate_init=0.5), n_iters=6)
    cache = model.run_with_cache(tokens, n_iters=6)[1]
    mask, gate = cache["loop.hook_mask"][..., 0], cache["loop.hook_gate"][..., 0]
    assert (mask[1:] <= mask[:-1]).all() and 0 < mask[-1].mean() < mask[0].mean() < 1
    assert ((gate[1:] >= 0.3) & (mask[1:] == 0)).any(), "a later gate would have let a token go on"
    assert torch.equal(mask, (gate >= 0.3).float().cumprod(0))


@torch.no_grad()
def test_where_nothing_halts_serving_old_keys_is_recomputing(tokens, monkeypatch):
    model = make(AdaPonder(max_iters=3, threshold=0.0))
    reused = model(tokens, n_iters=3)
    monkeypatch.setattr("abbie_lens.context.Reuse.__call__", lambda self, slot, k, v: (k, v))
    assert torch.equal(reused, model(tokens, n_iters=3))
    halting = make("adaponder")
    recomputed = halting(tokens, n_iters=3)
    monkeypatch.undo()
    assert (recomputed - halting(tokens, n_iters=3)).abs().max() > 1e-4


@torch.no_grad()
def test_a_halted_token_keeps_its_keys_values_and_readout_and_others_attend_to_them(tokens):
    model = make("adaponder")
    _, before, now = walk(model, tokens, 2)
    halted = ~now.carry["active"]
    assert halted.any() and not halted.all()
    for b in range(2):
        for old, new in zip(before.carry["served"][b], now.carry["served"][b], strict=True):
            assert torch.equal(old[halted], new[halted])
            assert not (old[~halted] == new[~halted]).all()
    assert torch.equal(before.h[halted], now.h[halted])
    assert torch.equal(before.z[halted], now.z[halted])
    assert (before.z[~halted] != now.z[~halted]).any(-1).all()
    # Other keys of halted tokens in the pass before reach the tokens that go on.
    moved = {
        b: tuple(x + halted[..., None, None] for x in pair)
        for b, pair in before.carry["served"].items()
    }
    after = model.step(before.replace(carry={**before.carry, "served": moved}))
    later = (halted.cumsum(-1) > 0) & ~halted
    assert later.any() and (after.z[later] != now.z[later]).any(-1).all()
    assert torch.equal(after.z[halted], now.z[halted])


@torch.no_grad()
def test_gates_belong_to_their_iteration(tokens):
    model = make(AdaPonder(max_iters=3, threshold=0.0))
    shares = walk(model, tokens, 3)[-1].carry["gates"]
    model.loop.gates[1][2].bias.fill_(3.0)
    moved = walk(model, tokens, 3)[-1].carry["gates"]
    assert torch.equal(shares[0], moved[0]) and (moved[1] > shares[1]).all()
    assert len({id(gate) for gate in model.loop.gates}) == 3


@torch.no_grad()
def test_open_gates_are_ponder(tokens):
    model = make(AdaPonder(max_iters=2, threshold=0.0))
    for gate in model.loop.gates:
        gate[2].bias.fill_(50.0)
    plain = make(Ponder())
    weights = {k: v for k, v in model.state_dict().items() if "gates" not in k}
    plain.load_state_dict(weights)
    torch.testing.assert_close(model(tokens, n_iters=2), plain(tokens, n_iters=2), **close)


@torch.no_grad()
def test_more_updates_than_gates_are_refused_or_repeat_the_last(tokens):
    refusing = make(AdaPonder(max_iters=2))
    with pytest.raises(DepthError, match=r"n_iters=3: adaponder has 2 iterations"):
        refusing(tokens, n_iters=3)
    last = walk(refusing, tokens, 2)[-1]
    with pytest.raises(DepthError, match=r"n_iters=3: adaponder has 2 iterations"):
        refusing.step(last)
    one = make(AdaPonder(max_iters=1, beyond="repeat_last", threshold=0.5))
    two = make(AdaPonder(max_iters=2, threshold=0.5))
    for model in (one, two):
        model.loop.gates[0].load_state_dict(one.loop.gates[0].state_dict())
    two.load_state_dict(
        one.state_dict()
        | {f"loop.gates.1.{k}": v for k, v in one.loop.gates[0].state_dict().items()}
    )
    assert torch.equal(one(tokens, n_iters=2), two(tokens, n_iters=2))


def penalty(loop, gates, progress):
    found = loop.penalty(SimpleNamespace(carry={"gates": gates}), progress)
    return None if found is None else found.item()


def test_the_lowest_gates_of_all_tokens_and_iterations_are_pushed_down():
    first = torch.tensor([[0.9, 0.2], [0.5, 0.7]])[..., None].requires_grad_()
    second = torch.tensor([[0.1, 0.8], [0.6, 0.4]])[..., None].requires_grad_()
    loop = AdaPonder(gate_weight=0.5, gate_share=0.4, gate_ramp=(0.0, 0.0))
    found = loop.penalty(SimpleNamespace(carry={"gates": (first, second)}), 1.0)
    assert found.item() == pytest.approx(0.5 * (0.1 + 0.2 + 0.4) / 3)  # 3 of 8 values
    found.backward()
    push = 0.5 / 3
    assert first.grad[..., 0].tolist() == [[0, pytest.approx(push)], [0, 0]]
    assert second.grad[..., 0].tolist() == [[pytest.approx(push), 0], [0, pytest.approx(push)]]


def test_their_share_rises_between_the_ramps_ends():
    gates = (torch.linspace(0.01, 1, 100).view(1, 100, 1),)
    loop = AdaPonder(gate_weight=1.0, gate_share=0.5, gate_ramp=(0.2, 0.6))
    assert penalty(loop, gates, 0.0) is None and penalty(loop, gates, 0.2) is None
    lowest = lambda n: sum(range(1, n + 1)) / n / 100  # noqa: E731
    assert penalty(loop, gates, 0.4) == pytest.approx(lowest(25))
    assert penalty(loop, gates, 0.5) == pytest.approx(lowest(37))
    assert penalty(loop, gates, 0.6) == penalty(loop, gates, 1.0) == pytest.approx(lowest(50))
    assert penalty(dataclasses.replace(loop, gate_share=0.0), gates, 1.0) == pytest.approx(0.01)
    assert penalty(loop, (), 1.0) is None, "without an update there is no gate"


def test_gates_learn_from_the_loss_through_what_they_feed_back(tokens):
    model = make(AdaPonder(max_iters=2, threshold=0.0))
    model(tokens, n_iters=2, return_type="loss").backward()
    assert all(p.grad.abs().max() > 0 for p in model.loop.gates.parameters())
