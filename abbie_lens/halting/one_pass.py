"""One pass of tokens through begin, steps and read-out, in which those that halt are computed no further."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abbie_lens.context import Context
from abbie_lens.errors import DivergedError, InputError
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation
from abbie_lens.kv_store import KVRule, KVStore
from abbie_lens.rows import Rows, take_tree
from abbie_lens.state import State

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


@dataclass(frozen=True)
class Computed:
    """How much one stage computed at once."""

    rows: int
    """Tokens."""
    queries: int
    """Tokens that asked in attention: batch times the most that any row of it had."""


@dataclass(eq=False)
class Pass:
    """One pass of tokens [batch, pos] through begin and as many steps as each takes."""

    model: HookedLoopedTransformer
    policy: HaltingPolicy | None
    """None: every token takes all iterations."""
    rule: KVRule
    store: KVStore
    tokens: Tensor
    mask: Tensor | None
    n_iters: int
    context: Context
    """Of all tokens."""
    iterations: list[Computed] = field(default_factory=list)
    looks: list[Computed] = field(default_factory=list)
    k: int = 0

    def run(self, start: dict[str, Any]) -> None:
        """Leaves `exits`, `h` and `z` of all tokens."""
        batch, pos = self.tokens.shape
        self.store.n_new = pos
        padded = self.mask is not None and not bool(self.mask.all())
        self.real = Rows.of(self.mask.bool()) if padded and self.mask is not None else None
        self.exits = torch.full((batch, pos), -1, device=self.tokens.device)
        sites = self.model.loop.hook_state, self.model.loop.hook_readout
        try:
            state = self._begin(start)
            # Buffers of this pass: what is handed to hooks is always a copy.
            self.h, self.z = (self._whole(x) for x in (state.h, state.z))
            sites[0].last, sites[1].last = self.h, self.z
            self._iterate(state)
        finally:
            self.model.clock.rows = None
            sites[0].last = sites[1].last = None

    def _begin(self, start: dict[str, Any]) -> State:
        tokens, context = self.tokens, self._context(self.real)
        if self.real is not None:
            tokens = self.real.take(tokens)
            if start.get("initial_state") is not None:
                start = {**start, "initial_state": self.real.take(start["initial_state"])}
        self.model.clock.rows = self.real
        return self.model.enter(tokens, None, self.n_iters, context, **start)

    def _iterate(self, state: State) -> None:
        rows, decision = self.real, None
        going_on: Tensor | None = None
        while True:
            if self.policy is not None:
                self._require_finite(state)
            if state.k == self.n_iters:
                self._leave(state, rows, None)
                return
            if self.policy is not None:
                seen = self._observe(state, rows)
                decision = (
                    self.policy.init(seen)
                    if decision is None
                    else self.policy.check(decision, seen)
                )
                state, rows, decision, going_on = self._without_halted(state, rows, decision)
                if state is None:
                    return
            self.iterations.append(self.computed(rows))
            self.model.clock.rows = rows
            state = self.model._step(state, going_on)
            self.k = state.k

    def _without_halted(self, state: State, rows: Rows | None, decision: Decision) -> Any:
        """State, rows and decision of the tokens that go on; a State of None where there is none."""
        stop = decision.halted
        if self.rule.computes_all:
            new = stop & (self._of(self.exits, rows) < 0)
            if bool(new.any()):
                self._leave(state, rows, new)
            if bool(stop.all()) and not (self.store.capacity and self.rule.name == "recompute"):
                return None, rows, decision, None
            going_on = None if self.rule.name == "full" else ~stop.view(state.h.shape[:2])
            return state, rows, decision, going_on
        if not bool(stop.any()):
            return state, rows, decision, None
        if (
            self.policy is not None
            and state.k == 0
            and not self.model.rows("body.0.hook_resid_pre", 0)
        ):
            raise InputError(
                f"halting: {self.policy.name if self.policy else 'the policy'} stops tokens before the first iteration, where they have no keys "
                "for others; set min_iters=1, or kv='full'."
            )
        self._leave(state, rows, stop)
        index = (~stop).nonzero()[:, 0]
        if not len(index):
            return None, rows, decision, None
        lead = (state.h.shape[0], state.h.shape[1])
        rows = Rows(
            (self.tokens.shape[0], self.tokens.shape[1]),
            index if rows is None else rows.index[index],
        )
        take = lambda tree: take_tree(tree, lead, index)  # noqa: E731
        state = state.replace(
            tokens=take(state.tokens), h=take(state.h), z=take(state.z), carry=take(state.carry),
            context=self._context(rows),
        )  # fmt: skip
        return state, rows, decision.take(index), None

    def _leave(self, state: State, rows: Rows | None, which: Tensor | None) -> None:
        """Write down where these tokens [n] (None: all of `rows`) have come."""
        at = slice(None) if which is None else which.nonzero()[:, 0]
        if rows is None:
            index = torch.arange(self.exits.numel(), device=self.exits.device)[at]
        else:
            index = rows.index[at]
        if which is None:  # those that stopped before keep their exit
            still = self.exits.view(-1)[index] < 0
            at, index = still.nonzero()[:, 0], index[still]
        self.exits.view(-1)[index] = state.k
        for whole, x in ((self.h, state.h), (self.z, state.z)):
            whole.flatten(0, 1).index_copy_(0, index, x.flatten(0, 1)[at])
        if self.rule.name == "full" and len(index):
            logits = self._read(state, rows).flatten(0, 1)
            self.looks.append(self.computed(rows))
            if not hasattr(self, "logits"):
                self.logits = logits.new_full((self.exits.numel(), logits.shape[-1]), float("nan"))
            self.logits.index_copy_(0, index, logits[at])

    def _observe(self, state: State, rows: Rows | None) -> Observation:
        policy, model = self.policy, self.model
        assert policy is not None
        z = state.z.flatten(0, 1)
        needs = policy.needs if policy.looks_at(state.k) else frozenset()
        logits = cdf = None
        if "logits" in needs:
            logits = self._read(state, rows).flatten(0, 1)
            self.looks.append(self.computed(rows))
        if "exit_cdf" in needs:
            cdf = model.cfg.loop.exit_cdf(model, state)
        return Observation(
            state.k,
            z,
            model.ln_final.plain(z) if "normed" in needs else None,
            logits,
            None if cdf is None else cdf.flatten(),
        )

    def read_exits(self, last: bool = False) -> Tensor:
        """Logits [batch, pos, d_vocab] of every token's last z; with `last` those of the last position alone."""
        if self.rule.name == "full":
            self.read_out = Computed(0, 0)
            return self.logits.view(*self.exits.shape, -1)
        self.read_out = self.computed(self.real)
        z = self.z if self.real is None else self.real.take(self.z)
        tokens = self.tokens if self.real is None else self.real.take(self.tokens)
        context = self._context(self.real)
        state = State(tokens, None, self.n_iters, self.k, z, z, context)
        try:
            logits = self._read(state, self.real, last)
        finally:
            self.model.clock.rows = None
        return logits if self.real is None or last else self.real.spread(logits)

    def _read(self, state: State, rows: Rows | None, last: bool = False) -> Tensor:
        model = self.model
        model.clock.rows = rows
        out = model.tail(state.z, state)
        if last:
            out, model.clock.rows = out[:, -1:], None
        return model.unembed(model.ln_final(out))

    def _context(self, rows: Rows | None) -> Context:
        whole = self.context.replace(store=self.store)
        return whole if rows is None else packed(whole, rows, self.model.dtype)

    def _whole(self, x: Tensor) -> Tensor:
        return x.clone() if self.real is None else self.real.spread(x)

    def _of(self, x: Tensor, rows: Rows | None) -> Tensor:
        return x.flatten() if rows is None else x.flatten()[rows.index]

    def computed(self, rows: Rows | None) -> Computed:
        """What a stage computes on these rows; all tokens if None."""
        if rows is None:
            return Computed(self.tokens.numel(), self.tokens.numel())
        return Computed(len(rows), rows.width * rows.shape[0])

    def _require_finite(self, state: State) -> None:
        # One sum: a NaN or an infinity anywhere makes it one.
        if not bool(torch.isfinite(state.z.sum(dtype=torch.float32))):
            raise DivergedError(
                f"halting: the state after {state.k} iterations is not finite; try fewer iterations or a wider dtype."
            )


def packed(context: Context, rows: Rows, dtype: torch.dtype) -> Context:
    """The context of some rows of what `context` is of."""
    batch, pos = rows.shape
    take = lambda x: rows.take(x.expand(batch, *x.shape[1:]))  # noqa: E731
    mask = context.mask
    if mask is None:
        mask = torch.ones(1, 1, pos, pos, dtype=torch.bool, device=rows.index.device).tril()
    asking = rows.side_by_side(rows.positions[None])
    if mask.shape[0] == 1:
        mask = mask[0, 0][asking]
    else:
        mask = mask[:, 0].gather(1, asking[..., None].expand(-1, -1, mask.shape[-1]))
    rotary = None if context.rotary is None else (take(context.rotary[0]), take(context.rotary[1]))
    tokens = None if context.tokens is None else take(context.tokens)
    mask = mask[:, None]
    return context.replace(
        positions=take(context.positions),
        mask=mask,
        bias=torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf")),
        rotary=rotary,
        tokens=tokens,
        rows=rows,
    )
