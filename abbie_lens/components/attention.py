"""Causal self-attention: one fused kernel, or the explicit pattern when a hook asks for scores or patterns."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.components.norm import RMSNorm
from abbie_lens.components.positions import rotate
from abbie_lens.components.value_embed import ValueEmbedding
from abbie_lens.config import LoopedConfig
from abbie_lens.context import Context, Slot
from abbie_lens.hooks.points import Site
from abbie_lens.rows import Rows


class Attention(nn.Module):
    """Multi-head or grouped-query attention with TransformerLens' sites.

    `query_input` lets a loop family ask with another stream than the one that answers.
    """

    def __init__(self, cfg: LoopedConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv, self.d_head = cfg.n_heads, cfg.kv_heads, cfg.head_width
        bias = cfg.attn_bias
        self.q_proj = nn.Linear(
            cfg.d_model, self.n_heads * self.d_head, bias=bias or cfg.use_qk_bias
        )
        self.k_proj = nn.Linear(cfg.d_model, self.n_kv * self.d_head, bias=bias or cfg.use_qk_bias)
        self.v_proj = nn.Linear(cfg.d_model, self.n_kv * self.d_head, bias=bias)
        self.o_proj = nn.Linear(self.n_heads * self.d_head, cfg.d_model, bias=bias)
        self.qk_norm, self.adjacent = cfg.qk_norm, cfg.rotary_adjacent_pairs
        if self.qk_norm == "learned":
            self.q_norm, self.k_norm = (RMSNorm(self.d_head, cfg.eps) for _ in range(2))
        if self.qk_norm == "learned_joint":
            widths = self.n_heads * self.d_head, self.n_kv * self.d_head
            self.q_norm, self.k_norm = (RMSNorm(width, cfg.eps) for width in widths)
        self.value_embed: ValueEmbedding | None = None
        """Set by the model in the blocks that have value embeddings."""
        self.gate_proj = None
        if cfg.attention_gate:
            self.gate_proj = nn.Linear(cfg.d_model, self.n_heads * self.d_head, bias=bias)
            self.hook_z_gate = Site()
        self.hook_q, self.hook_k, self.hook_v = Site(), Site(), Site()
        if cfg.positional_embedding_type == "rotary":
            self.hook_rot_q, self.hook_rot_k = Site(), Site()
        self.hook_attn_scores, self.hook_pattern, self.hook_z = Site(), Site(), Site()
        self.hook_attn_scores.packs = self.hook_pattern.packs = False

    def forward(
        self, x: Tensor, context: Context, slot: Slot, query_input: Tensor | None = None
    ) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]."""
        batch, n_new, _ = x.shape
        asking = x if query_input is None else query_input
        q = self.hook_q(self.q_proj(asking).view(batch, n_new, self.n_heads, self.d_head))
        k = self.hook_k(self.k_proj(x).view(batch, n_new, self.n_kv, self.d_head))
        v = self.v_proj(x).view(batch, n_new, self.n_kv, self.d_head)
        v = self.hook_v(v if self.value_embed is None else v + self.value_embed(x, context))
        if self.qk_norm == "learned":
            q, k = self.q_norm(q), self.k_norm(k)
        if self.qk_norm == "learned_joint":
            q, k = self.q_norm(q.flatten(2)).view_as(q), self.k_norm(k.flatten(2)).view_as(k)
        rotary = context.rotary
        if rotary is not None:
            q, k = (rotate(t, rotary, self.adjacent) for t in (q, k))
        if self.qk_norm == "after_rotary":
            q, k = (F.rms_norm(t, t.shape[-1:]) for t in (q, k))
        if rotary is not None:
            q, k = self.hook_rot_q(q), self.hook_rot_k(k)
        if context.reuse is not None:
            k, v = context.reuse(slot, k, v)
        if context.store is not None:
            k, v = context.store(slot, k, v, context.rows)
        elif context.kv is not None:
            if slot in context.kv:
                k, v = (
                    torch.cat(pair, dim=1) for pair in zip(context.kv[slot], (k, v), strict=True)
                )
            context.kv[slot] = (k, v)
        rows = context.rows
        if rows is not None:
            q = rows.side_by_side(q)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if self.hook_attn_scores.active or self.hook_pattern.active:
            z = self._explicit(q, k, v, context.mask, rows)
        else:
            z = self._fused(q, k, v, context)
        z = z.transpose(1, 2)
        z = self.hook_z(z if rows is None else rows.in_line(z)).flatten(2)
        if self.gate_proj is not None:
            z = z * self.hook_z_gate(self.gate_proj(x).sigmoid())
        return self.o_proj(z)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        mask = context.mask if context.bias is None else context.bias
        shared: dict[str, Any] = {"enable_gqa": self.n_kv != self.n_heads}
        if not context.pieces or mask is None:
            causal = context.mask is None and q.shape[-2] > 1
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=causal, **shared
            )
        done, parts = 0, []
        for upto, keys in context.pieces:
            seen = k[:, :, :keys], v[:, :, :keys]
            part = mask[:, :, done:upto, :keys]
            parts.append(
                F.scaled_dot_product_attention(q[:, :, done:upto], *seen, attn_mask=part, **shared)
            )
            done = upto
        return torch.cat(parts, dim=2)

    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rows: Rows | None = None
    ) -> Tensor:
        if self.n_kv != self.n_heads:
            k, v = (t.repeat_interleave(self.n_heads // self.n_kv, dim=1) for t in (k, v))
        if mask is None:
            n_queries, n_keys = q.shape[-2], k.shape[-2]
            mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device)
            mask = mask.tril(n_keys - n_queries)
        # One product that starts from the bias saves two passes over [head, query, key].
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, float("-inf"))
        heads, keys = q.shape[:2], k.shape[-2]
        if mask.ndim == 4:
            bias = bias.expand(*heads, -1, -1).flatten(0, 1)
        q, k = q.flatten(0, 1), k.flatten(0, 1)
        scores = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=self.d_head**-0.5)
        scores = _at_all_queries(self.hook_attn_scores, scores.view(*heads, -1, keys), rows)
        pattern = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
        return _at_all_queries(self.hook_pattern, pattern, rows) @ v

    @property
    def W_Q(self) -> Tensor:
        """[head, d_model, d_head], TransformerLens' layout."""
        return self.q_proj.weight.view(self.n_heads, self.d_head, -1).transpose(1, 2)

    @property
    def W_K(self) -> Tensor:
        """[kv_head, d_model, d_head]."""
        return self.k_proj.weight.view(self.n_kv, self.d_head, -1).transpose(1, 2)

    @property
    def W_V(self) -> Tensor:
        """[kv_head, d_model, d_head]."""
        return self.v_proj.weight.view(self.n_kv, self.d_head, -1).transpose(1, 2)

    @property
    def W_O(self) -> Tensor:
        """[head, d_head, d_model]."""
        return self.o_proj.weight.T.reshape(self.n_heads, self.d_head, -1)

    @property
    def b_O(self) -> Tensor:
        """[d_model] output bias; zeros where the model has none."""
        weight = self.o_proj.weight
        return weight.new_zeros(weight.shape[0]) if self.o_proj.bias is None else self.o_proj.bias


def _at_all_queries(site: Site, x: Tensor, rows: Rows | None) -> Tensor:
    """`site` of x [batch, head, query, key]; with `rows`, whose queries alone are there, it sees NaN at the others."""
    if rows is None or not site.active:
        return site(x)
    seen = rows.spread(rows.in_line(x.transpose(1, 2))).transpose(1, 2)
    return rows.side_by_side(rows.take(site(seen).transpose(1, 2))).transpose(1, 2)
