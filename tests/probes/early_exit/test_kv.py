"""KV-sharing error: what it says of rules that change nothing, and of those that do."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens import halting
from abbie_lens.errors import InputError
from tests.abbie_lens.families import make


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 100, (2, 10), generator=torch.Generator().manual_seed(1))


def test_errors_are_of_the_keys_alone(tokens, tmp_path):
    mask = torch.ones(2, 10, dtype=torch.long)
    mask[0, :3] = 0
    model = make("abbie-d")
    rule = halting.policy("argmax_stable", threshold=1)
    found = probes.kv_sharing(model, tokens, 6, rule=rule, attention_mask=mask)
    assert found.error.shape == (5, 2, 10) and (found.mean_error > 0).all()
    assert np.isnan(found.error[:, 0, :3]).all() and (found.exit_step[0, :3] == -1).all()
    # The first token of a row sees itself alone.
    assert found.error[0, 0, 3] == pytest.approx(0, abs=1e-6)
    replay = probes.halting(model, tokens, 6, rules=[rule], attention_mask=mask)
    assert np.array_equal(replay.at("argmax_stable").exit_step, found.exit_step)
    assert (found.kv_share[[0, 2, 3, 4]] < 1).all() and found.kv_share[1] == 1
    frame = found.to_frame()
    assert len(frame) == 5 * 17 and frame.kl_to_full.notna().all()
    assert found.figure(theme="dark").data
    probes.bundle.save({"kv": found}, tmp_path / "bundle")
    again = probes.bundle.load(tmp_path / "bundle").results["kv"]
    assert np.array_equal(again.error, found.error, equal_nan=True)


def test_nothing_is_lost_where_nothing_halts_early(tokens):
    rule = halting.policy("fixed_k", threshold=3)
    found = probes.kv_sharing(
        make("abbie-c"), tokens, 3, rule=rule, kv=["reuse", "recompute", "first"]
    )
    assert np.abs(found.error[:2]).max() < 1e-6 < found.mean_error[2]
    assert (found.agrees[:2] == 1).all()


def test_bad_input_is_named(tokens):
    with pytest.raises(InputError, match="kv='reuse'"):
        probes.kv_sharing(make("abbie-c"), tokens, 3, kv="reuse")
    with pytest.raises(InputError, match="mor mixes tokens"):
        probes.kv_sharing(make("mor"), tokens, 3)
    with pytest.raises(InputError, match="before the first iteration"):
        probes.kv_sharing(make("abbie-c"), tokens, 3, rule=halting.policy("fixed_k", threshold=0))
