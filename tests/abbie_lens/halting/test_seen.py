"""What hooks and caches see of runs whose tokens halt."""

import pytest
import torch

from abbie_lens.halting.run import halted
from tests.abbie_lens.families import make
from tests.abbie_lens.halting.dense import BATCH, POS, Dealt, dealt


@pytest.mark.parametrize("sites", [["body.1.attn.hook_pattern"], ["body.0.hook_resid_post"]])
def test_caches_hold_what_was_computed(sites, tokens, mask):
    """NaN at halted tokens and padding, the explicit path of attention included; states keep their last value."""
    model, real = make("abbie-d"), mask.bool()
    exits = dealt(real, 3)
    policy = Dealt(depths=exits[real])
    states = ["loop.hook_state", "loop.hook_readout"]
    plain = halted(model, tokens, 4, policy, attention_mask=mask)
    logits, cache = model.run_with_cache(
        tokens, n_iters=4, names_filter=sites + states, halting=policy, attention_mask=mask
    )
    torch.testing.assert_close(logits, plain.logits, rtol=0, atol=1e-5, equal_nan=True)
    axis = 2 if "pattern" in sites[0] else 1
    seen = cache[sites[0]].movedim(axis + 1, 2).flatten(3)
    assert seen.shape[0] == 4
    for k in range(4):
        assert torch.equal(~seen[k].isnan().any(-1), exits > k)
    z = cache["loop.hook_readout"]
    assert z.shape[0] == 5
    torch.testing.assert_close(z[-1], plain.z, rtol=0, atol=1e-5, equal_nan=True)
    assert torch.equal(z[4][real & (exits <= 2)], z[2][real & (exits <= 2)])


def test_hooks_see_whole_batches_and_change_what_goes_on(tokens):
    model = make("abbie-c")
    exits = dealt(torch.ones(BATCH, POS, dtype=torch.bool), 3)
    policy, seen = Dealt(depths=exits.flatten()), []

    def double(x, hook):
        seen.append((hook.iteration, x.shape, hook.computed))
        return 2 * x

    hooks = [("body.0.hook_mlp_out@1", double)]
    logits = model.run_with_hooks(tokens, n_iters=3, halting=policy, fwd_hooks=hooks)
    assert seen[0][:2] == (1, (BATCH, POS, 32)) and torch.equal(seen[0][2], exits > 1)
    changed = (logits - model(tokens, 3, halting=policy)).abs().amax(-1) > 1e-4
    assert changed[exits > 1].all() and changed.any()


def test_hooks_of_transformer_lens_see_the_same(tokens):
    """`add_hook` of the model and of a site, beside `run_with_hooks`: whole batches, NaN where nothing is computed."""
    model, site = make("abbie-d"), "body.0.hook_resid_post"
    exits = dealt(torch.ones(BATCH, POS, dtype=torch.bool), 3)
    policy = Dealt(depths=exits.flatten())
    seen = {"theirs": [], "at the site": [], "ours": []}
    keep = lambda name: lambda x, hook: seen[name].append(x.clone())  # noqa: E731
    model.add_hook(site, keep("theirs"))
    model.hook_dict[site].add_hook(keep("at the site"))
    model.run_with_hooks(tokens, n_iters=4, halting=policy, fwd_hooks=[(site, keep("ours"))])
    assert [x.shape for x in seen["ours"]] == [(BATCH, POS, 32)] * 3
    for name in ("theirs", "at the site"):
        for x, ours in zip(seen[name], seen["ours"], strict=True):
            torch.testing.assert_close(x, ours, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(seen["ours"][2][..., 0].isnan(), exits <= 2)
    model.reset_hooks()
    model(tokens, 4, halting=policy)
    assert len(seen["theirs"]) == 3, "they can be taken off again"
