"""What a lens reads, row by row: z_k after every iteration and, if asked for, the stream after every block.

Rows stand in the order in which the model computes them. Their addresses are those of the cache, `name@iteration`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.inputs import Inputs
from probes.running import watched

Blocks = bool | Literal["all"]
READOUT, STREAM = "loop.hook_readout", "hook_resid_post"
HEAD = -1
"""Iteration of the Head's blocks, which come before the first."""
_TOKENS = 8192
"""Tokens that go through the Tail at once."""


@dataclass(frozen=True)
class Row:
    """Where a row is read."""

    address: str
    iteration: int
    """k of z_k; the iteration in which a block of the Body runs; HEAD; r for blocks of the Tail."""

    @property
    def is_readout(self) -> bool:
        """Whether this is a z_k, not a block's output."""
        return self.address.startswith(READOUT)


@dataclass(frozen=True)
class Walked:
    """The rows of one run."""

    rows: tuple[Row, ...]
    x: list[Tensor]
    """Of each row, [batch, pos, d_model]: the stream; of z_k, what was asked for (z_k, or h_k)."""
    z: Tensor
    """[batch, pos, d_model] z_r."""


def check(blocks: Blocks) -> None:
    """Errors: InputError."""
    if blocks not in (False, True, "all"):
        raise InputError(f"blocks={blocks!r}: expected False, True (of the Body) or 'all'.")


def walk(model: Any, inputs: Inputs, blocks: Blocks, *, carried: bool = False) -> Walked:
    """Run `model` to depth r and keep its rows. `carried`: before the end take h_k, what goes on, instead of z_k.

    Errors: InputError where a block reads other rows than the tokens.
    """
    wanted = sites(model, blocks)
    found: list[tuple[Row, Tensor]] = []
    begun, z = False, torch.empty(0)
    for state, fired in watched(model, inputs, wanted):
        if state.k == 0:
            begun = any(site.startswith("body.") for site in fired)
        found += between(fired, wanted, state.k, begun, inputs)
        z = state.z
        taken = state.h if carried and state.k < inputs.n_iters else z
        found.append((Row(f"{READOUT}@{state.k}", state.k), taken.expand(*inputs.tokens.shape, -1)))
    rows, x = zip(*found, strict=True)
    return Walked(rows, list(x), z.expand(*inputs.tokens.shape, -1))


def between(
    fired: Mapping[str, Tensor], wanted: Sequence[str], k: int, begun: bool, inputs: Inputs
) -> Iterator[tuple[Row, Tensor]]:
    """The rows of blocks that ran on the way to the state k, in their order. Errors: InputError.

    begun: whether the model runs its Body before z_0 already: it has one row more than steps, then.
    """
    for site in wanted:
        if site not in fired:
            continue
        i = k - (not begun)
        row = Row(site, HEAD) if site.startswith("head.") else Row(f"{site}@{i}", i)
        yield row, _stream(fired[site], site, inputs)


def sites(model: Any, blocks: Blocks) -> tuple[str, ...]:
    """Where blocks before the Tail are read. Errors: InputError."""
    check(blocks)
    head = _sites(model, "head") if blocks == "all" else ()
    return head + (_sites(model, "body") if blocks else ())


def tail_sites(model: Any, blocks: Blocks) -> tuple[str, ...]:
    """Where blocks of the Tail are read."""
    return _sites(model, "tail") if blocks == "all" else ()


def through_the_tail(model: Any, x: Sequence[Tensor], inputs: Inputs) -> list[Tensor]:
    """What the final norm reads if each of x [batch, pos, d_model] is handed to the Tail, many in one pass."""
    at_once = max(1, _TOKENS // inputs.tokens.numel())
    found: list[Tensor] = []
    for i in range(0, len(x), at_once):
        z = torch.stack(list(x[i : i + at_once]))
        found += model.tail_output(z, inputs.mask, inputs.tokens).unbind()
    return found


def tail_rows(
    model: Any, z: Tensor, inputs: Inputs
) -> tuple[tuple[Row, ...], list[Tensor], Tensor]:
    """Rows and streams of the Tail's blocks that read z_r, and what the final norm reads."""
    fired: dict[str, Tensor] = {}
    hooks = [
        (site, lambda x, hook, site=site: fired.__setitem__(site, x.detach()))
        for site in tail_sites(model, "all")
    ]
    with model.hooks(fwd_hooks=hooks):
        last = model.tail_output(z, inputs.mask, inputs.tokens)
    return tuple(Row(site, inputs.n_iters) for site in fired), list(fired.values()), last


def _sites(model: Any, stage: str) -> tuple[str, ...]:
    names = tuple(f"{stage}.{b}.{STREAM}" for b in range(len(getattr(model, stage, ()))))
    if missing := [name for name in names if name not in getattr(model, "hook_dict", {})]:
        raise InputError(f"model: it has no site {missing[0]} to read.")
    return names


def _stream(x: Tensor, site: str, inputs: Inputs) -> Tensor:
    if x.shape[:-1] != inputs.tokens.shape:
        raise InputError(
            f"blocks: {site} has shape {tuple(x.shape)}, not [batch, pos, d_model]: the Body reads other rows than the"
            " tokens, so that there is nothing to read of a token inside it."
        )
    return x
