"""One transformer block: attention, then MLP, each added to the residual stream.

pre               x <- x + attn(ln1(x)),            x <- x + mlp(ln2(x))
sandwich_stream   x <- ln1_post(x + attn(ln1(x))),  x <- ln2_post(x + mlp(ln2(x)))   (arXiv 2502.05171)
sandwich_branch   x <- x + ln1_post(attn(ln1(x))),  x <- x + ln2_post(mlp(ln2(x)))   (arXiv 2510.25741)
post_branch       x <- x + ln1_post(attn(x)),       x <- x + ln2_post(mlp(x))        (arXiv 2501.00656)
parallel          x <- x + attn(ln1(x)) + mlp(ln2(x))                                (GPT-NeoX)

The + of each line is `join`, which a loop family may replace.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from torch import Tensor, nn

from abbie_lens.components.attention import Attention
from abbie_lens.components.mlp import MLP
from abbie_lens.components.norm import NoNorm, make_norm
from abbie_lens.config import LoopedConfig
from abbie_lens.context import Context, Slot
from abbie_lens.hooks.points import Site

Join = Callable[[Tensor, Tensor], Tensor]
"""(stream, what attention or MLP adds to it) -> the stream after it; each [batch, pos, d_model]."""


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, cfg: LoopedConfig) -> None:
        super().__init__()
        norm = lambda: make_norm(cfg.normalization_type, cfg.d_model, cfg.eps)  # noqa: E731
        before = NoNorm if cfg.norm_placement == "post_branch" else norm
        after = cfg.norm_placement != "pre"
        self.norms_stream = cfg.norm_placement == "sandwich_stream"
        self.parallel = cfg.parallel_attn_mlp
        self.ln1, self.attn = before(), Attention(cfg)
        self.ln1_post = norm() if after else None
        self.ln2, self.mlp = before(), MLP(cfg)
        self.ln2_post = norm() if after else None
        self.hook_resid_pre, self.hook_resid_post = Site(), Site()
        if not self.parallel:
            self.hook_resid_mid = Site()
        self.hook_attn_out, self.hook_mlp_out = Site(), Site()

    def forward(
        self,
        x: Tensor,
        context: Context,
        slot: Slot,
        query_input: Tensor | None = None,
        join: Join = operator.add,
    ) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]; `slot` names this application's keys and values.

        With `query_input` [batch, pos, d_model] attention asks with that stream, behind the same norm.
        """
        x = self.hook_resid_pre(x)
        asking = None if query_input is None else self.ln1.plain(query_input)
        attn = self.attn(self.ln1(x), context, slot, asking)
        mid = self._add(x, attn, self.ln1_post, self.hook_attn_out, join)
        if not self.parallel:
            x = mid = self.hook_resid_mid(mid)
        return self.hook_resid_post(
            self._add(mid, self.mlp(self.ln2(x)), self.ln2_post, self.hook_mlp_out, join)
        )

    def _add(
        self, x: Tensor, out: Tensor, post: nn.Module | None, site: Site, join: Join
    ) -> Tensor:
        if post is None:
            return join(x, site(out))
        return post(join(x, site(out))) if self.norms_stream else join(x, site(post(out)))
