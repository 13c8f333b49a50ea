"""A norm held still: RMSNorm and LayerNorm are linear maps once their scale is frozen, N(x) = w (x - mean) / s + b."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.halting.measures import wide


@dataclass(frozen=True)
class FrozenNorm:
    """w, b and whether the mean goes off first, found by asking the norm, so that its class does not matter."""

    weight: Tensor
    """[d_model] wide."""
    bias: Tensor
    """[d_model] wide; zeros for an RMSNorm."""
    centres: bool
    """Whether it takes the mean off (LayerNorm)."""

    @classmethod
    def of(cls, norm: Callable[[Tensor], Tensor], like: Tensor) -> FrozenNorm:
        """The norm of vectors as long as `like` [d_model], in its dtype and on its device."""
        c = 64.0  # a power of two, whose mean has no rounding; large against eps
        ones = torch.full_like(like, c)
        signs = ones.clone()
        signs[::2] = -c
        with torch.no_grad():
            up, down, mixed = (wide(norm(x[None])[0]) for x in (ones, -ones, signs))
        # A LayerNorm gives its bias for any constant; an RMSNorm its weight, with the constant's sign.
        centres = bool((up - down).norm() <= (up + down).norm())
        bias = (up + down) / 2 if centres else torch.zeros_like(up)
        x = _centred(wide(signs)) if centres else wide(signs)
        weight = (mixed - bias) * x.square().mean().sqrt() / x
        return cls(weight, bias, centres)

    def scale(self, x: Tensor, out: Tensor) -> Tensor:
        """[..., 1] s of vectors x [..., d_model] that the norm made `out` of: by least squares."""
        x = self.weight * (_centred(x) if self.centres else x)
        return x.square().sum(-1, keepdim=True) / (x * (out - self.bias)).sum(-1, keepdim=True)

    def read_back(self, read: Tensor, scale: Tensor) -> Tensor:
        """Directions [..., d_model] that read x as `read` reads N(x), but for the bias."""
        read = read * self.weight / scale
        return _centred(read) if self.centres else read


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
