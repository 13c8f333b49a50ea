"""The interface of a loop family: what begins a loop, what one iteration does, what is read out.

A family is a frozen dataclass of its settings. It never touches blocks, capture or analyses: it calls
the model's own stages (`model.head`, `model.body`, `model.tail`, `model.unembed`) and hands back an
`Advance`. The model fires the two concept-space sites around it. The row of every other site in the loop
is the `k` of the State that its stage was handed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from abbie_lens.errors import ConfigError, DepthError
from abbie_lens.loops.shared.reads import Reads
from abbie_lens.rows import where_tree
from abbie_lens.settings import check_types

if TYPE_CHECKING:
    from abbie_lens.components.stack import Stack
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

BEYOND = ("repeat_last", "refuse")
CONCEPT_SPACE = ("loop.hook_state", "loop.hook_readout")


@dataclass(frozen=True)
class Start:
    """What a run begins from."""

    embedded: Tensor
    """[batch, pos, d_model] token embeddings, scaled, with learned positions where the model has them."""
    initial_state: Tensor | None = None
    """[batch, pos, d_model] chosen h_0, for families that draw theirs."""
    seed: int | None = None
    """Seed of a drawn h_0; None: 0, or a fresh draw in training."""


@dataclass(frozen=True)
class Advance:
    """What a family hands back from `begin` and `step`."""

    h: Tensor
    """[batch, pos, d_model] the state h_k that the next Body application reads."""
    z: Tensor | None = None
    """[batch, pos, d_model] the read-out z_k that the Tail would read; None where z_k = h_k."""
    carry: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the family carries: injected input, memory slots, gates, caches."""

    def where(self, moving: Tensor, state: State) -> Advance:
        """This for tokens that are `moving` [batch, pos]; what `state` was for the others."""
        z = self.h if self.z is None else self.z
        h, z = (new.where(moving[..., None], old) for new, old in ((self.h, state.h), (z, state.z)))
        return Advance(h, z, where_tree(moving, self.carry, state.carry))


@dataclass(frozen=True)
class LoopFamily:
    """Base of all loop families."""

    family: ClassVar[str]
    """Tag in the config file and name of the preset."""
    draws_state: ClassVar[bool] = False
    """Whether h_0 is drawn at random, so that `initial_state=` and `seed=` mean something."""
    reinjects: ClassVar[bool] = False
    """Whether iterations after the first read the input again, so that a run restarted from another state keeps it."""
    packs: ClassVar[bool] = True
    """Whether tokens meet in attention alone, so that a step may be taken by some of them."""
    unrolls: ClassVar[bool] = True
    """Whether r iterations are a plain transformer of N_h + r N_b + N_t blocks, however they are joined."""
    counts: ClassVar[str] = "applications of the Body"
    """What n_iters counts, in words: axes that families share are read by it."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Fields of `training.Recipe` in which the family's own training differs from the usual one."""
    gate_parts: ClassVar[tuple[str, ...]] = ()
    """Which `parts` are a learned gate's: all that is trained in the recipe's stage `gate`."""
    adapter_parts: ClassVar[tuple[str, ...]] = ()
    """Which `parts` adapt a Body that is kept as it is: all that is trained in the recipe's stage `adapters`."""

    def __post_init__(self) -> None:
        check_types(self, f"loop {self.family}: ")

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Fields of LoopedConfig in which the preset of this width differs from the usual ones."""
        return {}

    def fitted(self, cfg: LoopedConfig) -> LoopFamily:
        """These settings with those that were left open filled in from the model's shape."""
        return self

    def check(self, cfg: LoopedConfig) -> None:
        """Raise ConfigError where the settings do not fit the model's shape."""

    @property
    def label(self) -> str:
        """The family, with the settings that are not its usual ones."""
        differing = [
            f"{f.name}={getattr(self, f.name)}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return self.family + (f" ({', '.join(differing)})" if differing else "")

    @property
    def max_depth(self) -> int | None:
        """Most iterations that make sense; None where any number does."""
        return None

    def check_depth(self, n_iters: int) -> None:
        """Errors: DepthError for more iterations than the loop has."""
        if self.max_depth is not None and n_iters > self.max_depth:
            raise DepthError(
                f"n_iters={n_iters}: {self.family} has {self.max_depth} iterations and "
                'beyond="refuse"; allowed: 0 to that many.'
            )

    def entry_weights(self, n_iters: int) -> tuple[float, ...] | None:
        """Weights in z_r of h_0 and of each iteration's update B(x) - x; None where they are not plain numbers."""
        return None

    def sums_plainly(self, n_iters: int) -> bool:
        """Whether the unrolled residual stream is the plain sum of the embedding and all block outputs."""
        weights = self.entry_weights(n_iters)
        return weights is not None and set(weights) == {1}

    def read_back(self, model: HookedLoopedTransformer, n_iters: int, read: Tensor) -> Reads | None:
        """How z_r, read along `read` [..., d_model], reads h_0, updates and injections; None where the carry is not linear."""
        weights = self.entry_weights(n_iters)
        return None if weights is None else Reads.weighted(read, weights)

    def growth(self, cfg: LoopedConfig) -> float:
        """Factor by which the carry multiplies the state in every iteration, once its direction has settled; 1 for most."""
        return 1.0

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """Learned parts and sites of the loop itself (adapters, gates), by name under `model.loop`.

        Matrices are drawn with `cfg.initializer_range`, or a module's own `init_std`.
        """
        return {}

    def rows(self, site: str, n_iters: int) -> int:
        """Rows that a site inside the loop has after `n_iters` iterations."""
        return n_iters + 1 if site in CONCEPT_SPACE else n_iters

    def body(self, model: HookedLoopedTransformer, k: int) -> Stack:
        """The blocks that iteration k applies; the same ones in every iteration, unless they are adapted."""
        return model.body

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """h_0 and z_0 from the embedded tokens; by default the Head's output is both."""
        return Advance(model.head(start.embedded, state))

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} and z_{k+1} from `state`."""
        raise NotImplementedError

    def restart(self, model: HookedLoopedTransformer, state: State, h: Tensor) -> State:
        """`state` with h [batch, pos, d_model] for h_k, and all that the next step reads besides it in agreement."""
        return state.replace(h=h)

    @property
    def gated(self) -> bool:
        """Whether the loop has a learned gate, so that `exit_cdf` says something."""
        return type(self).exit_cdf is not LoopFamily.exit_cdf

    def exit_cdf(self, model: HookedLoopedTransformer, state: State) -> Tensor | None:
        """[batch, pos] what a learned gate says of `state`: the probability that the token has stopped by iteration k.

        It never falls with k. At planned depth r, p_k = F_k - F_{k-1} for k < r, and the last takes what is left,
        p_r = 1 - F_{r-1}. None for a loop without a gate.
        """
        return None

    @property
    def learns_from_exits(self) -> bool:
        """Whether the gate has a loss of its own."""
        return type(self).gate_loss is not LoopFamily.gate_loss

    def gate_loss(self, state: State, nll: Tensor) -> Tensor | None:
        """What the recipe's stage `gate` minimises at the end `state` of a run; None for the usual objective.

        `nll` [k + 1, batch, pos - 1]: of each read-out, detached, NaN where a token is not counted, and 0 in row 0
        where no token stops there.
        """
        return None

    def scheduled(self, state: State, progress: float) -> State:
        """In training, `state` as it begins at `progress` 0 to 1 of the run, for what a family changes in its course."""
        return state

    def graded(self, state: State, logits: Tensor, counted: Tensor | None) -> State:
        """In training, `state` after its trained read-out, for what a gate learns of it.

        `logits` [batch, pos, d_vocab]; `counted` [batch, pos] tokens that have to be predicted, None: all.
        """
        return state

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """What the family adds to the training loss at `progress` 0 to 1 of the run; None for nothing."""
        return None


WHOLE_STACK = {"n_head_blocks": 0, "n_body_blocks": 4, "n_tail_blocks": 0}
"""Shape of a loop over all blocks."""


def scaled_embeddings(d_model: int) -> dict[str, Any]:
    """Embeddings times sqrt(d) and weights of std sqrt(2 / 5d), as arXiv 2502.05171 and 2505.20674 have them."""
    return {"embed_scale": d_model**0.5, "initializer_range": (2 / (5 * d_model)) ** 0.5}


def require(ok: bool, name: str, value: object, allowed: object) -> None:
    """Errors: ConfigError naming a loop's setting, its value and what is allowed."""
    if not ok:
        raise ConfigError(f"loop {name}={value!r}: expected {allowed}.")


def require_no_value_embeddings(cfg: LoopedConfig, why: str) -> None:
    """Errors: ConfigError where a loop whose Body reads other rows than the tokens' is given value embeddings or a prefix."""
    require(not cfg.prefix_lm, "prefix_lm", cfg.prefix_lm, f"false: {why}")
    kind = cfg.value_embeddings
    require(kind == "none", "value_embeddings", kind, f"'none': {why}")


def require_iterations(cfg: LoopedConfig, max_iters: int, beyond: str) -> None:
    """Errors: ConfigError for a loop with parts for `max_iters` iterations that is trained on more, and refuses them."""
    require(max_iters >= 1, "max_iters", max_iters, "an integer >= 1")
    require(beyond in BEYOND, "beyond", beyond, f"one of {BEYOND}")
    require(
        beyond != "refuse" or cfg.n_iters <= max_iters,
        "max_iters",
        max_iters,
        f'at least n_iters={cfg.n_iters}, or beyond="repeat_last"',
    )


def require_bare(cfg: LoopedConfig, family: str) -> None:
    """Errors: ConfigError where a loop over the whole stack is given a Head or a Tail."""
    for name in ("n_head_blocks", "n_tail_blocks"):
        require(
            getattr(cfg, name) == 0,
            name,
            getattr(cfg, name),
            f"0: {family} loops the whole stack, so all blocks are the Body's",
        )
