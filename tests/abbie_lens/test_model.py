"""The model against plain loops, plain transformers, and itself run another way."""

import pytest
import torch

from abbie_lens import errors
from abbie_lens.loops import AbbieC, AbbieD, Std
from tests.abbie_lens import reference

LOOPS = [Std(), AbbieC(), AbbieD("between"), AbbieD("skip_first"), AbbieD("literal")]
ids = lambda loop: f"{loop.family}-{getattr(loop, 'residual', '')}".rstrip("-")  # noqa: E731


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("loop", LOOPS, ids=ids)
@pytest.mark.parametrize("n_iters", [0, 1, 3])
def test_every_row_of_every_site_equals_a_plain_loop_over_the_blocks(
    tiny_model, tokens, loop, n_iters
):
    model = tiny_model(loop)
    with torch.no_grad():
        expected_logits, expected = reference.run(model, tokens, n_iters)
        logits, cache = model.run_with_cache(tokens, n_iters=n_iters)
    torch.testing.assert_close(logits, expected_logits, atol=1e-6, rtol=0)
    assert set(cache) == set(expected), "a site is missing or extra"
    for name, rows in expected.items():
        looped = name.startswith(("body.", "loop."))
        assert cache[name].shape == ((len(rows), *rows[0].shape) if looped else rows[0].shape)
        for i, row in enumerate(rows):
            recorded = cache[f"{name}@{i}"] if looped else cache[name]
            torch.testing.assert_close(recorded, row, atol=1e-5, rtol=1e-5, msg=f"{name}@{i}")
            if looped:
                assert torch.equal(cache[name][i], recorded)


def test_one_iteration_of_between_is_c_is_std(tiny_model, tokens):
    with torch.no_grad():
        a, b, c = (
            tiny_model(loop)(tokens, n_iters=1) for loop in (AbbieD("between"), AbbieC(), Std())
        )
        literal = tiny_model(AbbieD("literal"))(tokens, n_iters=1)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    torch.testing.assert_close(a, c, atol=1e-6, rtol=0)
    assert (a - literal).abs().max() > 1e-3, "literal must differ, or this test shows nothing"


def test_literal_and_between_have_identical_states(tiny_model, tokens):
    caches = [
        tiny_model(AbbieD(r)).run_with_cache(
            tokens, n_iters=6, names_filter=["loop.hook_state", "loop.hook_readout"]
        )[1]
        for r in ("between", "literal")
    ]
    assert torch.equal(caches[0]["loop.hook_state"], caches[1]["loop.hook_state"])
    assert not torch.equal(caches[0]["loop.hook_readout"], caches[1]["loop.hook_readout"])
    assert torch.equal(caches[1]["loop.hook_state"], caches[1]["loop.hook_readout"])


@pytest.mark.parametrize(
    "changes",
    [
        {"normalization_type": "LN"},
        {"act_fn": "gelu", "gated_mlp": False},
        {"positional_embedding_type": "standard"},
        {"tie_word_embeddings": False},
        {"n_key_value_heads": 2},
        {"use_bias": True},
        {"n_head_blocks": 0, "n_tail_blocks": 0},
    ],
    ids=str,
)
def test_alternatives_run_and_explicit_attention_equals_fused(tiny_model, tokens, changes):
    model = tiny_model(**changes)
    with torch.no_grad():
        fused = model(tokens, n_iters=3)
        explicit, cache = model.run_with_cache(tokens, n_iters=3)
    torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)
    assert cache["body.0.attn.hook_pattern"].shape == (3, 2, 4, 9, 9)
    torch.testing.assert_close(cache["body.0.attn.hook_pattern"].sum(-1), torch.ones(3, 2, 4, 9))


def test_alternatives_are_told_apart(tiny_model, tokens):
    """A flag that is read but changes nothing would pass the test above."""
    with torch.no_grad():
        base = tiny_model()(tokens)
        for changes in (
            {"normalization_type": "LN"},
            {"act_fn": "relu"},
            {"positional_embedding_type": "standard"},
            {"rotary_base": 50.0},
        ):
            assert (tiny_model(**changes)(tokens) - base).abs().max() > 1e-4, changes
    untied = tiny_model(tie_word_embeddings=False)
    assert untied.unembed.weight is not untied.embed.weight


@pytest.mark.parametrize(
    ("input", "n_iters", "says"),
    [
        ([[1, 2]], -1, "n_iters=-1"),
        ([[1, 2]], 1.5, "n_iters=1.5"),
        ([[1, 100]], 1, "vocabulary has 0 to 99"),
        ([[-1, 2]], 1, "vocabulary has 0 to 99"),
        ([[]], 1, "not empty"),
        ([[0.5]], 1, "integers"),
        ([[1] * 65], 1, "context holds 64"),
        ("a prompt", 1, "no tokenizer"),
    ],
)
def test_bad_input_names_the_argument_and_what_is_allowed(tiny_model, input, n_iters, says):
    with pytest.raises(errors.InputError, match=says):
        tiny_model()(input, n_iters=n_iters)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_close_to_float32(tiny_model, tokens, dtype):
    with torch.no_grad():
        full = tiny_model()(tokens, n_iters=2)
        half = tiny_model().to(dtype)(tokens, n_iters=2)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), full, atol=2e-2, rtol=5e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_equals_cpu(tiny_model, tokens, dtype):
    with torch.no_grad():
        cpu = tiny_model()(tokens, n_iters=3)
        logits, cache = tiny_model().to("cuda", dtype).run_with_cache(tokens, n_iters=3)
    torch.testing.assert_close(
        logits.cpu().float(), cpu, atol=1e-4 if dtype == torch.float32 else 5e-2, rtol=5e-2
    )
    assert cache["loop.hook_state"].device.type == "cuda"


def test_a_mask_of_another_shape_is_refused(tiny_model, tokens):
    with pytest.raises(errors.InputError, match=r"attention_mask: shape \(2, 8\)"):
        tiny_model()(tokens, attention_mask=torch.ones(2, 8))
