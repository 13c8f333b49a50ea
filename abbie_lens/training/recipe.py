"""Recipe: how a loop is trained beyond one loss at one depth: depth sampling, truncation, losses, penalties."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import ConfigError, nearest
from abbie_lens.settings import check_types

from .depths import CURRICULA, DEPTHS, draw

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.loops import LoopFamily

STAGES = ("joint", "gate", "adapters", "body")


@dataclass(frozen=True)
class Recipe:
    """Settings of a loop's training. Errors: ConfigError for an unknown or impossible value."""

    depth: str = "fixed"
    """How many iterations a step trains: `fixed` takes the model's n_iters, others draw around it: one depth a step
    (`uniform`; `lognormal_poisson`; `curriculum`, the same with a mean that rises to n_iters) or one a sequence
    (`poisson_per_sequence`)."""
    depth_spread: int = 1
    """s of `uniform`, which draws from n_iters - s to n_iters + s, at least 1."""
    curriculum: str = "linear"
    """How the mean of `curriculum` rises: `linear`, or as `1-sqrt` 1 - sqrt(1 - x), slower at first."""
    curriculum_share: float = 0.25
    """Share of the run over which it rises."""
    backprop_depth: int | None = None
    """Last iterations that carry gradient, of every sequence's own; None: all."""
    window: int | None = None
    """Iterations between two cuts of the gradient, each right after a read-out that is trained too; None: no cut."""
    loss: str = "end"
    """Read-outs that are trained: the last (`end`), every one (`step`), the last third (`few`), `n_supervised` of those
    that carry gradient, drawn anew every step (`random`), or every one by the probability that the loop's own gate
    exits there (`exit`)."""
    n_supervised: int = 5
    stage: str = "joint"
    """`joint` trains the whole model; `gate` the learned gate alone, `adapters` the loop's adapters alone, `body` the
    Body's own weights alone, all else frozen as it is."""
    jacobian_weight: float = 0.0
    """w of STARS: (1 - w) loss + w ‖J‖_F²/n, J the Jacobian of one more iteration. Source: arXiv 2605.26733."""
    jacobian_from: float = 0.1
    """Share of the run after which the Jacobian counts."""

    def __post_init__(self) -> None:
        check_types(self, "recipe.")
        for name, known in (
            ("depth", DEPTHS),
            ("loss", tuple(LOSSES)),
            ("stage", STAGES),
            ("curriculum", tuple(CURRICULA)),
        ):
            self._require(getattr(self, name) in known, name, known)
        for name in ("backprop_depth", "window"):
            value = getattr(self, name)
            self._require(value is None or value >= 1, name, "an integer >= 1, or null")
        for name in ("depth_spread", "n_supervised"):
            self._require(getattr(self, name) >= 1, name, "an integer >= 1")
        self._require(
            self.backprop_depth is None or self.loss != "exit",
            "backprop_depth",
            "null with loss='exit', which reads out every iteration",
        )
        for name in ("jacobian_weight", "jacobian_from", "curriculum_share"):
            self._require(0 <= getattr(self, name) <= 1, name, "0 to 1")

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recipe:
        """From plain JSON types. Errors: ConfigError for an unknown field."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plain.keys() - known:
            raise ConfigError(f"recipe: unknown field {name!r}.{nearest(name, known)}")
        return cls(**plain)

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError where training would ask the loop for a gate or for iterations that it does not have."""
        loop = cfg.loop
        self._require(
            self.loss != "exit" or loop.gated,
            "loss",
            f"another: {loop.family} has no learned gate whose exits would be weighed",
        )
        self._require(
            self.stage != "gate" or bool(loop.gate_parts),
            "stage",
            f"'joint': {loop.family} has no gate of its own to train",
        )
        self._require(
            self.stage != "adapters" or bool(loop.adapter_parts),
            "stage",
            f"'joint': {loop.family} has no adapters to train",
        )
        self._require(
            self.stage != "gate" or self.loss == "exit" or not loop.learns_from_exits,
            "loss",
            f"'exit' in stage='gate': the gate of {loop.family} learns from every read-out",
        )
        if loop.max_depth is not None:
            self._check_depths(cfg, loop.max_depth)

    def _check_depths(self, cfg: LoopedConfig, most: int) -> None:
        allowed = f'not with {cfg.loop.family} of {most} iterations and beyond="refuse"'
        if self.depth == "uniform":
            deepest = cfg.n_iters + self.depth_spread
            says = f"a draw of {most} iterations at most, not {deepest}, {allowed}"
            self._require(deepest <= most, "depth_spread", says)
        else:
            says = f"'fixed': a draw has no upper end, {allowed}"
            self._require(self.depth == "fixed", "depth", says)
        # The Jacobian is that of one iteration more than was run.
        self._require(
            self.jacobian_weight == 0 or cfg.n_iters < most,
            "jacobian_weight",
            f"0: it takes iteration {cfg.n_iters + 1}, {allowed}",
        )

    def trained_parts(self, loop: LoopFamily) -> tuple[str, ...]:
        """How the names of the parameters begin that the stage trains."""
        if self.stage == "gate":
            return tuple(f"loop.{part}." for part in loop.gate_parts)
        if self.stage == "adapters":
            return tuple(f"loop.{part}." for part in loop.adapter_parts)
        return ("body.",) if self.stage == "body" else ("",)

    def n_iters(self, trained: int, seed: int, step: int, progress: float = 1.0) -> int:
        """Iterations of training step `step`, or of its first sequence; see `row_depths`."""
        return self.row_depths(trained, seed, step, progress, 1)[0]

    def row_depths(
        self, trained: int, seed: int, step: int, progress: float, n_rows: int
    ) -> list[int]:
        """Iterations of each of the `n_rows` sequences of training step `step`; see `depths.draw`."""
        return draw(self, trained, seed, step, progress, n_rows)

    def trained_depths(self, n_iters: int, seed: int = 0, step: int = 0) -> list[int]:
        """The k whose read-outs z_k are trained in a run of `n_iters` at training step `step`.

        Where they are drawn, they are the same in every process, and in a resumed run.
        """
        chosen = (
            self._drawn(n_iters, seed, step)
            if self.loss == "random"
            else LOSSES[self.loss](n_iters)
        )
        ends = () if self.window is None else range(self.window, n_iters, self.window)
        return sorted({*chosen, *ends})

    def _drawn(self, n_iters: int, seed: int, step: int) -> list[int]:
        first = 0 if self.backprop_depth is None else max(0, n_iters - self.backprop_depth)
        among = range(first + 1, n_iters + 1)
        if len(among) <= self.n_supervised:
            return list(among) or [0]
        # Another counter is another stream than the one that the depth is drawn from.
        generator = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 1]))
        return sorted(map(int, generator.choice(among, self.n_supervised, replace=False)))

    def _require(self, ok: bool, name: str, allowed: object) -> None:
        if not ok:
            raise ConfigError(f"recipe.{name}={getattr(self, name)!r}: expected {allowed}.")


LOSSES: dict[str, Callable[[int], list[int]]] = {
    "end": lambda r: [r],
    "step": lambda r: list(range(1, r + 1)) or [0],
    "few": lambda r: list(range(2 * r // 3 + 1, r + 1)) or [0],
    "random": lambda r: list(range(1, r + 1)) or [0],
    "exit": lambda r: list(range(r + 1)),
}
"""Read-outs that may be trained; `random` draws of them."""
