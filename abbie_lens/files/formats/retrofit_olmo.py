"""Retrofitted OLMo 2: norms after attention and MLP, queries and keys normed over all heads. Source: arXiv 2511.07384."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from abbie_lens.files.formats.raven import FIRST
from abbie_lens.files.formats.retrofit_llama import RetrofitLlama


class RetrofitOlmo(RetrofitLlama):
    """x += n1(attn(x)), x += n2(mlp(x)); no published outputs to compare with."""

    name = "retrofit_olmo"
    ids = ("smcleish/Recurrent-OLMo-2-0425-untrained",)
    norms = ("ln1_post", "ln2_post")
    block: ClassVar[Mapping[str, Any]] = {
        "norm_placement": "post_branch",
        "qk_norm": "learned_joint",
    }

    def more_objection(self, normed_queries: bool) -> str | None:
        """Queries are normed."""
        return None if normed_queries else f"no {FIRST}.attn.q_norm.weight"
