"""unroll: the stock ActivationCache of the plain transformer that r iterations amount to.

Block b of iteration i of the Body becomes layer N_h + i N_b + b. TransformerLens' own tools then work on
it as on any model. `accumulated_resid` and `logit_lens` read states and are always exact; `decompose_resid`
and `stack_head_results` add up block outputs, which is exact only where the loop's carry is a plain sum,
and refuse by name elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.config import TransformerLensConfig

from abbie_lens.errors import SiteError

if TYPE_CHECKING:
    from abbie_lens.hooks.cache import IterationCache
    from abbie_lens.model import HookedLoopedTransformer

_RENAMED = {"embed.hook_out": "hook_embed", "pos_embed.hook_out": "hook_pos_embed"}


class UnrolledModel:
    """What TransformerLens' tools ask of a model, for the plain stack that a looped run amounts to."""

    def __init__(self, model: HookedLoopedTransformer, n_iters: int) -> None:
        self.source, self.n_iters = model, n_iters
        body = [block for k in range(n_iters) for block in model.cfg.loop.body(model, k)]
        self.blocks = [*model.head, *body, *model.tail]
        self.ln_final, self.unembed = model.ln_final, model.unembed
        c = model.cfg
        self.cfg = TransformerLensConfig(
            d_model=c.d_model,
            d_head=c.head_width,
            n_layers=len(self.blocks),
            n_ctx=c.n_ctx,
            n_heads=c.n_heads,
            d_mlp=c.mlp_width,
            d_vocab=c.d_vocab,
            eps=c.eps,
            normalization_type=c.normalization_type,
            positional_embedding_type=c.positional_embedding_type,
            gated_mlp=c.gated_mlp,
            n_key_value_heads=c.kv_heads,
            device=str(model.device),
            dtype=model.dtype,
        )
        self.tokenizer = model.tokenizer
        self.to_tokens = model.to_tokens

    @property
    def W_U(self) -> Tensor:
        """[d_model, d_vocab]."""
        return self.unembed.W_U

    @property
    def b_U(self) -> Tensor:
        """[d_vocab] zeros: our unembedding has no bias."""
        return self.W_U.new_zeros(self.cfg.d_vocab)

    def to_single_token(self, text: str) -> int:
        """The id of a text that is one token. Errors: SiteError if it is not."""
        ids = self.source.to_tokens(text, prepend_bos=False)[0].tolist()
        if len(ids) != 1:
            raise SiteError(f"{text!r} is {len(ids)} tokens, expected one.")
        return ids[0]

    def tokens_to_residual_directions(self, tokens: Any) -> Tensor:
        """The unembedding's columns of tokens, [..., d_model]."""
        ids = self.to_single_token(tokens) if isinstance(tokens, str) else tokens
        return self.unembed.weight[ids]

    def run_with_cache(self, tokens: Any, **kwargs: Any) -> tuple[Tensor, ActivationCache]:
        """A fresh run at the same depth, unrolled."""
        kwargs.pop("names_filter", None)
        logits, cache = self.source.run_with_cache(tokens, n_iters=self.n_iters, **kwargs)
        return logits, cache.unroll()

    def run_with_hooks(self, *_: Any, **__: Any) -> Any:
        """Refused: hooks belong to the looped model, by `name@iteration`."""
        raise SiteError("run_with_hooks: hook the looped model itself, by name@iteration.")


class UnrolledCache(ActivationCache):
    """An ActivationCache that refuses tools whose sum the loop's carry makes wrong."""

    def _require_plain_sum(self, tool: str) -> None:
        model: Any = self.model
        loop = model.source.cfg.loop
        if not loop.sums_plainly(model.n_iters):
            raise SiteError(
                f"{tool}: in {loop.family} at r = {model.n_iters} the carry between iterations re-weights earlier "
                "outputs, so block outputs do not add up to the stream. accumulated_resid and logit_lens are exact."
            )
        if getattr(model.source.cfg, "norm_placement", "pre") == "sandwich_stream":
            raise SiteError(
                f"{tool}: blocks with norm_placement='sandwich_stream' norm the stream itself, so their outputs do not "
                "add up to it. accumulated_resid and logit_lens are exact."
            )

    def decompose_resid(self, *args: Any, **kwargs: Any) -> Any:
        """TransformerLens' decompose_resid. Errors: SiteError where outputs do not add up."""
        self._require_plain_sum("decompose_resid")
        return super().decompose_resid(*args, **kwargs)

    def stack_head_results(self, *args: Any, **kwargs: Any) -> Any:
        """TransformerLens' stack_head_results. Errors: SiteError where outputs do not add up."""
        self._require_plain_sum("stack_head_results")
        return super().stack_head_results(*args, **kwargs)

    def stack_neuron_results(self, *args: Any, **kwargs: Any) -> Any:
        """TransformerLens' stack_neuron_results. Errors: SiteError where outputs do not add up."""
        self._require_plain_sum("stack_neuron_results")
        return super().stack_neuron_results(*args, **kwargs)

    def get_full_resid_decomposition(self, *args: Any, **kwargs: Any) -> Any:
        """TransformerLens' get_full_resid_decomposition. Errors: SiteError where outputs do not add up."""
        self._require_plain_sum("get_full_resid_decomposition")
        return super().get_full_resid_decomposition(*args, **kwargs)


def unroll(cache: IterationCache) -> UnrolledCache:
    """The cache of the equivalent plain transformer; activations are shared, not copied.

    Errors: SiteError for a cache of another model, or a loop that is no plain stack.
    """
    model = cache.source
    if cache.n_iters is None or not hasattr(getattr(model, "cfg", None), "loop"):
        raise SiteError("unroll: only a cache of one of our looped models can be unrolled.")
    if not model.cfg.loop.unrolls:
        raise SiteError(
            f"unroll: {model.cfg.loop.family} has no plain transformer of blocks that it amounts to."
        )
    flat: dict[str, Tensor] = {}
    for name in cache:
        stage, _, rest = name.partition(".")
        if stage in ("head", "tail", "body"):
            block, _, site = rest.partition(".")
            for i in cache.iterations(name) or [0]:
                layer = int(block) + _first_layer(model, stage, i, cache.n_iters)
                flat[f"blocks.{layer}.{site}"] = (
                    cache[f"{name}@{i}"] if stage == "body" else cache[name]
                )
        elif stage != "loop":
            flat[_RENAMED.get(name, name)] = cache[name]
    last = f"blocks.{model.cfg.n_layers(cache.n_iters) - 1}.hook_resid_post"
    if model.cfg.n_tail_blocks == 0 and last in flat:
        # Without a Tail the final norm reads what the loop's carry or norm made of the last block's output.
        flat[last] = cache[f"loop.hook_readout@{cache.n_iters}"]
    return UnrolledCache(flat, UnrolledModel(model, cache.n_iters))


def _first_layer(model: HookedLoopedTransformer, stage: str, iteration: int, n_iters: int) -> int:
    c = model.cfg
    if stage == "head":
        return 0
    return c.n_head_blocks + (iteration if stage == "body" else n_iters) * c.n_body_blocks
