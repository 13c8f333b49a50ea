"""FLOPs per token against r, and whether the model's first iteration is a plain transformer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from abbie_lens import loops
from abbie_lens.flops import count_flops
from abbie_lens.model import HookedLoopedTransformer
from probes.reproduction.data import prompts
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig


@dataclass(frozen=True)
class Compute:
    """Forward FLOPs per token of one full window."""

    n_iters: tuple[int, ...]
    flops: np.ndarray
    """[depth] NaN where the loop refuses it."""
    full_resolution_flops: np.ndarray
    """[depth] the same with one token a chunk in every loop; NaN for families without a schedule of chunks."""
    passes: np.ndarray
    """[depth] times that a block of the Body runs, the mean of them: one more than the updates for families that feed
    back predictions, more for the low stack of a nest than for the high one."""
    plain_difference: float
    """Largest |logit| difference at r = 1 from a plain transformer of the same weights; NaN where the weights
    are not those of one."""


@dataclass(frozen=True)
class CountCompute(Measure):
    """Count matrix products; needs no text but the few windows of the comparison at r = 1."""

    name: ClassVar[str] = "compute"

    n_iters: tuple[int, ...] = (0, 1, 2, 3, 4, 8, 16, 32)
    prompts: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_iters", tuple(self.n_iters))

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for no depth or a negative one."""
        require(bool(self.n_iters) and min(self.n_iters) >= 0, self, "n_iters", "integers >= 0")
        require(self.prompts >= 1, self, "prompts", "at least 1")

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Compute:
        """All depths that the loop does not refuse."""
        model = subject.model
        full = _at_full_resolution(model)
        length = min(32, model.cfg.n_ctx)
        tokens = prompts(subject.heldout, self.prompts, length).to(model.device)
        flops = _flops(model, self.n_iters)
        passes = np.array([body_passes(model, r) for r in self.n_iters])
        return Compute(
            self.n_iters,
            flops,
            _flops(full, self.n_iters) if full else np.full(len(self.n_iters), np.nan),
            np.where(np.isnan(flops), np.nan, passes),
            plain_difference(model, tokens),
        )


def body_passes(model: HookedLoopedTransformer, n_iters: int) -> float:
    """How often a block of the Body runs at this depth, on average over its blocks."""
    blocks = range(model.cfg.n_body_blocks)
    return float(np.mean([model.rows(f"body.{b}.hook_resid_pre", n_iters) for b in blocks]))


def plain_difference(model: HookedLoopedTransformer, tokens: torch.Tensor) -> float:
    """max |logits - logits of the same weights as `std`|, both at r = 1; NaN for weights of another shape."""
    twin = HookedLoopedTransformer(model.cfg.replace(loop=loops.Std(), seed=0)).to(model.dtype)
    weights = model.state_dict()
    if weights.keys() != twin.state_dict().keys():
        return float("nan")
    twin.load_state_dict(weights)
    with torch.no_grad():
        ours, plain = (m.eval()(tokens, n_iters=1) for m in (model, twin))
    return float((ours - plain).abs().max())


def _flops(model: HookedLoopedTransformer, depths: tuple[int, ...]) -> np.ndarray:
    most = model.cfg.loop.max_depth
    allowed = [r for r in depths if most is None or r <= most]
    counted = count_flops(model, max(allowed, default=0))
    return np.array([counted.at(r) if r in allowed else np.nan for r in depths])


def _at_full_resolution(model: HookedLoopedTransformer) -> HookedLoopedTransformer | None:
    schedule = getattr(model.cfg.loop, "schedule", None)
    if schedule is None:
        return None
    loop = dataclasses.replace(model.cfg.loop, schedule=(1,) * len(schedule))  # type: ignore[call-arg]
    with torch.device("meta"):
        return HookedLoopedTransformer(model.cfg.replace(loop=loop, seed=None))
