"""LoopedConfig: the shape of a looped transformer, in TransformerLens' field names and plain JSON types."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from abbie_lens import loops
from abbie_lens.errors import ConfigError, nearest
from abbie_lens.loops.base import LoopFamily
from abbie_lens.staged import StagedConfig

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu", "relu2")
NORMALIZATIONS = ("RMS", "RMSPre", "LN")
NORM_PLACEMENTS = ("pre", "sandwich_stream", "sandwich_branch", "post_branch")
QK_NORMS = ("none", "learned", "learned_joint", "after_rotary")
POSITIONS = ("rotary", "standard", "none")
VALUE_EMBEDDINGS = ("none", "alternate")
DTYPES = ("float32", "bfloat16", "float16", "float64")
CHOICES = {
    "act_fn": ACTIVATIONS,
    "normalization_type": NORMALIZATIONS,
    "norm_placement": NORM_PLACEMENTS,
    "positional_embedding_type": POSITIONS,
    "dtype": DTYPES,
    "qk_norm": QK_NORMS,
}
"""Fields whose value is one of a few."""


@dataclass(frozen=True)
class LoopedConfig(StagedConfig):
    """Architecture of a Head-Body-Tail transformer whose Body is applied `n_iters` times.

    Errors: ConfigError for a field that contradicts another or has an unknown value.
    Source: AbbIE, arXiv 2507.08567; field names after TransformerLens.
    """

    d_model: int
    n_heads: int
    d_vocab: int
    n_ctx: int
    n_head_blocks: int = 1
    n_body_blocks: int = 2
    n_tail_blocks: int = 1
    d_head: int | None = None
    """Width of one attention head; d_model / n_heads if None."""
    d_mlp: int | None = None
    """Width of the MLP; 8/3 of d_model rounded up to a multiple of 32 if gated, else 4 d_model."""
    n_key_value_heads: int | None = None
    """Key/value heads for grouped-query attention; n_heads if None."""
    n_iters: int = 2
    """Body applications the model was trained with; the default of every run."""
    loop: LoopFamily = field(default_factory=loops.AbbieD)
    """The loop family and its own settings."""
    act_fn: str = "silu"
    gated_mlp: bool = True
    normalization_type: str = "RMS"
    """RMS and LN have learned weights; RMSPre has none."""
    norm_placement: str = "pre"
    """Where a block's norms stand: `pre`; a second one on the stream (`sandwich_stream`) or on what is added to it
    (`sandwich_branch`); or that second one alone (`post_branch`)."""
    parallel_attn_mlp: bool = False
    """Attention and MLP read the same stream, and both are added to it."""
    qk_norm: str = "none"
    """RMSNorm of each head's queries and keys: `learned` before rotation, or `after_rotary` (if any) without weights;
    `learned_joint` is one norm over all heads together, before rotation."""
    attention_gate: bool = False
    """Heads' results times sigmoid(x W), x what attention reads."""
    positional_embedding_type: str = "rotary"
    """`rotary`, learned (`standard`), or `none`."""
    rotary_base: float = 10000.0
    rotary_dim: int | None = None
    """Channels of a head that turn, the first ones; d_head if None."""
    rotary_adjacent_pairs: bool = False
    """Channels 2i and 2i + 1 turn together, instead of i and i + rotary_dim / 2."""
    use_NTK_by_parts_rope: bool = False
    """Slow pairs turn `NTK_by_parts_factor` times slower still, as Llama 3.1's do; see components/positions."""
    NTK_by_parts_factor: float = 8.0
    NTK_by_parts_low_freq_factor: float = 1.0
    NTK_by_parts_high_freq_factor: float = 4.0
    NTK_original_ctx_len: int = 8192
    use_bias: bool = False
    """Biases in attention and MLP projections."""
    use_attn_bias: bool | None = None
    """Biases in attention projections where they differ from the MLP's; as `use_bias` if None."""
    use_qk_bias: bool = False
    """Biases of queries and keys alone."""
    value_embeddings: str | tuple[int, ...] = "none"
    """Blocks whose values get an embedding of the token added: none, every other one over Head, Body and Tail, the last
    block among them (`alternate`), or those of these numbers, counted from 0 over the three."""
    prefix_lm: bool = False
    """Whether `token_type_ids` may mark a prefix whose tokens see each other both ways."""
    tie_word_embeddings: bool = True
    embed_scale: float = 1.0
    """Factor on the token embeddings where they enter the network."""
    output_logits_soft_cap: float = 0.0
    """c > 0 bounds the logits: c tanh(logits / c)."""
    eps: float = 1e-6
    initializer_range: float = 0.02
    seed: int | None = None
    """Seed of the random initialisation; None draws from torch's global generator."""
    dtype: str = "float32"
    model_name: str = ""

    def __post_init__(self) -> None:
        set_ = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        if isinstance(self.loop, dict):
            set_("loop", loops.decode(self.loop))
        _require(
            isinstance(self.loop, LoopFamily), "loop", self.loop, "a family of abbie_lens.loops"
        )
        for name in ("d_model", "n_heads", "d_vocab", "n_ctx", "n_body_blocks"):
            _require(
                _is_int(value := getattr(self, name)) and value >= 1, name, value, "an integer >= 1"
            )
        for name in ("n_head_blocks", "n_tail_blocks", "n_iters"):
            _require(
                _is_int(value := getattr(self, name)) and value >= 0, name, value, "an integer >= 0"
            )
        if self.d_head is None:
            _require(
                self.d_model % self.n_heads == 0,
                "n_heads",
                self.n_heads,
                f"a divisor of d_model={self.d_model}, or give d_head",
            )
            set_("d_head", self.d_model // self.n_heads)
        if self.d_mlp is None:
            set_("d_mlp", -(-8 * self.d_model // 96) * 32 if self.gated_mlp else 4 * self.d_model)
        if self.n_key_value_heads is None:
            set_("n_key_value_heads", self.n_heads)
        _require(
            self.n_heads % self.kv_heads == 0,
            "n_key_value_heads",
            self.n_key_value_heads,
            f"a divisor of n_heads={self.n_heads}",
        )
        for name, allowed in CHOICES.items():
            _require((value := getattr(self, name)) in allowed, name, value, allowed)
        if isinstance(self.value_embeddings, list):
            set_("value_embeddings", tuple(self.value_embeddings))
        _require(
            self.value_embeddings in VALUE_EMBEDDINGS or self._names_blocks(),
            "value_embeddings",
            self.value_embeddings,
            f"one of {VALUE_EMBEDDINGS}, or different numbers of blocks below {self.n_layers(1)}",
        )
        for name in ("embed_scale", "output_logits_soft_cap", "initializer_range", "eps"):
            _require(
                _is_number(value := getattr(self, name)) and value >= 0,
                name,
                value,
                "a number >= 0",
            )
        _require(
            not (self.parallel_attn_mlp and self.norm_placement != "pre"),
            "norm_placement",
            self.norm_placement,
            "pre, with parallel_attn_mlp",
        )
        if self.positional_embedding_type == "rotary":
            _require(
                self.rotary_width % 2 == 0 and 2 <= self.rotary_width <= self.head_width,
                "d_head" if self.rotary_dim is None else "rotary_dim",
                self.rotary_width,
                f"an even number of channels that turn, 2 to d_head={self.d_head}",
            )
        _require(
            not (self.prefix_lm and self.n_tail_blocks), "prefix_lm", True, "false, with a Tail"
        )
        if self.use_NTK_by_parts_rope:
            low, high = self.NTK_by_parts_low_freq_factor, self.NTK_by_parts_high_freq_factor
            _require(0 < low < high, "NTK_by_parts_low_freq_factor", low, f"0 < it < {high}")
            for name in ("NTK_by_parts_factor", "NTK_original_ctx_len"):
                _require((value := getattr(self, name)) > 0, name, value, "a number > 0")
        set_("loop", self.loop.fitted(self))
        self.loop.check(self)

    def _names_blocks(self) -> bool:
        named = self.value_embeddings
        return (
            isinstance(named, tuple)
            and all(_is_int(b) and 0 <= b < self.n_layers(1) for b in named)
            and len(set(named)) == len(named) > 0
        )

    @property
    def head_width(self) -> int:
        """d_head as an int (never None after construction)."""
        return int(self.d_head or 0)

    @property
    def rotary_width(self) -> int:
        """Channels of a head that turn."""
        return self.head_width if self.rotary_dim is None else self.rotary_dim

    @property
    def mlp_width(self) -> int:
        """d_mlp as an int (never None after construction)."""
        return int(self.d_mlp or 0)

    @property
    def kv_heads(self) -> int:
        """n_key_value_heads as an int (never None after construction)."""
        return int(self.n_key_value_heads or 0)

    @property
    def attn_bias(self) -> bool:
        """Whether attention's projections have biases."""
        return self.use_bias if self.use_attn_bias is None else self.use_attn_bias

    @property
    def value_embedding_blocks(self) -> Sequence[int]:
        """Blocks with value embeddings, counted over Head, Body and Tail in this order."""
        if not isinstance(self.value_embeddings, str):
            return self.value_embeddings
        n = self.n_layers(1)
        return range((n - 1) % 2, n if self.value_embeddings == "alternate" else 0, 2)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> LoopedConfig:
        """Inverse of `to_dict`. Errors: ConfigError for unknown or missing fields."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plain.keys() - known:
            raise ConfigError(f"config: unknown field {name!r}.{nearest(name, known)}")
        try:
            return cls(**plain)
        except TypeError as error:
            raise ConfigError(f"config: {error}") from None


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value < float("inf")


def _require(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ConfigError(f"{name}={value!r}: expected {allowed}.")
