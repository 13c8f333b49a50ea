"""One pass of tokens through begin, steps and read-out, in which those that halt are computed no further."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abbie_lens.context import Context
from abbie_lens.errors import DivergedError, InputError
from abbie_lens.halting.packing import Computed, computed, packed
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation
from abbie_lens.kv_store import KVRule, KVStore
from abbie_lens.rows import LEAST, Rows, take_tree
from abbie_lens.state import State

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


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
    asked: list[tuple[int, int]] = field(default_factory=list)
    k: int = 0
    h: Tensor = field(init=False, repr=False)
    """[batch, pos, d_model] h that each token stopped with."""
    z: Tensor = field(init=False, repr=False)
    left: bool = False
    """Whether h and z are there: from the start, or since the first token left."""

    def run(self, start: dict[str, Any]) -> None:
        """Leaves `exits`, `h` and `z` of all tokens."""
        batch, pos = self.tokens.shape
        self.store.n_new = pos
        self.real = self._packed_from_the_start()
        self.exits = torch.full((batch, pos), -1, device=self.tokens.device)
        sites = self.model.loop.hook_state, self.model.loop.hook_readout
        try:
            state = self._begin(start)
            if self.real is not None:
                self._keep(state)
            self._iterate(state)
        finally:
            self.model.clock.rows = None
            sites[0].last = sites[1].last = None

    def _packed_from_the_start(self) -> Rows | None:
        if self.mask is not None and not bool(self.mask.all()):
            return Rows.of(self.mask.bool())
        # So few that kernels would round otherwise once some have left and others are repeated.
        few = self.tokens.numel() < LEAST and self.tokens.shape[1] > 1
        if self.policy is None or not few:
            return None
        return Rows.of(torch.ones_like(self.tokens, dtype=torch.bool))

    def _begin(self, start: dict[str, Any]) -> State:
        tokens, context = self.tokens, self._context(self.real)
        if self.real is not None:
            tokens = self.real.take(tokens)
            if start.get("initial_state") is not None:
                start = {**start, "initial_state": self.real.take(start["initial_state"])}
        self.model.clock.rows = self.real
        self.begun = computed(context, self.tokens)
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
            self.iterations.append(computed(state.context, self.tokens))
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
            going_on = ~stop if rows is None else rows.like(~stop)
            going_on = None if self.rule.name == "full" else going_on.view(state.h.shape[:2])
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
        everyone = bool(stop.all())
        self._leave(state, rows, None if everyone else stop)
        if everyone:
            return None, rows, decision, None
        lead = (state.h.shape[0], state.h.shape[1])
        batch, pos = self.tokens.shape
        if rows is None:
            rows = Rows.of(~stop.view(batch, pos))
            kept = rows.index
        else:
            rows, kept = rows.among(~stop)
        index = rows.like(kept)
        take = lambda tree: take_tree(tree, lead, index)  # noqa: E731
        state = state.replace(
            tokens=take(state.tokens), h=take(state.h), z=take(state.z), carry=take(state.carry),
            context=self._context(rows),
        )  # fmt: skip
        return state, rows, decision.take(kept), None

    def _keep(self, state: State) -> None:
        """Buffers of this pass for what tokens leave behind: what is handed to hooks is always a copy."""
        self.h, self.z = (self._whole(x) for x in (state.h, state.z))
        self.left = True
        self.model.loop.hook_state.last, self.model.loop.hook_readout.last = self.h, self.z

    def _leave(self, state: State, rows: Rows | None, which: Tensor | None) -> None:
        """Write down where these tokens [n] (None: all of `rows`) have come."""
        if not self.left and which is None and self.rule.name != "full":
            # All at once: nothing has to be put together.
            self.h, self.z, self.left = state.h, state.z, True
            self.exits.fill_(state.k)
            return
        if not self.left:
            self._keep(state)
        n = self.exits.numel() if rows is None else len(rows)
        at = torch.arange(n, device=self.exits.device) if which is None else which.nonzero()[:, 0]
        index = at if rows is None else rows.index[at]
        if which is None:  # those that stopped before keep their exit
            still = self.exits.view(-1)[index] < 0
            at, index = at[still], index[still]
        self.exits.view(-1)[index] = state.k
        for whole, x in ((self.h, state.h), (self.z, state.z)):
            whole.flatten(0, 1).index_copy_(0, index, x.flatten(0, 1)[at])
        if self.rule.name == "full" and len(index):
            logits = self._read(state, rows).flatten(0, 1)
            self.looks.append(computed(state.context, self.tokens))
            if not hasattr(self, "logits"):
                self.logits = logits.new_full((self.exits.numel(), logits.shape[-1]), float("nan"))
            self.logits.index_copy_(0, index, logits[at])

    def _observe(self, state: State, rows: Rows | None) -> Observation:
        policy, model = self.policy, self.model
        assert policy is not None
        each = lambda x: x.flatten(0, 1) if rows is None else rows.own(x)  # noqa: E731
        z = each(state.z)
        needs = policy.needs if policy.looks_at(state.k) else frozenset()
        logits = cdf = None
        if "logits" in needs:
            logits = each(self._read(state, rows))
            self.looks.append(computed(state.context, self.tokens))
        if "exit_cdf" in needs:
            cdf = model.cfg.loop.exit_cdf(model, state)
            self.asked.append((state.k, state.h[..., 0].numel()))
        return Observation(
            state.k,
            z,
            model.ln_final.plain(z) if "normed" in needs else None,
            logits,
            None if cdf is None else each(cdf),
        )

    def read_exits(self, last: bool = False) -> Tensor:
        """Logits [batch, pos, d_vocab] of every token's last z; with `last` those of the last position alone."""
        if self.rule.name == "full":
            self.read_out = Computed(0, 0)
            return self.logits.view(*self.exits.shape, -1)
        real = self.real
        z, tokens = (x if real is None else real.take(x) for x in (self.z, self.tokens))
        context = self._context(real)
        self.read_out = computed(context, self.tokens)
        state = State(tokens, None, self.n_iters, self.k, z, z, context)
        try:
            logits = self._read(state, real, last)
        finally:
            self.model.clock.rows = None
        return logits if real is None or last else real.spread(logits)

    def _read(self, state: State, rows: Rows | None, last: bool = False) -> Tensor:
        model = self.model
        model.clock.rows = rows
        out = model.tail(state.z, state)
        if last:
            out = (out if rows is None else rows.spread(out))[:, -1:]
            model.clock.rows = None
        return model.unembed(model.ln_final(out))

    def _context(self, rows: Rows | None) -> Context:
        whole = self.context.replace(store=self.store)
        return whole if rows is None else packed(whole, rows, self.model.dtype)

    def _whole(self, x: Tensor) -> Tensor:
        return x.clone() if self.real is None else self.real.spread(x)

    def _of(self, x: Tensor, rows: Rows | None) -> Tensor:
        return x.flatten() if rows is None else x.flatten()[rows.index]

    def _require_finite(self, state: State) -> None:
        # One sum: a NaN or an infinity anywhere makes it one.
        if not bool(torch.isfinite(state.z.sum(dtype=torch.float32))):
            raise DivergedError(
                f"halting: the state after {state.k} iterations is not finite; try fewer iterations or a wider dtype."
            )
