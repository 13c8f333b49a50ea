"""IterationCache: labels equal rows, stacking is lazy and shares memory, partial records say so."""

import pytest
import torch

from abbie_lens.errors import InputError, SiteError
from abbie_lens.hooks import access
from abbie_lens.hooks.cache import IterationCache


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (2, 7), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def cache(tiny_model, tokens):
    return tiny_model().run_with_cache(tokens, n_iters=4)[1]


def test_the_label_always_equals_the_row(cache):
    for name in ("loop.hook_state", "body.1.attn.hook_pattern", "body.0.ln2.hook_scale"):
        stacked = cache[name]
        n = len(stacked)
        assert cache.iterations(name) == list(range(n))
        for i in range(-n, n):
            assert torch.equal(cache[f"{name}@{i}"], stacked[i])
        assert torch.equal(cache[f"{name}@1:3"], stacked[1:3])
        assert torch.equal(cache[f"{name}@:-1"], stacked[:-1])
        assert torch.equal(cache[f"{name}@::2"], stacked[::2])


def test_state_sites_have_one_row_more_than_body_sites(cache):
    assert len(cache["loop.hook_state"]) == len(cache["loop.hook_readout"]) == 5
    assert len(cache["body.0.hook_resid_pre"]) == 4
    assert torch.equal(cache["body.0.hook_resid_pre@3"], cache["loop.hook_state@3"])


def test_single_rows_are_not_copied_and_stacking_holds_nothing_twice(cache):
    row = cache["loop.hook_state@2"]
    assert cache["loop.hook_state@2"].data_ptr() == row.data_ptr()
    before = cache.nbytes
    stacked = cache["loop.hook_state"]
    assert cache.nbytes == before
    assert cache["loop.hook_state"].data_ptr() == stacked.data_ptr()
    assert cache["loop.hook_state@2"].data_ptr() == stacked[2].data_ptr()
    assert cache["loop.hook_state@1:4"].data_ptr() == stacked[1].data_ptr()


def test_a_partial_record_cannot_be_mistaken_for_the_whole(tiny_model, tokens):
    names = ["body.0.hook_resid_post@2:4", "body.1.hook_resid_post@-1", "loop.hook_state@0"]
    _, cache = tiny_model().run_with_cache(tokens, n_iters=5, names_filter=names)
    assert cache.iterations("body.0.hook_resid_post") == [2, 3]
    assert cache.iterations("body.1.hook_resid_post") == [4]
    assert cache["body.0.hook_resid_post@2:4"].shape[0] == 2
    with pytest.raises(SiteError, match=r"iterations \[0, 1, 4\] were not recorded"):
        cache["body.0.hook_resid_post"]
    with pytest.raises(SiteError, match="not recorded"):
        cache["loop.hook_state@-1"]
    with pytest.raises(SiteError, match="no such site"):
        cache["body.0.hook_resid_pre"]


def test_rows_whose_shape_changes_read_singly_and_do_not_stack():
    rows = {"body.0.hook_resid_pre": {0: torch.zeros(2, 4), 1: torch.zeros(2, 8)}}
    cache = IterationCache(rows, {}, {"body.0.hook_resid_pre": 2}, None, 2)
    assert cache["body.0.hook_resid_pre@1"].shape == (2, 8)
    with pytest.raises(SiteError, match="shape changes with the iteration"):
        cache["body.0.hook_resid_pre"]


def test_sites_outside_the_loop_have_no_iterations(cache):
    with pytest.raises(SiteError, match="outside the loop"):
        cache["tail.0.hook_resid_post@0"]


def test_storage_arguments(tiny_model, tokens):
    model = tiny_model()
    names = ["loop.hook_state", "body.0.attn.hook_q", "body.0.attn.hook_pattern", "embed.hook_out"]
    _, full = model.run_with_cache(tokens[:1], n_iters=2, names_filter=names)
    _, cut = model.run_with_cache(
        tokens[:1],
        n_iters=2,
        names_filter=names,
        cache_dtype=torch.float16,
        pos_slice=(2, 5),
        remove_batch_dim=True,
    )
    assert cut["loop.hook_state"].dtype == torch.float16
    torch.testing.assert_close(
        cut["loop.hook_state"].float(), full["loop.hook_state"][:, 0, 2:5], atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(
        cut["body.0.attn.hook_q"].float(),
        full["body.0.attn.hook_q"][:, 0, 2:5],
        atol=1e-3,
        rtol=1e-3,
    )
    torch.testing.assert_close(
        cut["body.0.attn.hook_pattern"].float(),
        full["body.0.attn.hook_pattern"][:, 0, :, 2:5],
        atol=1e-3,
        rtol=1e-3,
    )
    with pytest.raises(InputError, match="remove_batch_dim"):
        model.run_with_cache(tokens, remove_batch_dim=True, names_filter="embed.hook_out")


def test_names_filter_takes_a_function_on_bare_names(tiny_model, tokens):
    _, cache = tiny_model().run_with_cache(
        tokens, n_iters=3, names_filter=lambda name: name.endswith("hook_attn_out")
    )
    assert set(cache) == {
        f"{part}.hook_attn_out" for part in ("head.0", "body.0", "body.1", "tail.0")
    }
    assert cache["body.1.hook_attn_out"].shape[0] == 3


def test_gradients_have_the_same_axis(tiny_model, tokens):
    """Against autograd through the stepping interface: d loss / d h_k."""
    model = tiny_model()
    _, cache = model.run_with_cache(
        tokens,
        n_iters=3,
        names_filter=["loop.hook_state", "head.0.hook_resid_post"],
        incl_bwd=True,
        return_type="loss",
    )
    for k in range(3):
        state = model.begin(tokens, n_iters=3)
        for _ in range(k):
            state = model.step(state)
        h = state.h.detach().requires_grad_()
        state = state.replace(h=h)
        for _ in range(3 - k):
            state = model.step(state)
        loss = torch.nn.functional.cross_entropy(
            model.readout(state)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
        )
        (expected,) = torch.autograd.grad(loss, h)
        torch.testing.assert_close(
            cache[f"loop.hook_state_grad@{k}"], expected, atol=1e-7, rtol=1e-4
        )
    torch.testing.assert_close(
        cache["head.0.hook_resid_post_grad"], cache["loop.hook_state_grad@0"]
    )


def test_a_capture_that_does_not_fit_names_both_sizes_and_the_filter(
    tiny_model, tokens, monkeypatch
):
    class Little:
        available = 1000

    monkeypatch.setattr("abbie_lens.hooks.memory.psutil.virtual_memory", lambda: Little)
    with pytest.raises(InputError, match=r"needs .* GiB .* names_filter=\[\"loop.hook_state\""):
        tiny_model().run_with_cache(tokens, n_iters=4)


def test_the_forecast_of_a_full_capture_is_its_size(tiny_model, tokens):
    model = tiny_model()
    _, cache = model.run_with_cache(tokens, n_iters=4)
    rows = [(name, model.rows(name, 4) or 1) for name in model.hook_dict]
    assert access.capture_bytes(model.cfg, rows, *tokens.shape, torch.float32) == cache.nbytes


def test_to_moves_and_casts(cache):
    half = cache.to(dtype=torch.float16)
    assert half["loop.hook_state"].dtype == torch.float16
    assert cache["loop.hook_state"].dtype == torch.float32


@torch.no_grad()
def test_in_says_whether_reading_would_work(tiny_model):
    _, cache = tiny_model().run_with_cache([[1, 2, 3]], n_iters=2, names_filter="loop.hook_state")
    assert "loop.hook_state" in cache and "loop.hook_state@2" in cache
    for absent in ("loop.hook_state@3", "loop.hook_readout", "embed.hook_out@0", 3):
        assert absent not in cache
