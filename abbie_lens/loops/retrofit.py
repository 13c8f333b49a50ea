"""Retrofitted recurrence: a Head, Body and Tail cut out of a pretrained plain model, and an adapter between them.

    e = Head(E[x]),  h_0 ~ s TruncN(0, 2/5, ±3 std),  h_{k+1} = B(A [h_k; e]),  z_k = h_k

Huginn's loop with plain blocks: nothing norms the state or its read-out, and embeddings are not scaled. s is
1/sqrt(5280), the published models' whatever their width: their h_0, of std 0.0087, is all but zero. `cut` in
`abbie_lens.conversion.retrofit` makes such a model of a plain one.

Depth p in training: mean m(t) = ceil(r w(t)), w rising from 0 to 1 (`curriculum`), p as Huginn's around it; only the
last 8 iterations carry gradient. Source: arXiv 2511.07384; the share of the run over which m rises differs
between its runs, a quarter is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from abbie_lens.loops.zero_pt import ZeroPt


@dataclass(frozen=True)
class Retrofit(ZeroPt):
    """0pt without its norm and its scales, for blocks that were trained to stand in one stack."""

    family: ClassVar[str] = "retrofit"
    recipe: ClassVar[Mapping[str, Any]] = {"depth": "curriculum", "backprop_depth": 8}
    norm: str = "none"
    init_scale: float = 5280**-0.5

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Plain blocks, an unembedding of its own, a mean depth of 4."""
        return {"tie_word_embeddings": False, "n_iters": 4}
