"""Who takes an update and who is seen: selection by score, masks over keys, and the routers' own losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from abbie_lens.context import Context


def top_share(score: Tensor, among: Tensor, share: float, real: Tensor | None) -> Tensor:
    """[batch, pos] True for the highest scores of every sequence: `share` of its real tokens, at least one.

    Only tokens `among` [batch, pos] are taken, so there may be fewer. It looks at the whole sequence: not causal.
    """
    if real is None:
        n_real = torch.full((score.shape[0], 1), score.shape[1], device=score.device)
    else:
        among, n_real = among & real.bool(), real.sum(1, keepdim=True)
    count = (share * n_real + 1e-4).floor().clamp_min(1)  # 1e-4: thirds of a multiple of three
    ordered = score.masked_fill(~among, float("-inf")).argsort(dim=1, descending=True, stable=True)
    return among & (ordered.argsort(dim=1) < count)


def seen(context: Context, keys: Tensor, n_new: int) -> Context:
    """The context in which only `keys` [batch, past + new] are seen, besides every token by itself."""
    n_keys = keys.shape[1]
    columns = torch.arange(n_keys, device=keys.device)[None]
    queries = torch.arange(n_keys - n_new, n_keys, device=keys.device)[:, None]
    mask = columns <= queries if context.mask is None else context.mask
    # A token that sees nothing would be NaN.
    return context.replace(mask=(mask & keys[:, None, None, :]) | (columns == queries))


def balance(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """N sum_n f_n P_n: f_n share of tokens whose choice is n, P_n mean probability of n; 1 where all are alike.

    probabilities [batch, pos, N], chosen [batch, pos].
    """
    n = probabilities.shape[-1]
    share = torch.nn.functional.one_hot(chosen, n).to(probabilities).mean((0, 1))
    return n * (share * probabilities.mean((0, 1))).sum()


def z_loss(logits: Tensor) -> Tensor:
    """Mean squared log-sum-exp of logits [batch, pos, N]."""
    return logits.logsumexp(-1).square().mean()
