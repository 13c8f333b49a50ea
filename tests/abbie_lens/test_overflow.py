"""A doubling state in a short range: told at the second iteration, for the iteration at which it happens."""

import math
import warnings

import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import OverflowForecast
from abbie_lens.loops import AbbieC, AbbieD
from abbie_lens.overflow import forecast
from tests.abbie_lens.bridged import decoders

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9]])


@torch.no_grad()
def run(model, n_iters):
    """(first iteration whose state is not finite, or None; the warnings; how far the run was when they came)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state, seen, lost = model.begin(TOKENS, n_iters), [], None
        for _ in range(n_iters):
            state = model.step(state)
            told = [w.message for w in caught if issubclass(w.category, OverflowForecast)]
            seen += [state.k] * (len(told) - len(seen))
            if lost is None and not bool(state.h.isfinite().all()):
                lost = state.k
    return lost, [str(m) for m in told], seen


def silent_blocks(model):
    """Blocks that add nothing: then h_k = 2^k h_0, to the last bit."""
    for block in model.body:
        for matrix in (block.attn.o_proj, block.mlp.out_proj):
            torch.nn.init.zeros_(matrix.weight)
    return model


@pytest.mark.parametrize("residual", ["between", "literal"])
@pytest.mark.parametrize("largest", [0.5, 3.0, 31.0, 32.0, 900.0])
def test_a_state_of_known_norm_is_told_when_it_overflows(tiny_model, residual, largest):
    model = silent_blocks(tiny_model(AbbieD(residual), n_head_blocks=0))
    with torch.no_grad():
        model.embed.weight.clamp_(-0.4, 0.4)
        model.embed.weight[TOKENS[0, 0], 0] = largest
    model = model.half()
    expected = next(k for k in range(30) if largest * 2**k > torch.finfo(torch.float16).max)
    lost, told, seen = run(model, 24)
    assert lost == expected and seen == [2]
    assert f"overflow at iteration {expected} of 24" in told[0] and "\n" not in told[0]
    assert (
        "bfloat16 or float32, or fewer" in told[0] and "float16, which ends at 6.55e+04" in told[0]
    )
    assert run(model, expected)[1] and not run(model, expected - 1)[1]


@pytest.mark.parametrize("residual", ["between", "literal", "skip_first"])
@pytest.mark.parametrize("scale", [0.02, 0.2])
def test_random_weights_are_told_within_one_iteration(tiny_model, residual, scale):
    lost, told, seen = run(tiny_model(AbbieD(residual), initializer_range=scale).half(), 24)
    assert seen == [2] and lost is not None
    assert any(f"at iteration {k} of 24" in told[0] for k in (lost - 1, lost, lost + 1))


@pytest.mark.parametrize("name", decoders.NAMES)
def test_bridged_models_too(name):
    source = decoders.make(name).half()
    lost, told, seen = run(LoopedBridge(source, Loop(1, 3, "abbie-d")), 24)
    assert seen == [2] and 4 < lost < 20
    assert any(f"at iteration {k} of 24" in told[0] for k in (lost - 1, lost, lost + 1))


def test_nothing_is_said_where_nothing_overflows(tiny_model):
    for model in (
        tiny_model(AbbieD()),
        tiny_model(AbbieD()).bfloat16(),
        tiny_model(AbbieC()).half(),
        tiny_model(AbbieD(), norm_placement="sandwich_stream").half(),
        LoopedBridge(decoders.make("llama").half(), Loop(1, 3, "damped")),
    ):
        lost, told, _ = run(model, 40)
        assert lost is None and not told
    training = tiny_model(AbbieD()).half().train()
    assert not run(training, 24)[1]


def test_wider_ranges_end_too(tiny_model):
    lost, told, seen = run(silent_blocks(tiny_model(AbbieD())).bfloat16(), 140)
    assert seen == [2] and f"at iteration {lost} of 140" in told[0] and "float64" in told[0]


def test_what_is_not_growing_or_is_lost_already():
    half = torch.float16
    assert forecast(torch.zeros(3), 2, 2.0, half) == math.inf
    assert forecast(torch.tensor([math.inf]), 2, 2.0, half) == 2
    assert forecast(torch.tensor([1.0, -3.0]), 2, 2.0, half) == 2 + int(math.log2(65504 / 3))


def test_half_precision_bridges_load_and_run(tmp_path):
    import abbie_lens

    decoders.make("llama").save_pretrained(tmp_path)
    loop = Loop(1, 3, "damped")
    full = abbie_lens.load(tmp_path, "cpu", loop=loop)
    for name, tolerance in (("bfloat16", 0.1), ("float16", 0.02)):
        half = abbie_lens.load(tmp_path, "cpu", name, loop=loop)
        with torch.no_grad():
            a, b = half(TOKENS, n_iters=3), full(TOKENS, n_iters=3)
        assert str(half.dtype) == f"torch.{name}" == f"torch.{half.cfg.dtype}"
        assert (a.float() - b).abs().max() < tolerance * b.abs().max()
        assert half.generate(TOKENS, 3, n_iters=3, temperature=0).shape == (1, 9)
