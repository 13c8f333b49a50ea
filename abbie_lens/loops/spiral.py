"""SpiralFormer: the Body runs over chunks of tokens, at a resolution that the schedule gives for each loop.

    g_t = schedule[t], 1/r_t;   chunk j = positions jg ... jg + g - 1, complete chunks only
    z_j = sum_i alpha_i h_i,    alpha = softmax over the chunk of a^t . h_i, or 1/g      (pooling)
    z~  = B(z), causal over chunks, position of a chunk = its number
    u_i = sqrt(g) beta_{j,rho} z~_j,   beta = softmax(W^t z~_j), or 1/g;   u~_i = u_{i-s},  s = g - 1

    anchor   h_{t+1} = h_0 + u~^t
    mesh     m_b <- m_b + write_b u~^t,  h_{t+1} = sum_b read_b m_b;  m_0 starts as h_0, the others as 0;
             write, read = softmax of linear maps of h_t, per token

z_k = h_k. With s = g - 1 token i hears only chunks that end at or before i; `no_overlap` takes s = g. n_iters counts
entries of the schedule, coarse to fine; a run of fewer stops early. Beyond the schedule its last loop is repeated or
refused. Sites in the Body have a shape of their own in every loop.

Source: arXiv 2602.11698, read in summaries; MeSH: arXiv 2510.07739.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.loops.base import (
    BEYOND,
    Advance,
    LoopFamily,
    Start,
    require,
    require_no_value_embeddings,
)
from abbie_lens.loops.shared.cached import with_earlier
from abbie_lens.loops.shared.resolution import (
    by_position,
    chunk_context,
    chunks,
    real_first,
    spread,
)

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

POOLINGS = ("self", "mean")
MERGES = ("anchor", "mesh")


@dataclass(frozen=True)
class Spiral(LoopFamily):
    """Coarse loops first, each heard by later tokens only."""

    family: ClassVar[str] = "spiral"
    reinjects: ClassVar[bool] = True
    unrolls: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    counts: ClassVar[str] = "entries of the schedule, applications of the Body to chunks of tokens"

    schedule: tuple[int, ...] = (4, 2, 1)
    """Tokens a chunk, loop by loop."""
    pooling: str = "self"
    """`self`: learned weights down and up; `mean`: 1/g."""
    merge: str = "anchor"
    n_slots: int = 3
    """Memory slots of MeSH."""
    no_overlap: bool = False
    """Shift by g instead of g - 1."""
    beyond: str = "repeat_last"

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """As many iterations as the schedule has entries."""
        return {"n_iters": 3}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a schedule that does not fit the context, unknown settings, or value embeddings."""
        require_no_value_embeddings(cfg, "a chunk is no token")
        sizes = self.schedule
        require(len(sizes) >= 1, "schedule", sizes, "at least one chunk size")
        for size in sizes:
            require(
                1 <= size <= cfg.n_ctx,
                "schedule",
                sizes,
                f"chunk sizes of 1 to n_ctx={cfg.n_ctx} tokens",
            )
        require(self.pooling in POOLINGS, "pooling", self.pooling, f"one of {POOLINGS}")
        require(self.merge in MERGES, "merge", self.merge, f"one of {MERGES}")
        require(self.n_slots >= 1, "n_slots", self.n_slots, "an integer >= 1")
        require(self.beyond in BEYOND, "beyond", self.beyond, f"one of {BEYOND}")
        require(
            self.beyond != "refuse" or cfg.n_iters <= len(sizes),
            "schedule",
            sizes,
            f'at least n_iters={cfg.n_iters} entries, or beyond="repeat_last"',
        )

    @property
    def label(self) -> str:
        """The family, its schedule and merge."""
        return f"{self.family} ({'-'.join(map(str, self.schedule))}, {self.merge})"

    @property
    def max_depth(self) -> int | None:
        """The schedule's length, where more is refused."""
        return len(self.schedule) if self.beyond == "refuse" else None

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """For every loop: `pool` a^t and `spread` W^t with learned pooling, `write` and `read` with MeSH."""
        line = lambda width: nn.Linear(cfg.d_model, width)  # noqa: E731
        parts: dict[str, nn.Module] = {}
        if self.pooling == "self":
            parts["pool"] = nn.ModuleList(
                nn.Linear(cfg.d_model, 1, bias=False) for _ in self.schedule
            )
            parts["spread"] = nn.ModuleList(map(line, self.schedule))
        if self.merge == "mesh":
            parts["write"] = nn.ModuleList(line(self.n_slots) for _ in self.schedule)
            parts["read"] = nn.ModuleList(line(self.n_slots) for _ in self.schedule)
        return parts

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """The Head's output is h_0, the anchor, and what the first memory slot holds."""
        h = model.head(start.embedded, state)
        if self.merge == "anchor":
            return Advance(h, carry={"anchor": h})
        empty = torch.zeros_like(h)[..., None, :].expand(*h.shape[:2], self.n_slots - 1, -1)
        return Advance(h, carry={"memory": torch.cat([h[..., None, :], empty], dim=-2)})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One entry of the schedule: down, Body, up, merge."""
        loop = min(state.k, len(self.schedule) - 1)
        update = self._update(model, state, loop)
        if self.merge == "anchor":
            return Advance(state.carry["anchor"] + update, carry=state.carry)
        write, read = (
            getattr(model.loop, name)[loop](state.h).softmax(-1)[..., None]
            for name in ("write", "read")
        )
        memory = state.carry["memory"] + write * update[..., None, :]
        return Advance((read * memory).sum(-2), carry={"memory": memory})

    def _update(self, model: HookedLoopedTransformer, state: State, loop: int) -> Tensor:
        """u~ [batch, pos, d_model] of the new tokens."""
        size, n_new = self.schedule[loop], state.h.shape[1]
        h = with_earlier(state, "states", state.h)
        order = real_first(state.attention_mask)
        aligned = by_position(h, order)
        # With padding the rows' chunks end at different columns, so none can be cached for all rows.
        kv = state.context.kv if order is None else None
        n_done = 0 if kv is None else _n_cached(kv, state.k)
        z = self._pool(model, chunks(aligned, size, n_done), loop)
        if z.shape[1]:
            context = chunk_context(model.cfg, n_done, z.shape[1], z, kv)
            z = model.body(z, state.replace(context=context))
        if kv is not None:
            z = with_earlier(state, "chunks", z)
        update = spread(z, self._weights(model, z, loop), self._shift(size), aligned.shape[1])
        if order is not None:
            update = by_position(update, order.argsort(dim=1))
        return update[:, -n_new:]

    def _pool(self, model: HookedLoopedTransformer, members: Tensor, loop: int) -> Tensor:
        """[batch, chunk, g, d_model] -> [batch, chunk, d_model]."""
        if self.pooling == "mean":
            return members.mean(2)
        return (model.loop.pool[loop](members).softmax(2) * members).sum(2)

    def _weights(self, model: HookedLoopedTransformer, z: Tensor, loop: int) -> Tensor:
        """beta [batch, chunk, g]."""
        size = self.schedule[loop]
        if self.pooling == "mean":
            return z.new_full((*z.shape[:2], size), 1 / size)
        return model.loop.spread[loop](z).softmax(-1)

    def _shift(self, size: int) -> int:
        return size if self.no_overlap else size - 1


def _n_cached(kv: dict, k: int) -> int:
    slot = ("loop", "chunks", k)
    return kv[slot][0].shape[1] if slot in kv else 0
