"""Lesson: which blocks of a pretrained model are taught to loop, by which rule, with what and on how much text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abbie_lens.conversion.retrofit import cut
from abbie_lens.errors import ConfigError, InputError
from abbie_lens.loops import AbbieC, AbbieD, LoopFamily, Relaxed, Std
from abbie_lens.settings import check_types
from abbie_lens.training.config import PRECISIONS

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

RULES = ("abbie-d", "repeat", "steps")
TRAINED = ("adapters", "body")


@dataclass(frozen=True)
class Lesson:
    """Settings of one retrofit. Errors: ConfigError for an impossible value."""

    source: str
    """The plain model: a name, folder or hub id."""
    start: int
    stop: int
    """Blocks `start` to `stop - 1` are the Body; those before are the Head, those after the Tail."""
    loop: str = "abbie-d"
    """`abbie-d`; `repeat`, AbbIE-C's rule; or `steps`, a learned share of each iteration's change that begins at 0."""
    train: str = "adapters"
    """`adapters`: low-rank ones, from the second iteration on, so that r = 1 stays the source; `body`: its weights."""
    rank: int = 16
    n_iters: int = 2
    """Depth trained. All iterations after the first share the adapters."""
    n_ctx: int = 256
    """Tokens of a window, in training and measuring."""
    train_tokens: int = 500_000
    batch_size: int = 8
    micro_batch_size: int = 4
    learning_rate: float = 1e-3
    warmup_steps: int = 20
    precision: str = "auto"
    """Of training, as in TrainConfig; measured is in the source's dtype."""
    measured_windows: int = 210
    """Held-out windows that are measured before and after, evenly spaced."""
    measured_depths: tuple[int, ...] = (1, 2, 3, 4)
    control: bool = False
    """The same adapters on the same text, but at r = 1: what the text alone teaches, without a loop."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self, "retrofit ")
        for name, least in (("start", 0), ("rank", 1), ("n_iters", 1), ("n_ctx", 2),
                            ("train_tokens", 1), ("measured_windows", 1)):  # fmt: skip
            self._require(getattr(self, name) >= least, name, f"an integer >= {least}")
        self._require(self.stop > self.start, "stop", f"more than start={self.start}")
        self._require(self.loop in RULES, "loop", f"one of {', '.join(RULES)}")
        self._require(self.precision in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}")
        self._require(self.train in TRAINED, "train", f"one of {', '.join(TRAINED)}")
        self._require(
            self.train == "adapters" or self.loop != "steps", "train", "adapters, with loop=steps"
        )
        self._require(min(self.measured_depths, default=-1) >= 0, "measured_depths", "depths >= 0")
        self._require(
            self.control or self.n_iters >= 2, "n_iters", "at least 2; 1 is the control's"
        )

    @property
    def depth(self) -> int:
        """What is trained: `n_iters`, or 1 of the control."""
        return 1 if self.control else self.n_iters

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths measured, those that are compared among them; the control has no loop."""
        if self.control:
            return (1,)
        return tuple(sorted({1, self.n_iters, *self.measured_depths}))

    @property
    def family(self) -> LoopFamily:
        """The loop to be taught."""
        if self.train == "body":
            return Std() if self.control else AbbieD() if self.loop == "abbie-d" else AbbieC()
        if self.control:
            return Relaxed(rank=self.rank, max_iters=1)
        return Relaxed(rank=self.rank, max_iters=2, carry=self.loop, plain_first=True)

    def looped(
        self, source: HookedLoopedTransformer, n_ctx: int | None = None
    ) -> HookedLoopedTransformer:
        """`source` with the window in the loop, nothing learnt yet; `n_ctx` None: the windows' length.

        Errors: InputError for blocks that `source` does not have.
        """
        c = source.cfg
        n_blocks = c.n_head_blocks + c.n_body_blocks + c.n_tail_blocks
        if self.stop > n_blocks:
            raise InputError(f"stop={self.stop}: the source has {n_blocks} blocks.")
        stages = range(self.start), range(self.start, self.stop), range(self.stop, n_blocks)
        n_ctx = self.n_ctx if n_ctx is None else n_ctx
        return cut(
            source, *stages, n_iters=self.depth, loop=self.family, n_ctx=n_ctx, seed=self.seed
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Lesson:
        """Inverse of `to_dict`. Errors: ConfigError for unknown or missing settings."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plain.keys() - known:
            raise ConfigError(f"retrofit: unknown setting {name!r}.")
        try:
            return cls(**plain)
        except TypeError as error:
            raise ConfigError(f"retrofit: {error}") from None

    def _require(self, ok: bool, name: str, allowed: str) -> None:
        if not ok:
            raise ConfigError(f"retrofit {name}={getattr(self, name)!r}: expected {allowed}.")
