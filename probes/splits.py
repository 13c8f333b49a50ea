"""Where to loop a plain model: how far each block turns the stream, and the loss of every window (ANALYSES 33).

    angle of block b:   arccos(cos(x_b, x_{b+1})) / pi, mean over tokens: 0 parallel, 1/2 orthogonal, 1 opposite
    knee:               the block at which that curve lies furthest below the straight line from its first to its last value
    loss(start, length): mean next-token NLL with blocks start to start + length - 1 in a loop of r iterations

Documents are read one after the other, and of each only sums are kept. Intervals are of documents drawn with replacement;
what a loop adds is compared with the plain model on the same draw. Beside the angles stand those of random weights: in a
pre-norm stack the stream grows, so later blocks turn it less whatever they have learnt. Angular distances after
arXiv 2403.17887.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import LoopFamily
from probes import split_documents as sums
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

N_DRAWS = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Result):
    """Angles by block and losses by window; bounds are 95% over documents, NaN with fewer than two."""

    title: ClassVar[str] = "Where to loop"
    formula: ClassVar[str] = (
        "angle = arccos(cos(x_b, x_{b+1})) / π; loss = mean next-token NLL in nats"
    )
    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "loss"})

    rule: str
    """How the windows were looped."""
    angular: np.ndarray
    """[block] mean angle between a block's input and its output, in units of π."""
    angular_low: np.ndarray
    """[block] lower bound."""
    angular_high: np.ndarray
    """[block] upper bound."""
    control: np.ndarray
    """[block] the same for freshly initialised weights; NaN if not asked for."""
    knee: int
    """Block from which on the curve is flat."""
    starts: np.ndarray
    """[start] first blocks of the windows."""
    lengths: np.ndarray
    """[length] blocks in a window."""
    loss: np.ndarray
    """[start, length] nats per token; NaN where the window leaves the stack or diverges."""
    loss_low: np.ndarray
    """[start, length] lower bound."""
    loss_high: np.ndarray
    """[start, length] upper bound."""
    plain_loss: float
    """The same without a loop."""
    added_low: np.ndarray
    """[start, length] lower bound of what the loop adds to the plain loss."""
    added_high: np.ndarray
    """[start, length] upper bound of it."""
    n_documents: int
    """Documents read."""
    n_targets: int
    """Tokens whose loss was taken."""
    seed: int
    """Of the draws and of the control."""

    @property
    def added(self) -> np.ndarray:
        """[start, length] nats per token that the loop adds; negative where it helps."""
        return self.loss - self.plain_loss

    @property
    def best(self) -> tuple[int, int]:
        """(start, stop) of the window with the lowest loss."""
        s, n = np.unravel_index(int(np.nanargmin(self.loss)), self.loss.shape)
        return int(self.starts[s]), int(self.starts[s] + self.lengths[n])

    def to_frame(self) -> pd.DataFrame:
        """One row per window: start, length, loss, what the loop adds to the plain model's, and bounds of both."""
        import pandas as pd

        s, n = np.meshgrid(self.starts, self.lengths, indexing="ij")
        columns = {
            "start": s,
            "length": n,
            "loss": self.loss,
            "loss_low": self.loss_low,
            "loss_high": self.loss_high,
            "added": self.added,
            "added_low": self.added_low,
            "added_high": self.added_high,
        }
        frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
        return frame.dropna(subset="loss", ignore_index=True)

    def figure(self, *, theme: str = "light", view: str = "distances") -> go.Figure:
        """`view="distances"`, the angles by block, or `"loss"`, the map over (start, length)."""
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
    control: bool = True,
    seed: int = 0,
    progress: Callback | None = None,
) -> Split:
    """Angles and losses on held-out text; the window that `model` itself has plays no part.

    text_or_tokens: a list of documents, one text, or token ids [document, pos] with their mask. `starts` None: every
    block. control: angles of random weights beside. progress: called as (done, total); returning False cancels.
    Errors: InputError for a model that is no LoopedBridge, fewer than three blocks, or no window that fits; Cancelled.
    """
    if not isinstance(model, LoopedBridge):
        raise InputError(
            "model: expected a LoopedBridge; a model of our own has its split already."
        )
    if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 1:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 1.")
    n_blocks = len(model.bridge.blocks)
    if n_blocks < 3:
        raise InputError(f"model: {n_blocks} blocks have no knee; expected at least 3.")
    first = list(range(n_blocks)) if starts is None else list(starts)
    windows = sums.fits(n_blocks, first, lengths)
    loops = [Loop(first[i], first[i] + lengths[j], rule) for i, j in windows]
    documents = sums.documents(model, text_or_tokens, attention_mask)
    steps = Progress(len(documents) * (len(loops) + 2 + control), progress)
    fresh = model.randomized(seed) if control else None
    turned, random = (np.full((len(documents), n_blocks + 1), np.nan) for _ in range(2))
    nll = np.full((len(documents), len(first), len(lengths)), np.nan)
    plain = np.empty(len(documents))
    for d, document in enumerate(documents):
        turned[d] = sums.angle_sums(model, document)
        plain[d] = sums.nll_sum(model, document, Loop(0, 1), 1)
        steps.step(2)
        for (i, j), loop in zip(windows, loops, strict=True):
            nll[d, i, j] = sums.nll_sum(model, document, loop, n_iters)
            steps.step()
        if fresh is not None:
            random[d] = sums.angle_sums(fresh, document)
            steps.step()
    nll[~np.isfinite(nll)] = np.nan
    if np.isnan(nll.sum(0)).all():
        raise InputError(
            f"starts, lengths: every window diverges at n_iters={n_iters}; take fewer iterations."
        )
    counts = np.array([sums.targets(document) for document in documents], dtype=float)
    bounds = lambda x, n: sums.ratio_intervals(x, n, N_DRAWS, seed)  # noqa: E731
    angular_low, angular_high = bounds(turned[:, :-1], turned[:, -1])
    loss_low, loss_high = bounds(nll, counts)
    added_low, added_high = bounds(nll - plain[:, None, None], counts)
    angular = turned[:, :-1].sum(0) / turned[:, -1].sum()
    return Split(
        model=model.info(),
        tokens=(tuple(model.to_str_tokens(documents[0][0][0])),),
        n_iters=n_iters,
        rule=Loop(0, 1, rule).family.label,
        angular=angular,
        angular_low=angular_low,
        angular_high=angular_high,
        control=random[:, :-1].sum(0) / random[:, -1].sum(),
        knee=knee(angular),
        starts=np.array(first),
        lengths=np.array(lengths),
        loss=nll.sum(0) / counts.sum(),
        loss_low=loss_low,
        loss_high=loss_high,
        plain_loss=float(plain.sum() / counts.sum()),
        added_low=added_low,
        added_high=added_high,
        n_documents=len(documents),
        n_targets=int(counts.sum()),
        seed=seed,
    )


def knee(curve: np.ndarray) -> int:
    """Index at which a curve lies furthest below the line from its first to its last value."""
    line = np.linspace(curve[0], curve[-1], len(curve))
    return int(np.argmax(line - curve))
