"""Outputs of the Body's blocks from iteration to iteration, against the cache and against limits known on paper."""

import numpy as np
import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AbbieD
from probes.dynamics.per_block import METRICS, per_block
from probes.result import Result
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import LOOPS, make

IDS = [[5, 6, 7, 8, 9]]


def test_steps_are_between_successive_rows_of_the_cache(tiny_model):
    model = tiny_model(AbbieD())
    found = per_block(model, IDS, 6, control=False)
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor(IDS), n_iters=6)
    for b in range(2):
        rows = cache[f"body.{b}.hook_resid_post"].double()
        step = rows.diff(dim=0).norm(dim=-1).numpy()
        unit = rows / rows.norm(dim=-1, keepdim=True)
        np.testing.assert_allclose(found.raw[:, b], step, rtol=1e-6)
        np.testing.assert_allclose(found.norm[:, b], rows.norm(dim=-1).numpy(), rtol=1e-6)
        turned = unit.diff(dim=0).norm(dim=-1).numpy()
        np.testing.assert_allclose(found.direction[:, b], turned, rtol=1e-4, atol=1e-7)
    assert found.sites == ("body.0.hook_resid_post", "body.1.hook_resid_post")


def test_limits_are_of_each_block_in_an_arithmetic_that_carries_them(tiny_model):
    """64 iterations double past what float32 can square."""
    model = tiny_model(AbbieD(), initializer_range=0.2)
    found = per_block(model, IDS, 16, control=False)
    assert (found.limit_iters, found.limit_dtype, found.limit_reason) == (64, "float64", "")
    twin = tiny_model(AbbieD(), initializer_range=0.2).double()
    with torch.no_grad():
        _, cache = twin.run_with_cache(torch.tensor(IDS), n_iters=64)
    ends = [cache[f"body.{b}.hook_resid_post@-1"] for b in range(2)]
    expected = torch.cosine_similarity(*ends, dim=-1).numpy()
    np.testing.assert_allclose(found.least_cosine, expected, rtol=1e-9)
    np.testing.assert_allclose(found.limit_cosine[0, 1], found.limit_cosine[1, 0])
    assert np.isfinite(found.limit_direction).all()
    assert (found.limit_direction[-1] < 1e-3 * found.limit_direction[0]).all()


def test_blocks_that_do_nothing_rest_at_one_point_and_others_do_not(tiny_model):
    idle, busy = tiny_model(AbbieC()), tiny_model(AbbieC(), initializer_range=0.5)
    with torch.no_grad():
        for block in idle.body:
            block.attn.o_proj.weight.zero_()
            block.mlp.out_proj.weight.zero_()
    same = per_block(idle, IDS, 4, control=False)
    assert same.share_same == 1 and (same.direction == 0).all()
    np.testing.assert_allclose(same.least_cosine, 1, atol=1e-12)
    other = per_block(busy, IDS, 4, control=False, same=0.999)
    assert other.share_same < 1 and (other.least_cosine < 0.999).any()


def test_one_block_has_no_pair_of_limits(tiny_model):
    found = per_block(tiny_model(AbbieD(), n_body_blocks=1), IDS, 4, control=False)
    assert np.isnan(found.least_cosine).all() and np.isnan(found.share_same)


@pytest.mark.parametrize("name", LOOPS)
def test_every_family_is_measured_or_refused_by_name(name):
    model, mask = make(name), [[1, 1, 1, 1], [1, 1, 1, 0]]
    ids = [[5, 6, 7, 8], [9, 10, 11, 0]]
    if model.cfg.loop.family in ("spiral", "ponder-2"):
        with pytest.raises(InputError, match="other rows than the tokens"):
            per_block(model, ids, 3, attention_mask=mask, control=False)
        return
    found = per_block(model, ids, 3, attention_mask=mask, control=False)
    n_rows = 3 if model.cfg.loop.family == "hrm" else model.rows(found.sites[0], 3)
    assert found.norm.shape == (n_rows, len(found.sites), 2, 4)
    assert np.isfinite(found.raw[:, :, found.valid]).all()
    assert np.isnan(found.norm[:, :, ~found.valid]).all()
    if model.cfg.loop.max_depth is not None:
        assert found.limit_iters == 0 and "n_iters=12" in found.limit_reason
        assert np.isnan(found.limit_direction).all() and np.isnan(found.limit_step).all()
    with torch.no_grad():
        _, cache = model.run_with_cache(
            torch.tensor(ids), attention_mask=torch.tensor(mask), n_iters=3
        )
    last = cache[f"{found.sites[-1]}@-1"].double().norm(dim=-1).numpy()
    np.testing.assert_allclose(found.norm[-1, -1][found.valid], last[found.valid], rtol=1e-5)


def test_bridged_models_by_canonical_names(tiny_tokenizer):
    model = LoopedBridge(
        decoders.make("gpt2", seed=3, vocab_size=300), Loop(1, 3, "damped"), tiny_tokenizer, "gpt2"
    )
    found = per_block(model, ["the cat sat", "the"], 3)
    assert found.control is not None and found.control.model.name == "gpt2 (random initialisation)"
    assert np.isfinite(found.direction[:, :, found.valid]).all()


def test_a_run_that_diverges_keeps_what_came_before_and_names_the_iteration(tiny_model):
    """float16 ends at 65504, which a doubling family reaches."""
    found = per_block(tiny_model(AbbieD()).half(), IDS, 24, control=False)
    lost = found.diverged_at
    assert (lost > 8).all() and (lost < 24).all()
    for p, k in enumerate(lost[0].tolist()):
        assert np.isfinite(found.norm[: k - 1, :, 0, p]).all()
        assert np.isnan(found.norm[k - 1 :, :, 0, p]).all()
    assert found.limit_dtype != "float16"


def test_numbers_by_token_frame_file_and_figures(tiny_model, tmp_path):
    ticks = []
    found = per_block(
        tiny_model(AbbieD()), [[1, 2, 3], [4, 5, 0]], 5, seed=4,
        attention_mask=[[1, 1, 1], [1, 1, 0]], progress=lambda done, total: ticks.append((done, total)),
    )  # fmt: skip
    assert ticks[-1] == (4, 4)
    for name, value in found.per_token().items():
        assert value.ndim == 3 and value.shape[1:] == (2, 3), name
        assert np.isnan(value[:, 1, 2]).all(), name
    frame = found.to_frame()
    assert len(frame) == 2 * 2 * 5 * 5
    cell = frame.query("weights == 'random' and block == 'body.1' and iteration == 2").iloc[1]
    assert cell["direction"] == found.control.direction[2, 1, 0, 1]
    again = Result.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.metric("raw"), found.raw)
    for view in ("curves", "limits"):
        for theme in ("light", "dark"):
            assert found.figure(view=view, theme=theme).data
    medians = np.median(found.direction[:, 0][:, found.valid], axis=1)
    np.testing.assert_allclose(found.figure().data[0].y, medians)
    assert set(METRICS) == {n.split()[0] for n in found.per_token()} - {"least_cosine"}


@pytest.mark.parametrize(
    ("options", "named"),
    [({"limit_times": 3}, "limit_times"), ({"same": 2}, "same"), ({"n_iters": 0}, "n_iters")],
)
def test_bad_arguments_are_named(tiny_model, options, named):
    with pytest.raises(InputError, match=named):
        per_block(tiny_model(AbbieD()), IDS, **{"n_iters": 4, **options})


def test_a_model_without_sites_is_refused(iterated):
    with pytest.raises(InputError, match="no site"):
        per_block(iterated(lambda h, k: h, torch.eye(4)), [0, 1], 4)
