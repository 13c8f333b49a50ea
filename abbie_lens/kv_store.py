"""KVStore: the keys and values that tokens serve to others, when some stop before others do.

Token j computes iterations 0 ... e_j - 1 of the Body. What it serves to a token that asks in iteration i:

    reuse       K_j[min(i, e_j - 1)]: its own of that iteration, or its last
    recompute   its own of that iteration, computed from the state it stopped with: it is computed to full depth
    first       K_j[0], in every iteration, to itself too
    cyclic(N)   slot i mod N holds its last iteration congruent to i, or where there is none its very last;
                tokens that come later in a generation find the slots as it left them
    last        cyclic(1): within one pass what `reuse` is, and to later tokens K_j[e_j - 1] in every iteration

The cache of `cyclic(N)` is N iterations deep, whatever the depth of the run; that of `last` and `first` one, shared by all.
Sources: cyclic is the cache budget of arXiv 2502.05171, reuse arXiv 2603.01914's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.rows import Rows

RULES = ("reuse", "recompute", "last", "first", "full")


@dataclass(frozen=True)
class KVRule:
    """One of the rules above; `n_slots` iterations are kept, all of them if None."""

    name: str
    n_slots: int | None = None

    @property
    def computes_all(self) -> bool:
        """Whether tokens that have halted are computed on."""
        return self.name in ("recompute", "full")

    @property
    def write_once(self) -> bool:
        """Whether iterations after the first leave the keys alone."""
        return self.name == "first"


def kv_rule(text: str) -> KVRule:
    """The rule called `text`. Errors: InputError for an unknown one."""
    cyclic = re.fullmatch(r"cyclic\((\d+)\)", text) if isinstance(text, str) else None
    if cyclic is not None and int(cyclic[1]) >= 1:
        return KVRule("cyclic", int(cyclic[1]))
    if text not in RULES:
        raise InputError(f"kv={text!r}: expected one of {', '.join(RULES)}, or cyclic(N), N >= 1.")
    return KVRule(text, 1 if text in ("last", "first") else None)


class KVStore:
    """Keys and values by (stage, slot, block), each [batch, pos, kv_head, d_head]; written in place by one run.

    With `capacity` it holds that many positions for a generation, `n_past` of them filled before this pass.
    """

    def __init__(self, rule: KVRule, capacity: int | None = None) -> None:
        self.rule, self.capacity = rule, capacity
        self.n_past = 0
        self.n_new = 0
        # Within one pass nobody asks for an older iteration, unless the rule says so.
        self.n_slots = rule.n_slots if capacity is not None or rule.name == "cyclic" else 1
        self.held: dict[tuple[str, int, int], tuple[Tensor, Tensor]] = {}
        self._lent: set[tuple[str, int, int]] = set()

    def __call__(
        self, slot: tuple[str | int, ...], k: Tensor, v: Tensor, rows: Rows | None
    ) -> tuple[Tensor, Tensor]:
        """Keep k and v [batch, new, kv_head, d_head], or [1, n, kv_head, d_head] of `rows`; all that are served.

        Returned are [batch, past + new, kv_head, d_head].
        """
        stage, i, block = str(slot[0]), int(slot[1]), int(slot[2])
        at = self._slot(stage, i)
        key = (stage, at, block)
        if not (self.rule.write_once and stage == "body" and i > 0):
            if rows is None and self.capacity is None:
                self.held[key] = (k, v)  # lent: nothing is copied until somebody stops
                self._lent.add(key)
                return k, v
            self._write(key, i, k, v, rows)
        k, v = self.held[key]
        if self.capacity is None:
            return k, v
        n = self.n_past + self.n_new
        return k[:, :n], v[:, :n]

    def finish(self, done: dict[int, int]) -> None:
        """After a pass whose Body ran `done` iterations of each block: later slots hold the last one's keys."""
        if self.capacity is not None:
            new = slice(self.n_past, self.n_past + self.n_new)
            for block, n in done.items():
                last = self.held.get(("body", self._slot("body", n - 1), block))
                for (stage, at, b), pair in self.held.items():
                    if last is not None and stage == "body" and b == block and at >= n:
                        for whole, own in zip(pair, last, strict=True):
                            whole[:, new] = own[:, new]
        self.n_past += self.n_new

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for pair in self.held.values() for t in pair)

    def _slot(self, stage: str, i: int) -> int:
        if stage != "body":
            return 0
        return i if self.n_slots is None else i % self.n_slots

    def _write(
        self, key: tuple[str, int, int], i: int, k: Tensor, v: Tensor, rows: Rows | None
    ) -> None:
        if key not in self.held or key in self._lent:
            self.held[key] = self._own(key, (k, v), rows)
            self._lent.discard(key)
        elif rows is not None and self.n_past and key[0] == "body":
            self._hand_on(key, i)
        for whole, new in zip(self.held[key], (k, v), strict=True):
            if rows is None:
                whole[:, self.n_past : self.n_past + self.n_new] = new
            elif self.capacity is None:
                whole.flatten(0, 1).index_copy_(0, rows.index, rows.own(new))
            else:
                at = rows.index // rows.shape[1] * whole.shape[1] + self.n_past + rows.positions
                whole.view(-1, *whole.shape[2:]).index_copy_(0, at, rows.own(new))

    def _hand_on(self, key: tuple[str, int, int], i: int) -> None:
        """New tokens that stopped before this slot is reached for the first time serve their last keys in it."""
        stage, at, block = key
        before = self.held.get((stage, at - 1, block)) if i == at else None
        if before is not None:
            new = slice(self.n_past, self.n_past + self.n_new)
            for whole, old in zip(self.held[key], before, strict=True):
                whole[:, new] = old[:, new]

    def _own(
        self, key: tuple[str, int, int], new: tuple[Tensor, Tensor], rows: Rows | None
    ) -> tuple[Tensor, Tensor]:
        stage, at, block = key
        # Tokens that stopped before this slot was reached serve their last keys in it.
        before = self.held.get(key) or (self.held.get((stage, at - 1, block)) if at else None)
        if before is not None and (rows is not None or self.n_past):
            contiguous = torch.contiguous_format
            return before[0].clone(memory_format=contiguous), before[1].clone(
                memory_format=contiguous
            )
        batch, pos = new[0].shape[:2] if rows is None else rows.shape
        if self.capacity is not None:
            pos = self.capacity
        return tuple(x.new_zeros((batch, pos, *x.shape[2:])) for x in new)  # type: ignore[return-value]
