"""Mixture-of-Recursions: a router says which tokens take the next recursion of the Body, and only those are seen in it.

    g = sigmoid(w_k . h_k)                                               expert: the recursion chooses its tokens
      training: S_k = the c_k n of highest g among S_{k-1} of a sequence of n tokens, which is not causal
      eval:     S_k = those of S_{k-1} with g > 1/2, all of them where c_k = 1: causal, so cached = uncached
    p = softmax(W h_0), n_i = argmax p_i, g = p_{n_i}, S_k = {i: k < n_i}    token: every token chooses its depth
    h_{k+1} = h_k + alpha g B(h_k) for tokens of S_k, h_k for the others;    alpha = 1 with `token`

z_k = h_k. B attends to keys of S_k alone, and a token to itself; with `kv="shared"` to the keys and values of recursion
0, of S_0. S_k is `loop.hook_mask`, 1 for a token that takes the update, never rising with k; g is `loop.hook_router`.

Training adds, expert: w sum_k cross-entropy of g with "i in S_k" over S_{k-1}, so that g > 1/2 finds them without the
sequence; the capacities c_k come down from 1 by a cosine over the first part of the run. Token: balance loss
N sum_n f_n P_n, and z-loss (log sum exp)^2. Computed dense: all tokens go through the Body, and those that do not take
the update drop what it gave. In eval the shares of tokens are what the routers have learned, not c_k.

Source: arXiv 2507.10524. The warm-up's length, and that a capacity of 1 asks no router in eval, are our choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.context import Reuse
from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import Advance, LoopFamily, Start, require, require_iterations
from abbie_lens.loops.shared.cached import with_earlier
from abbie_lens.loops.shared.routing import balance, seen, top_share, z_loss

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.context import Context
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

ROUTINGS = ("expert", "token")
KEYS = ("own", "shared")


@dataclass(frozen=True)
class MoR(LoopFamily):
    """Tokens leave the loop one after the other."""

    family: ClassVar[str] = "mor"
    unrolls: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    counts: ClassVar[str] = "recursions, applications of the Body to the tokens still in it"

    routing: str = "expert"
    max_iters: int = 3
    """N, recursions that have a router, or depths to choose from."""
    beyond: str = "refuse"
    """More recursions than N: `refuse`, or `repeat_last` router for the tokens that are still in."""
    capacity: tuple[float, ...] | None = None
    """c_k, share of a sequence's tokens in recursion k, with `expert`; (N - k) / N if None."""
    capacity_warmup: float = 0.25
    """Share of the run over which capacities fall from 1 to c_k."""
    alpha: float = 0.1
    """Factor on g with `expert`."""
    kv: str = "own"
    """Keys and values of this recursion's own tokens (`own`), or those of recursion 0 in all (`shared`)."""
    router_weight: float = 0.001
    """w."""
    balance_weight: float = 0.1
    z_weight: float = 1e-5

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Three recursions between Head and Tail."""
        return {"n_iters": 3}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for settings out of range, or more trained recursions than routers."""
        require(self.routing in ROUTINGS, "routing", self.routing, f"one of {ROUTINGS}")
        require_iterations(cfg, self.max_iters, self.beyond)
        shares = self.capacities
        require(
            len(shares) == self.max_iters and all(0 < c <= 1 for c in shares),
            "capacity",
            self.capacity,
            f"max_iters={self.max_iters} shares above 0, to 1",
        )
        require(self.kv in KEYS, "kv", self.kv, f"one of {KEYS}")
        warmup = self.capacity_warmup
        require(0 <= warmup <= 1, "capacity_warmup", warmup, "0 to 1")
        for name in ("alpha", "router_weight", "balance_weight", "z_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number >= 0")

    @property
    def capacities(self) -> tuple[float, ...]:
        """c_k of every recursion."""
        n = self.max_iters
        return tuple((n - k) / n for k in range(n)) if self.capacity is None else self.capacity

    @property
    def max_depth(self) -> int | None:
        """As many recursions as there are routers, where more are refused."""
        return self.max_iters if self.beyond == "refuse" else None

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`router`: w_k, or W. Sites [batch, pos, 1]: `hook_router` g, `hook_mask` S_k."""
        line = lambda width: nn.Linear(cfg.d_model, width, bias=False)  # noqa: E731
        expert = self.routing == "expert"
        router = (
            nn.ModuleList(line(1) for _ in range(self.max_iters))
            if expert
            else line(self.max_iters)
        )
        return {"router": router, "hook_router": Site(), "hook_mask": Site()}

    def scheduled(self, state: State, progress: float) -> State:
        """Capacities of this moment of the run."""
        done = min(1.0, progress / self.capacity_warmup) if self.capacity_warmup else 1.0
        rest = (1 + math.cos(math.pi * done)) / 2
        now = tuple(c + (1 - c) * rest for c in self.capacities)
        return state.replace(carry={**state.carry, "capacity": now})

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """The Head's output; every token is in."""
        active = torch.ones_like(state.tokens, dtype=torch.bool)
        carry = {"active": active, "capacity": self.capacities, "losses": ()}
        return Advance(model.head(start.embedded, state), carry=carry)

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """Who takes the update, and the update."""
        route = self._expert if self.routing == "expert" else self._token
        weight, chosen, carry = route(model, state, min(state.k, self.max_iters - 1))
        chosen = (chosen & state.carry["active"])[..., None].to(state.h.dtype)
        taken = model.loop.hook_mask(chosen)[..., 0] > 0
        context, kept = self._context(state, taken)
        update = weight * model.body(state.h, state.replace(context=context))
        h = (state.h + update).where(taken[..., None], state.h)
        return Advance(h, carry={**carry, **kept, "active": taken})

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """The routers' losses."""
        losses = state.carry["losses"]
        return torch.stack(losses).sum() if losses else None

    def _expert(
        self, model: HookedLoopedTransformer, state: State, loop: int
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """alpha g [batch, pos, 1], who is chosen [batch, pos], the carry."""
        logits, active = model.loop.router[loop](state.h), state.carry["active"]
        g = model.loop.hook_router(logits.sigmoid())
        if not model.training:
            chosen = torch.ones_like(active) if self.capacities[loop] == 1 else g[..., 0] > 0.5
            return self.alpha * g, chosen, {**state.carry}
        share, real = state.carry["capacity"][loop], state.attention_mask
        chosen = top_share(g[..., 0].detach(), active, share, real)
        wrong = F.binary_cross_entropy_with_logits(
            logits[..., 0].float(), chosen.float(), reduction="none"
        )
        loss = (wrong * active).sum() / active.sum().clamp_min(1)
        losses = (*state.carry["losses"], self.router_weight * loss)
        return self.alpha * g, chosen, {**state.carry, "losses": losses}

    def _token(
        self, model: HookedLoopedTransformer, state: State, loop: int
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """g [batch, pos, 1], whose depth is not reached [batch, pos], the carry."""
        carry = {**state.carry}
        if state.k == 0:
            logits = model.loop.router(state.h)
            best = logits.softmax(-1).max(-1)
            carry |= {"share": best.values[..., None], "last": best.indices}
            if model.training:
                uneven = balance(logits.float().softmax(-1), best.indices)
                loss = self.balance_weight * uneven + self.z_weight * z_loss(logits.float())
                carry["losses"] = (loss,)
        return model.loop.hook_router(carry["share"]), carry["last"] >= loop, carry

    def _context(self, state: State, taken: Tensor) -> tuple[Context, dict[str, Any]]:
        """The Body's context, and what later recursions need of it."""
        keys = with_earlier(state, "taken", taken)
        if self.kv == "own":
            return seen(state.context, keys, taken.shape[1]), {}
        if state.k == 0:
            reuse = Reuse(torch.ones_like(taken), {})
            kept = {"keys": keys, "served": reuse.now}
        else:
            kept, keys = {}, state.carry["keys"]
            reuse = Reuse(torch.zeros_like(taken), state.carry["served"])
        return seen(state.context.replace(reuse=reuse), keys, taken.shape[1]), kept
