"""Next-token negative log-likelihood."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

_NO_TARGET = -100

RETURN_TYPES = ("logits", "loss", "both", None)


def next_token_nll(
    logits: Tensor,
    tokens: Tensor,
    attention_mask: Tensor | None = None,
    per_token: bool = False,
    counted: Tensor | None = None,
) -> Tensor:
    """-log p(tokens[t+1] | tokens[..t]) in nats: the mean over real tokens (NaN if there is none), or
    [batch, pos - 1] with NaN at padding. `counted` [batch, pos] leaves out tokens that need not be predicted."""
    # The last position is ignored instead of cut off: slicing would copy all logits, and again backward.
    targets = F.pad(tokens[:, 1:], (0, 1), value=_NO_TARGET)
    if attention_mask is not None:
        real = attention_mask[:, 1:].bool() & attention_mask[:, :-1].bool()
        targets = targets.masked_fill(~F.pad(real, (0, 1)), _NO_TARGET)
    if counted is not None:
        targets = targets.masked_fill(~F.pad(counted[:, 1:], (0, 1)), _NO_TARGET)
    nll = F.cross_entropy(
        logits.flatten(0, 1).float(),
        targets.flatten(),
        ignore_index=_NO_TARGET,
        reduction="none" if per_token else "mean",
    )
    if not per_token:
        return nll
    return nll.view(tokens.shape).masked_fill(targets == _NO_TARGET, float("nan"))[:, :-1]


def returned(
    return_type: str | None, logits: Tensor, tokens: Tensor, mask: Tensor | None, per_token: bool
) -> Any:
    """What `return_type` names, of logits [batch, pos, d_vocab]."""
    if return_type is None:
        return None
    if return_type == "logits":
        return logits
    loss = next_token_nll(logits, tokens, mask, per_token)
    return loss if return_type == "loss" else (logits, loss)
