"""One transformer block: attention, then MLP, each added to the residual stream.

pre               x <- x + attn(ln1(x)),            x <- x + mlp(ln2(x))
sandwich_stream   x <- ln1_post(x + attn(ln1(x))),  x <- ln2_post(x + mlp(ln2(x)))   (arXiv 2502.05171)
"""

from __future__ import annotations

from torch import Tensor, nn

from abbie_lens.components.attention import Attention
from abbie_lens.components.mlp import MLP
from abbie_lens.components.norm import make_norm
from abbie_lens.config import LoopedConfig
from abbie_lens.context import Context, Slot
from abbie_lens.hooks.points import Site


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, cfg: LoopedConfig) -> None:
        super().__init__()
        norm = lambda: make_norm(cfg.normalization_type, cfg.d_model, cfg.eps)  # noqa: E731
        sandwich = cfg.norm_placement == "sandwich_stream"
        self.ln1, self.attn = norm(), Attention(cfg)
        self.ln1_post = norm() if sandwich else None
        self.ln2, self.mlp = norm(), MLP(cfg)
        self.ln2_post = norm() if sandwich else None
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = Site(), Site(), Site()
        self.hook_attn_out, self.hook_mlp_out = Site(), Site()

    def forward(
        self, x: Tensor, context: Context, slot: Slot, query_input: Tensor | None = None
    ) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]; `slot` names this application's keys and values.

        With `query_input` [batch, pos, d_model] attention asks with that stream, behind the same norm.
        """
        x = self.hook_resid_pre(x)
        asking = None if query_input is None else self.ln1.plain(query_input)
        x = x + self.hook_attn_out(self.attn(self.ln1(x), context, slot, asking))
        x = self.hook_resid_mid(x if self.ln1_post is None else self.ln1_post(x))
        x = x + self.hook_mlp_out(self.mlp(self.ln2(x)))
        return self.hook_resid_post(x if self.ln2_post is None else self.ln2_post(x))
