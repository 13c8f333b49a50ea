"""The recorder on models that are not ours: every firing is kept, none silently lost."""

import pytest
import torch
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from abbie_lens import record
from abbie_lens.errors import SiteError


class Counter(HookedRootModule):
    """x -> x + 1, n times through one hook point, then doubled through another."""

    def __init__(self):
        super().__init__()
        self.hook_loop, self.hook_end = HookPoint(), HookPoint()
        self.setup()

    def forward(self, x, n):
        for _ in range(n):
            x = self.hook_loop(x + 1)
        return self.hook_end(2 * x)


def test_every_firing_is_a_row_in_order():
    output, cache = record(Counter(), torch.zeros(1, 2, 3), 4)
    assert output.unique().tolist() == [8]
    assert cache["hook_loop"].shape == (4, 1, 2, 3)
    assert cache["hook_loop"][:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert cache["hook_loop@-1"].unique().tolist() == [4]
    assert cache["hook_end"].shape == (1, 2, 3)


def test_addresses_are_resolved_once_the_count_is_known():
    _, cache = record(Counter(), torch.zeros(1, 2, 3), 5, names_filter=["hook_loop@-2:"])
    assert cache.iterations("hook_loop") == [3, 4]
    with pytest.raises(SiteError, match="iteration 5 does not exist"):
        record(Counter(), torch.zeros(1, 2, 3), 5, names_filter=["hook_loop@5"])
    with pytest.raises(SiteError, match="did not fire"):
        record(Counter(), torch.zeros(1, 2, 3), 0, names_filter=["hook_loop@0"])


def test_gradients_and_nothing_left_behind():
    model = Counter()
    x = torch.zeros(1, 2, 3, requires_grad=True)
    real = model.forward
    model.forward = lambda x, n: real(x, n).pow(2).sum()
    _, cache = record(model, x, 3, incl_bwd=True)
    assert cache["hook_loop_grad"].shape == (3, 1, 2, 3)
    assert cache["hook_end_grad"].unique().tolist() == [12]
    assert not any(point.fwd_hooks or point._forward_hooks for point in model.hook_dict.values())


@torch.no_grad()
def test_a_bridged_model_can_be_recorded():
    from transformer_lens.model_bridge import TransformerBridge

    sizes = dict(
        n_layers=2,
        d_model=16,
        n_heads=2,
        d_head=8,
        d_mlp=32,
        n_ctx=16,
        d_vocab=50,
        act_fn="gelu",
        seed=0,
    )
    bridge = TransformerBridge.boot_native(sizes)
    tokens = torch.tensor([[1, 2, 3]])
    logits, cache = record(
        bridge, tokens, names_filter=["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]
    )
    expected_logits, expected = bridge.run_with_cache(tokens)
    torch.testing.assert_close(logits, expected_logits)
    for name in cache:
        assert torch.equal(cache[name], expected[name])
    assert len(cache) == 2
