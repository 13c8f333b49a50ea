"""Forward FLOPs of a looped model, part by part, counted on a run without memory.

Counted are matrix products, two FLOPs a multiply-add: projections, MLPs, the loop's own maps, the unembedding, and
attention's two products over all n_ctx x n_ctx pairs of query and key (kernels that skip the causal half do about half
of those). Left out is what grows with d_model alone: norms, activations, softmax, rotation, residuals, gathers.
AdaPonder and Mixture-of-Recursions are counted dense, as they run: halted tokens cost what active ones do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from abbie_lens.errors import InputError
from abbie_lens.model import HookedLoopedTransformer


@dataclass(frozen=True)
class Flops:
    """Forward FLOPs per token of one window of `n_ctx` tokens."""

    n_ctx: int
    head: float
    """`begin`: the Head, and whatever else a family does before its first iteration."""
    iterations: tuple[float, ...]
    """[n_iters] each `step`; they differ where the resolution of the sequence does."""
    tail: float
    """The Tail's blocks."""
    unembed: float
    """2 d_model d_vocab."""
    gates: tuple[float, ...] = ()
    """[n_iters + 1] what a rule adds that asks a learned gate after k iterations (`exit_cdf`); none for a loop without one."""

    def at(self, n_iters: int) -> float:
        """F_head + the first `n_iters` iterations + F_tail + F_unembed. Errors: InputError for more than were counted."""
        if not 0 <= n_iters <= len(self.iterations):
            raise InputError(
                f"n_iters={n_iters}: expected 0 to {len(self.iterations)}, the iterations counted."
            )
        return self.head + sum(self.iterations[:n_iters]) + self.tail + self.unembed

    @property
    def total(self) -> float:
        """All of it."""
        return self.at(len(self.iterations))


def flops_per_token(
    model: HookedLoopedTransformer, n_iters: int | None = None, n_ctx: int | None = None
) -> float:
    """Forward FLOPs per token of one full window, unembedding included; see `count_flops`."""
    return count_flops(model, n_iters, n_ctx).total


def count_flops(
    model: HookedLoopedTransformer, n_iters: int | None = None, n_ctx: int | None = None
) -> Flops:
    """Forward FLOPs per token, by part, at depth `n_iters` (None: the trained one), `n_ctx` tokens (None: the model's).

    Only the model's shape is read, so it may live on the meta device. Errors: InputError for a window that the
    model's context does not hold, DepthError for a depth that the loop refuses.
    """
    n_iters, cfg = model.depth(n_iters), model.cfg
    n_ctx = cfg.n_ctx if n_ctx is None else n_ctx
    if not 1 <= n_ctx <= cfg.n_ctx:
        raise InputError(f"n_ctx={n_ctx}: expected 1 to {cfg.n_ctx}, the model's context.")
    with torch.device("meta"):
        twin = type(model)(cfg.replace(seed=None)).eval()
        tokens = torch.zeros(1, n_ctx, dtype=torch.long)
        chosen: dict[str, Any] = {}
        if cfg.loop.draws_state:  # numbers cannot be drawn without memory, and cost no products
            chosen["initial_state"] = torch.empty(1, n_ctx, cfg.d_model, dtype=twin.dtype)
    state, head = _counted(lambda: twin.begin(tokens, n_iters, **chosen))
    iterations, gates = [], []
    ask = lambda state: _counted(lambda: cfg.loop.exit_cdf(twin, state))[1] / n_ctx  # noqa: E731
    if cfg.loop.gated:
        gates.append(ask(state))
    for _ in range(n_iters):
        state, flops = _counted(lambda state=state: twin.step(state))
        iterations.append(flops / n_ctx)
        if cfg.loop.gated:
            gates.append(ask(state))
    _, unembed = _counted(lambda: twin.unembed(state.z))
    _, readout = _counted(lambda: twin.readout(state))
    return Flops(
        n_ctx,
        head / n_ctx,
        tuple(iterations),
        (readout - unembed) / n_ctx,
        unembed / n_ctx,
        tuple(gates),
    )


def _counted(run: Callable[[], Any]) -> tuple[Any, int]:
    # The counter sees attention's products only where they are products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        result = run()
    return result, counter.get_total_flops()
