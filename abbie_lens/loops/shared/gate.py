"""What a learned gate says of when a token stops: F_k, by iteration k it has; p_k, in iteration k it does.

    p_k = F_k - F_{k-1} for k < r,  p_r = 1 - F_{r-1}

So p sums to 1 at every planned depth r: the last iteration takes what is left, whatever its gate says. Axis 0
is k = 0 … r everywhere, the others are free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cdf_of_hazards(hazards: Sequence[Tensor]) -> Tensor:
    """lambda_1 … lambda_r, each [...], -> [r + 1, ...] F_k = 1 - prod_{j <= k} (1 - lambda_j), in float32 at least."""
    going_on = [torch.ones_like(wide(hazards[0]))]
    for hazard in hazards:
        going_on.append(going_on[-1] * (1 - wide(hazard)))
    return 1 - torch.stack(going_on)


def exit_distribution(cdf: Tensor) -> Tensor:
    """[r + 1, ...] F_0 … F_r -> [r + 1, ...] p_0 … p_r; F_r is not read."""
    before = torch.cat([torch.zeros_like(cdf[:1]), cdf[:-1]])
    return torch.cat([cdf[:-1], torch.ones_like(cdf[:1])]) - before


def geometric(n_iters: int, rate: float, like: Tensor) -> Tensor:
    """[r + 1] p_k = rate (1 - rate)^{k-1} for 1 <= k < r, and p_r = (1 - rate)^{r-1}; all on k = 0 at r = 0."""
    hazards = [like.new_full((), rate)] * n_iters
    if not hazards:
        return torch.ones_like(wide(like.new_zeros(1)))
    return exit_distribution(cdf_of_hazards(hazards))


def entropy(p: Tensor) -> Tensor:
    """[r + 1, ...] -> [...] entropy in nats."""
    return -(p * _log(p)).sum(0)


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    """[r + 1, ...] twice -> [...] KL(p ‖ q) in nats; where both are 0 they count 0."""
    return (p * (_log(p) - _log(q))).sum(0)


def expected(p: Tensor, values: Tensor) -> Tensor:
    """[r + 1, ...] twice -> [...] sum_k p_k value_k."""
    return (p * values).sum(0)


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least: products of many gates and small differences of them."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _log(p: Tensor) -> Tensor:
    # 0 log 0 is 0, and its gradient finite: a saturated gate must not make NaN of a training run.
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()
