"""Running a model through `begin` and `step`, one state at a time, so that depth costs no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.inputs import Inputs
from probes.numerics import host


def states(model: Any, inputs: Inputs, n_iters: int | None = None) -> Iterator[Any]:
    """The State after 0, 1, … r iterations (`n_iters`; r of the inputs if None), without gradients."""
    return _moves(model, inputs, n_iters, nullcontext)


def watched(
    model: Any, inputs: Inputs, sites: Sequence[str], n_iters: int | None = None
) -> Iterator[tuple[Any, dict[str, Tensor]]]:
    """Like `states`, each State with what fired at `sites` since the one before, by site.

    A site that fires several times in one move keeps its last value; one that does not fire is left out.
    """
    fired: dict[str, Tensor] = {}

    def keep(site: str) -> tuple[str, Callable[..., None]]:
        return site, lambda tensor, hook: fired.__setitem__(site, tensor.detach())

    hooks = [keep(site) for site in sites]
    for state in _moves(model, inputs, n_iters, lambda: model.hooks(fwd_hooks=hooks)):
        yield state, dict(fired)
        fired.clear()


def _moves(
    model: Any, inputs: Inputs, n_iters: int | None, under: Callable[[], AbstractContextManager]
) -> Iterator[Any]:
    """begin and every step, each under a context of its own: neither hooks nor modes live across a yield."""
    depth = inputs.n_iters if n_iters is None else n_iters
    with torch.no_grad(), under():
        state = model.begin(inputs.tokens, n_iters=depth, attention_mask=inputs.mask)
    yield state
    for _ in range(depth):
        with torch.no_grad(), under():
            state = model.step(state)
        yield state


def body_sites(model: Any, site: str) -> tuple[str, ...]:
    """`body.{b}.site` of every Body block. Errors: InputError for a model without it."""
    names = tuple(f"body.{b}.{site}" for b in range(len(getattr(model, "body", ()))))
    missing = [name for name in names if name not in getattr(model, "hook_dict", {})]
    if missing or not names:
        raise InputError(f"model: it has no site {(missing or [f'body.0.{site}'])[0]} to read.")
    return names


def normed(model: Any, z: Tensor) -> Tensor:
    """N(z), the model's final norm of z [..., d_model], undisturbed by another thread's hooks."""
    with torch.no_grad(), getattr(model, "lock", None) or nullcontext():
        return model.ln_final(z)


def exit_cdf(model: Any, state: Any) -> Tensor:
    """[batch, pos] F_k of the loop's learned gate; NaN for a loop without one."""
    with torch.no_grad(), getattr(model, "lock", None) or nullcontext():
        loop = getattr(getattr(model, "cfg", None), "loop", None)
        found = None if loop is None else loop.exit_cdf(model, state)
    return torch.full_like(state.z[..., 0], float("nan")) if found is None else found


def scaled_readout(model: Any, state: Any) -> np.ndarray:
    """[batch, pos, d] N(z_k) / √d in float64: of unit size for a plain RMSNorm, at any width."""
    return host(normed(model, state.z)) / np.sqrt(state.z.shape[-1])
