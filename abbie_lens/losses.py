"""Next-token negative log-likelihood."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def next_token_nll(
    logits: Tensor, tokens: Tensor, attention_mask: Tensor | None = None, per_token: bool = False
) -> Tensor:
    """-log p(tokens[t+1] | tokens[..t]) in nats: the mean over real tokens, or [batch, pos - 1] with NaN at padding."""
    flat = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        tokens[:, 1:].flatten(),
        reduction="none" if per_token or attention_mask is not None else "mean",
    )
    if flat.ndim == 0:
        return flat
    nll = flat.view(tokens.shape[0], -1)
    if attention_mask is not None:
        real = attention_mask[:, 1:].bool() & attention_mask[:, :-1].bool()
        return nll.masked_fill(~real, float("nan")) if per_token else nll[real].mean()
    return nll
