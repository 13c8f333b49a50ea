"""Attention in which a token's own key and value alone may vary: those of the other positions are frozen.

    z_t = sum_s p_ts v_s,   p_t = softmax(q_t . k_s / sqrt(d_head)),   dk_s = dv_s = 0 for s != t

With causal attention the tangent of every token is then that of its own state alone, so the diagonal blocks of the
Jacobian act on all tokens in one pass instead of one pass a token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class OthersFrozen(TorchFunctionMode):
    """While active, fused attention differentiates by a token's own key and value alone; its values are the same.

    Errors: ValueError from a call that is not self-attention of all positions, for which this is not defined.
    """

    def __init__(self, n_positions: int) -> None:
        super().__init__()
        self.n_positions = n_positions

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self._attention(*args, **(kwargs or {}))

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if not query.shape[-2] == key.shape[-2] == self.n_positions or dropout_p:
            raise ValueError("attention: not of every position to every position.")
        if enable_gqa and query.shape[-3] != key.shape[-3]:
            n = query.shape[-3] // key.shape[-3]
            key, value = (x.repeat_interleave(n, dim=-3) for x in (key, value))
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        others_key, others_value = key.detach(), value.detach()
        scores = (query @ others_key.transpose(-1, -2)) * factor
        # A difference of 0 that carries the tangent of the own key.
        own = (query.detach() * (key - others_key)).sum(-1) * factor
        scores = scores + torch.diag_embed(own) + _bias(query, attn_mask, is_causal)
        pattern = scores.softmax(-1)
        itself = pattern.detach().diagonal(dim1=-2, dim2=-1)[..., None]
        return pattern @ others_value + itself * (value - others_value)


def _bias(query: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """What is added to the scores, broadcast to [..., query, key]."""
    if mask is not None and mask.dtype != torch.bool:
        return mask
    if mask is None:
        n = query.shape[-2]
        mask = torch.ones(n, n, dtype=torch.bool, device=query.device)
        mask = mask.tril() if is_causal else mask
    zeros = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
    return zeros.masked_fill(~mask, float("-inf"))
