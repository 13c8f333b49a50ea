"""Context: what all blocks of a run share: positions, who sees whom, and the cached keys and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abbie_lens.components.positions import rotary_table
from abbie_lens.errors import InputError

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.kv_store import KVStore
    from abbie_lens.rows import Rows


Slot = tuple[str | int, ...]
KVCache = dict[Slot, tuple[Tensor, Tensor]]
"""Keys and values by slot (stage, iteration, block); each [batch, pos, kv_head, d_head].

A loop may keep pairs of its own here, [batch, pos, ...] under ("loop", ...); ("run", n_iters) holds the
positions of all tokens so far.
"""


@dataclass(frozen=True)
class Reuse:
    """A halted token serves its keys and values of the iteration before: K <- m K + (1 - m) K_before."""

    active: Tensor
    """[batch, pos] True where a token still computes its own."""
    before: Mapping[int, tuple[Tensor, Tensor]]
    """Keys and values of these tokens one iteration ago, by block."""
    now: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """The same of this iteration, written while the blocks run."""

    def __call__(self, slot: Slot, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values [batch, pos, kv_head, d_head] that this application serves."""
        block = int(slot[-1])
        if block in self.before:
            own = self.active[..., None, None]
            k, v = (x.where(own, old) for x, old in zip((k, v), self.before[block], strict=True))
        self.now[block] = (k, v)
        return k, v


@dataclass(frozen=True)
class Context:
    """What every block of a run shares: where tokens stand, who sees whom, and what came before."""

    positions: Tensor
    """[batch or 1, pos] position ids; padding has 0."""
    mask: Tensor | None
    """[batch, 1, query, key] True where attention is allowed; None for plain causal attention."""
    rotary: tuple[Tensor, Tensor] | None
    """cos and sin, each [batch or 1, pos, 1, d_head]; None for learned positions."""
    kv: KVCache | None = None
    """Written in place while a stage runs on a private copy; None when nothing is cached."""
    reuse: Reuse | None = None
    """Set by loops in which halted tokens serve old keys and values."""
    tokens: Tensor | None = None
    """[batch, pos] ids of the tokens at these positions, for blocks with value embeddings; None where there are none."""
    rows: Rows | None = None
    """The tokens that are computed, where the streams of this run are packed; then `mask` is of their queries alone."""
    bias: Tensor | None = None
    """The mask as what is added to scores, 0 or -inf, where all blocks would otherwise each make it; None where not."""
    pieces: tuple[tuple[int, int], ...] = ()
    """Stretches of the queries, each (its end, the keys that any of it may see): what lies beyond is not computed.
    Empty: one, of all."""
    store: KVStore | None = None
    """Serves keys and values in the place of `kv`, in runs whose tokens may halt."""

    def replace(self, **changes: Any) -> Context:
        """A copy with the named fields changed."""
        return dataclasses.replace(self, **changes)

    def private(self) -> Context:
        """A copy whose cache may be written without changing the State it came from."""
        return self if self.kv is None else self.replace(kv=dict(self.kv))


def make_context(
    cfg: LoopedConfig,
    tokens: Tensor,
    attention_mask: Tensor | None,
    past: KVCache | None,
    dtype: torch.dtype,
    n_iters: int,
    token_type_ids: Tensor | None = None,
) -> Context:
    """The context of new tokens [batch, pos] after those in `past`.

    Errors: InputError for more positions than the model has, a mask of another shape, a `past` of
    another depth, or token types that the model does not have or that come after cached tokens.
    """
    n_past = length_of(past, n_iters, tokens, attention_mask, cfg.n_ctx)
    n_new = tokens.shape[1]
    positions = position_ids(attention_mask, n_past, n_new, tokens.device)
    rotary = rotary_table(cfg, positions, dtype)
    mask = allowed(attention_mask, n_past, n_new, tokens.device)
    if token_type_ids is not None:
        _check_types(cfg, token_type_ids, tokens, n_past)
        mask = with_prefix(mask, token_type_ids == 1, attention_mask)
    return Context(positions, mask, rotary, remembering(past, n_iters, positions), tokens=tokens)


def length_of(
    past: KVCache | None,
    n_iters: int,
    tokens: Tensor,
    attention_mask: Tensor | None,
    n_ctx: int,
) -> int:
    """Tokens that `past` holds, after seeing that `tokens` [batch, pos] may follow them in a run of this depth.

    Errors: InputError for another depth, more than `n_ctx` positions, or a mask of another shape.
    """
    run: Slot = ("run", n_iters)
    if past and run not in past:
        raise InputError(
            f"n_iters={n_iters}: the cache was filled at another depth; one generation has one n_iters."
        )
    n_past = past[run][0].shape[1] if past else 0
    batch, n_new = tokens.shape
    if n_past + n_new > n_ctx:
        raise InputError(
            f"tokens: {n_past + n_new} positions exceed the model's context of {n_ctx}."
        )
    if attention_mask is not None and attention_mask.shape != (batch, n_past + n_new):
        raise InputError(
            f"attention_mask: shape {tuple(attention_mask.shape)}; "
            f"expected [batch, pos] = {(batch, n_past + n_new)}, earlier tokens included."
        )
    return n_past


def remembering(past: KVCache | None, n_iters: int, positions: Tensor) -> KVCache | None:
    """A copy of `past` that also knows `positions` [batch or 1, pos] of the tokens to come; None where nothing is cached."""
    if past is None:
        return None
    run: Slot = ("run", n_iters)
    everywhere = torch.cat([past[run][0], positions], dim=1) if past else positions
    return {**past, run: (everywhere, everywhere)}


def position_ids(
    attention_mask: Tensor | None, n_past: int, n_new: int, device: torch.device
) -> Tensor:
    """[batch or 1, new] positions counted over real tokens only, so that left padding shifts nothing."""
    if attention_mask is None:
        return torch.arange(n_past, n_past + n_new, device=device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, n_past:]


def allowed(
    attention_mask: Tensor | None, n_past: int, n_new: int, device: torch.device
) -> Tensor | None:
    """[batch or 1, 1, query, key] boolean mask, or None where plain causal attention says the same."""
    if attention_mask is None and n_past == 0:
        return None
    n_keys = n_past + n_new
    queries = torch.arange(n_past, n_keys, device=device)
    mask = (torch.arange(n_keys, device=device)[None] <= queries[:, None])[None, None]
    if attention_mask is not None:
        # A padded query keeps itself: a row without any key would be NaN and spread through the batch.
        itself = torch.arange(n_keys, device=device)[None] == queries[:, None]
        mask = (mask & attention_mask.bool()[:, None, None, :]) | itself
    return mask


def with_prefix(mask: Tensor | None, prefix: Tensor, attention_mask: Tensor | None) -> Tensor:
    """The mask in which tokens of the prefix [batch, pos] see each other both ways; [batch, 1, query, key]."""
    n = prefix.shape[1]
    if mask is None:
        mask = torch.ones(1, 1, n, n, dtype=torch.bool, device=prefix.device).tril()
    keys = prefix if attention_mask is None else prefix & attention_mask.bool()
    return mask | (prefix[:, :, None] & keys[:, None, :])[:, None]


def _check_types(cfg: LoopedConfig, types: Tensor, tokens: Tensor, n_past: int) -> None:
    if not cfg.prefix_lm:
        raise InputError("token_type_ids: this model attends causally (prefix_lm=False).")
    if types.shape != tokens.shape:
        raise InputError(
            f"token_type_ids: shape {tuple(types.shape)}; expected [batch, pos] = {tuple(tokens.shape)}."
        )
    if n_past:
        raise InputError("token_type_ids: only with the first tokens, before any are cached.")
