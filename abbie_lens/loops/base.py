"""The interface of a loop family: what begins a loop, what one iteration does, what is read out.

A family is a frozen dataclass of its settings. It never touches blocks, capture or analyses: it calls
the model's own stages (`model.head`, `model.body`, `model.tail`, `model.unembed`) and hands back an
`Advance`. The model fires the two concept-space sites and the iteration counter around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class Advance:
    """What a family hands back from `begin` and `step`."""

    h: Tensor
    """[batch, pos, d_model] the state h_k that the next Body application reads."""
    z: Tensor | None = None
    """[batch, pos, d_model] the read-out z_k that the Tail would read; None where z_k = h_k."""
    carry: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the family carries: injected input, memory slots, gates, caches."""


@dataclass(frozen=True)
class LoopFamily:
    """Base of all loop families."""

    family: ClassVar[str]
    """Tag in the config file and name of the preset."""
    draws_state: ClassVar[bool] = False
    """Whether h_0 is drawn at random, so that `initial_state=` and `seed=` mean something."""
    unrolls: ClassVar[bool] = True
    """Whether r iterations are a plain transformer of N_h + r N_b + N_t blocks, however they are joined."""

    def check(self, cfg: LoopedConfig) -> None:
        """Raise ConfigError where the settings do not fit the model's shape."""

    def sums_plainly(self, n_iters: int) -> bool:
        """Whether the unrolled residual stream is the plain sum of the embedding and all block outputs."""
        return False

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """Learned parts of the loop itself (adapters, gates), by name under `model.loop`."""
        return {}

    def rows(self, site: str, n_iters: int) -> int:
        """Rows that a site inside the loop has after `n_iters` iterations."""
        return n_iters + 1 if site.startswith("loop.") else n_iters

    def begin(self, model: HookedLoopedTransformer, state: State, embedded: Tensor) -> Advance:
        """h_0 and z_0 from the embedded tokens; by default the Head's output is both."""
        return Advance(model.head(embedded, state))

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} and z_{k+1} from `state`."""
        raise NotImplementedError
