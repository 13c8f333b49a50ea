"""Retrofitted Llama: plain blocks in Huginn's loop, under Huginn's model_type. Source: arXiv 2511.07384."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Shapes
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.raven import Raven, init_scale
from abbie_lens.files.formats.shared import rope
from abbie_lens.loops import Retrofit


class RetrofitLlama(Raven):
    """Half-split rotary pairs with `rope_theta`; `rope_base` is left over from Huginn and not read."""

    name = "retrofit_llama"
    ids = (
        "smcleish/Recurrent-TinyLlama-3T-untrained",
        "smcleish/Recurrent-Llama-3.2-untrained",
        "smcleish/Recurrent-Llama-3.2-2-4-2-untrained",
    )
    norms = ("ln1", "ln2")
    block: ClassVar[Mapping[str, Any]] = {}
    """Our fields of its blocks."""

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        shape = self.shape(fields)
        for name in ("qk_bias", "attention_bias", "mlp_bias"):
            fields.only(name, False)
        values = fields.part("init_values")
        values.ignore("embedding", "out_proj")
        usual = Retrofit().init_scale
        std = values.number("std", usual * (2 / 5) ** 0.5)
        return LoopedConfig(
            **shape,
            **self.block,
            **rope(fields),
            n_ctx=fields.integer("max_position_embeddings", None) or fields.integer("block_size"),
            embed_scale=values.number("embed_scale", 1.0),
            loop=Retrofit(init_scale=init_scale(std, usual)),
        )
