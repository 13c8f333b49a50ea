"""Huginn: four norms in a block, on the stream, and biases of queries and keys. Source: arXiv 2502.05171."""

from __future__ import annotations

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Shapes
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.raven import Raven, init_scale
from abbie_lens.loops import Huginn


class HuginnFormat(Raven):
    """Adjacent rotary pairs with `rope_base`; the carried state is before the final norm."""

    name = "huginn"
    ids = ("tomg-group-umd/huginn-0125",)
    norms = ("ln1", "ln1_post", "ln2", "ln2_post")
    dead = r"freqs_cis"

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        shape = self.shape(fields)
        fields.only("qk_bias", True)
        if shape["n_key_value_heads"] != shape["n_heads"]:
            fields.refuse(
                "num_key_value_heads", "qk_bias has as many heads for keys as for queries"
            )
        fields.only("rope_scaling", None)
        values = fields.part("init_values")
        values.ignore("embedding", "out_proj")
        scale = values.number("embed_scale", shape["d_model"] ** 0.5)
        std = values.number("std", (2 / (5 * shape["d_model"])) ** 0.5)
        return LoopedConfig(
            **shape,
            n_ctx=fields.integer("block_size"),
            norm_placement="sandwich_stream",
            use_qk_bias=True,
            rotary_base=fields.number("rope_base"),
            rotary_adjacent_pairs=True,
            embed_scale=scale,
            loop=Huginn(init_scale=init_scale(std * scale, 1.0)),
        )
