"""States taken apart and put together: rows of a batch, and one run's values in the place of another's.

All that a State carries besides its context has the axes [batch, pos, ...], whatever the family: injected inputs, memory
slots, gates, keys and values of halted tokens. So a whole State can be patched at a position without knowing the family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def mapped(fn: Callable[..., Any], *trees: Any) -> Any:
    """`fn` of the tensors that stand at the same place of all `trees`; what is no tensor stays the first tree's."""
    first = trees[0]
    if isinstance(first, Tensor):
        return fn(*trees)
    if isinstance(first, Mapping):
        return {key: mapped(fn, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(mapped(fn, *parts) for parts in zip(*trees, strict=True))
    return first


def joined(fn: Callable[..., Any], *states: Any) -> Any:
    """The first of `states` with `fn` of all their h, z and carry, tensor by tensor."""
    h, z, carry = (mapped(fn, *(getattr(s, name) for s in states)) for name in ("h", "z", "carry"))
    return states[0].replace(h=h, z=z, carry=carry)


def rows(state: Any, index: Sequence[int], begun: Any, start: int = 0) -> Any:
    """`state` for its sequences `index`, some of them several times, from position `start` on.

    `begun` is what `begin` gives for their tokens: only the model can make the masks and rotations of a batch.
    """
    chosen = list(index)

    def pick(x: Tensor) -> Tensor:
        return x[chosen][:, start:] if x.ndim >= 2 else x

    return joined(pick, expanded(state)).replace(
        tokens=begun.tokens, attention_mask=begun.attention_mask, context=begun.context
    )


def merged(first: Any, second: Any, begun: Any) -> Any:
    """The rows of two States of one iteration, one after the other; `begun` as for `rows`."""
    one_after_other = lambda a, b: torch.cat([a, b]) if a.ndim >= 2 else a  # noqa: E731
    return joined(one_after_other, first, second).replace(
        tokens=begun.tokens, attention_mask=begun.attention_mask, context=begun.context
    )


def expanded(state: Any) -> Any:
    """`state` with h and z for each sequence: a drawn h_0 is one tensor for the whole batch."""
    n = state.tokens.shape[0]
    return state.replace(h=state.h.expand(n, -1, -1), z=state.z.expand(n, -1, -1))


def tensors(state: Any) -> list[Tensor]:
    """The tensors [batch, pos, ...] that `state` carries, in a fixed order."""
    found: list[Tensor] = []

    def collect(x: Tensor) -> Tensor:
        if x.shape[:2] == state.tokens.shape:
            found.append(x)
        return x

    joined(collect, state)
    return found
