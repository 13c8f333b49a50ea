"""Huginn: recurrent depth with sandwich norms on the stream and a depth drawn anew for every step.

    e = Head(sqrt(d) E[x]),  h_0 ~ TruncN(0, 2/5, ±3 std),  h_{k+1} = B(A [h_k; e]),  z_k = N(h_k)
    block: x <- n2(x + attn(n1 x)),  x <- n4(x + mlp(n3 x))

The carried state is before the final norm N, what is read out is after it; N acts once more after the Tail.
Depth p in training: tau ~ LogNormal(ln r - 1/8, 1/2), p ~ Poisson(tau) + 1, so that E[p] = r + 1; only the
last 8 iterations carry gradient.

Source: arXiv 2502.05171.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from abbie_lens.loops.zero_pt import ZeroPt


@dataclass(frozen=True)
class Huginn(ZeroPt):
    """0pt with its norm in the read-out, sandwich blocks, and its own recipe."""

    family: ClassVar[str] = "huginn"
    recipe: ClassVar[Mapping[str, Any]] = {"depth": "lognormal_poisson", "backprop_depth": 8}
    norm: str = "readout"

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """0pt's, with sandwich norms and a mean depth of 4."""
        return {**super().shape(d_model), "norm_placement": "sandwich_stream", "n_iters": 4}
