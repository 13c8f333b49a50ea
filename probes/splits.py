"""Where to loop a plain model: how far each block turns the stream, and the loss of every window (ANALYSES 33).

    angle of block b:   arccos(cos(x_b, x_{b+1})) / pi, mean over tokens: 0 parallel, 1/2 orthogonal, 1 opposite
    knee:               the block at which that curve lies furthest below the straight line from its first to its last value
    loss(start, length): mean next-token NLL with blocks start to start + length - 1 in a loop of r iterations

Angular distances after arXiv 2403.17887.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.windows import window_logits
from abbie_lens.errors import InputError
from abbie_lens.loops import LoopFamily
from abbie_lens.losses import next_token_nll
from probes.inputs import Inputs, prepare
from probes.numerics import host
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Result):
    """Angles by block and losses by window."""

    title: ClassVar[str] = "Where to loop"
    formula: ClassVar[str] = (
        "angle = arccos(cos(x_b, x_{b+1})) / π; loss = mean next-token NLL in nats"
    )

    rule: str
    """How the windows were looped."""
    angular: np.ndarray
    """[block] mean angle between a block's input and its output, in units of π."""
    knee: int
    """Block from which on the curve is flat."""
    starts: np.ndarray
    """[start] first blocks of the windows."""
    lengths: np.ndarray
    """[length] blocks in a window."""
    loss: np.ndarray
    """[start, length] nats per token; NaN where the window leaves the stack."""
    plain_loss: float
    """The same without a loop."""

    @property
    def best(self) -> tuple[int, int]:
        """(start, stop) of the window with the lowest loss."""
        s, n = np.unravel_index(int(np.nanargmin(self.loss)), self.loss.shape)
        return int(self.starts[s]), int(self.starts[s] + self.lengths[n])

    def to_frame(self) -> pd.DataFrame:
        """One row per window: start, length, loss and what the loop adds to the plain model's."""
        import pandas as pd

        s, n = np.meshgrid(self.starts, self.lengths, indexing="ij")
        frame = pd.DataFrame({"start": s.ravel(), "length": n.ravel(), "loss": self.loss.ravel()})
        return frame.assign(added=frame["loss"] - self.plain_loss).dropna(ignore_index=True)

    def figure(self, *, theme: str = "light", view: str = "distances") -> go.Figure:
        """`view="distances"` or `"loss"`."""
        from probes.figures import split as figures

        return figures.draw(self, view, theme)


def split(
    model: LoopedBridge,
    text_or_tokens: Any,
    n_iters: int = 2,
    *,
    rule: str | LoopFamily = "repeat",
    starts: Sequence[int] | None = None,
    lengths: Sequence[int] = (1, 2, 4),
    attention_mask: Any = None,
) -> Split:
    """Angles and losses on held-out text; the window that `model` itself has plays no part.

    `starts` None: every block. Errors: InputError for a model that is no LoopedBridge, fewer than three blocks, or no
    window that fits.
    """
    if not isinstance(model, LoopedBridge):
        raise InputError(
            "model: expected a LoopedBridge; a model of our own has its split already."
        )
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    n_blocks = len(model.bridge.blocks)
    if n_blocks < 3:
        raise InputError(f"model: {n_blocks} blocks have no knee; expected at least 3.")
    first = list(range(n_blocks)) if starts is None else list(starts)
    loss = np.full((len(first), len(lengths)), np.nan)
    for i, start in enumerate(first):
        for j, length in enumerate(lengths):
            if start + length <= n_blocks:
                loss[i, j] = _loss(model, inputs, Loop(start, start + length, rule), n_iters)
    if np.isnan(loss).all():
        raise InputError(f"starts, lengths: no window fits into {n_blocks} blocks, or all diverge.")
    angular = angles(model, inputs)
    return Split(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        rule=Loop(0, 1, rule).family.label,
        angular=angular,
        knee=knee(angular),
        starts=np.array(first),
        lengths=np.array(lengths),
        loss=loss,
        plain_loss=_loss(model, inputs, Loop(0, 1), 1),
    )


def angles(model: LoopedBridge, inputs: Inputs) -> np.ndarray:
    """[block] mean over tokens of the angle between what a block reads and what it writes, in units of pi."""
    names = [
        f"blocks.{b}.hook_{end}" for b in range(len(model.bridge.blocks)) for end in ("in", "out")
    ]
    with torch.no_grad():
        _, cache = model.run_with_cache(
            inputs.tokens, n_iters=1, names_filter=names, attention_mask=inputs.mask
        )
    out = []
    for before, after in zip(names[::2], names[1::2], strict=True):
        x, y = (host(cache[n].reshape(*inputs.tokens.shape, -1)) for n in (before, after))
        x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
        # of half the angle, sine and cosine: arccos loses what nearly parallel vectors differ in
        angle = 2 * np.arctan2(np.linalg.norm(x - y, axis=-1), np.linalg.norm(x + y, axis=-1))
        out.append(angle[inputs.valid].mean() / np.pi)
    return np.array(out)


def knee(curve: np.ndarray) -> int:
    """Index at which a curve lies furthest below the line from its first to its last value."""
    line = np.linspace(curve[0], curve[-1], len(curve))
    return int(np.argmax(line - curve))


def _loss(model: LoopedBridge, inputs: Inputs, loop: Loop, n_iters: int) -> float:
    with torch.no_grad():
        logits = window_logits(model, loop, inputs.tokens, inputs.mask, n_iters)
        return float(next_token_nll(logits, inputs.tokens, inputs.mask, False))
