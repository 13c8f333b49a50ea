"""One pre-norm transformer block: x += attn(ln1(x)); x += mlp(ln2(x))."""

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
        self.ln1 = make_norm(cfg.normalization_type, cfg.d_model, cfg.eps)
        self.attn = Attention(cfg)
        self.ln2 = make_norm(cfg.normalization_type, cfg.d_model, cfg.eps)
        self.mlp = MLP(cfg)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = Site(), Site(), Site()
        self.hook_attn_out, self.hook_mlp_out = Site(), Site()

    def forward(
        self, x: Tensor, context: Context, slot: Slot, query_input: Tensor | None = None
    ) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]; `slot` names this application's keys and values."""
        x = self.hook_resid_pre(x)
        x = self.hook_resid_mid(
            x + self.hook_attn_out(self.attn(self.ln1(x), context, slot, query_input))
        )
        return self.hook_resid_post(x + self.hook_mlp_out(self.mlp(self.ln2(x))))
