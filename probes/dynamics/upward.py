"""Does the model go on getting better beyond the depth it was trained with? (ANALYSES 30)

Loss and accuracy disagree about this, so both are given: a model may grow surer of what it gets wrong anyway. Every depth is
a run of its own; its difference from the trained depth is drawn over the same documents, and can be certain where intervals overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import DepthError, InputError
from abbie_lens.evaluation.intervals import quantiles
from abbie_lens.losses import next_token_nll
from probes.control import fresh_weights
from probes.dynamics.walk import whole_number
from probes.evaluation import check_depths
from probes.inputs import prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.running import states
from probes.tidy import with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEASURES = ("nll", "accuracy")


@dataclass(frozen=True)
class Scores:
    """Sums over the predicted tokens of every window."""

    sums: np.ndarray
    """[window, measure, depth]; NaN where the depth is refused or a token's NLL is not finite."""
    count: np.ndarray
    """[window] predicted tokens."""
    document: np.ndarray
    """[window] sorted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Upward(Result):
    """Mean NLL and accuracy of the next token by depth; NaN where the model refuses the depth."""

    title: ClassVar[str] = "Beyond the trained depth"
    formula: ClassVar[str] = (
        "NLL: mean of −log p_r(next token), nats; accuracy: share of tokens with argmax p_r the next one; "
        "change: less that at the trained depth, of the same documents; bands: bootstrap over documents"
    )

    depths: np.ndarray
    """[depth] r, ascending; the trained one is always among them."""
    trained: int
    """r of the training."""
    value: np.ndarray
    """[measure, depth] NLL in nats, accuracy 0…1."""
    low: np.ndarray
    high: np.ndarray
    """[measure, depth] bounds over documents."""
    change: np.ndarray
    """[measure, depth] less the value at the trained depth, ..."""
    change_low: np.ndarray
    change_high: np.ndarray
    """... and bounds of the paired interval."""
    undefined: tuple[str, ...]
    """[depth] why there is no value; "" where there is."""
    confidence: float
    n_documents: int
    n_tokens: int
    """Predicted tokens."""
    control: Upward | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    def to_frame(self) -> pd.DataFrame:
        """One row per measure and depth; `weights` tells the control apart."""
        import pandas as pd

        names = ("value", "low", "high", "change", "change_low", "change_high")
        frame = pd.DataFrame(
            {
                "measure": np.repeat(np.array(MEASURES, dtype=object), len(self.depths)),
                "n_iters": np.tile(self.depths, len(MEASURES)),
                **{name: getattr(self, name).reshape(-1) for name in names},
                "undefined": np.tile(np.array(self.undefined, dtype=object), len(MEASURES)),
            }
        )
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """NLL and accuracy against r, and below each its change from the trained depth."""
        from probes.figures import upward as figures

        return figures.draw(self, theme=theme)


def upward(
    model: Any,
    texts: str | Sequence[Any],
    n_iters: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    batch_size: int = 8,
    n_draws: int = 1000,
    confidence: float = 0.95,
    control: bool = True,
    seed: int = 0,
    progress: Callback | None = None,
) -> Upward:
    """NLL and accuracy of `texts` (documents: strings, or lists of token ids) after each of `n_iters` iterations.

    Documents are cut into windows of the model's context that don't overlap, each after the tokenizer's first
    token if it has one. Intervals: `n_draws` bootstraps over documents and their windows; `seed` is theirs
    and the control's. `progress` counts batches over all depths.
    Errors: InputError for bad input, DepthError if every depth is refused.
    """
    depths = check_depths([*n_iters, model.info().trained_n_iters])
    for name, value in (("batch_size", batch_size), ("n_draws", n_draws)):
        whole_number(name, value)
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence!r}: expected a number between 0 and 1.")
    pieces = _windows(model, [texts] if isinstance(texts, str) else list(texts))
    n_batches = -(-len(pieces) // batch_size)
    steps = Progress((1 + control) * len(depths) * n_batches, progress)

    def run(model: Any, beside: Upward | None) -> Upward:
        scores, undefined = _score(model, pieces, depths, batch_size, steps)
        return _gather(model, scores, depths, undefined, n_draws, confidence, seed, beside)

    return run(model, run(fresh_weights(model, seed), None) if control else None)


def _windows(model: Any, documents: list[Any]) -> list[tuple[int, list[int]]]:
    """(document, ids) of every piece with a token to predict. Errors: InputError if there is none."""
    begin = getattr(getattr(model, "tokenizer", None), "bos_token_id", None)
    size, pieces = model.cfg.n_ctx, []
    for number, text in enumerate(documents):
        if isinstance(text, str):
            ids = model.to_tokens(text, prepend_bos=False)[0].tolist() if text.strip() else []
        else:
            ids = [int(i) for i in text]
        start = [] if begin is None else [begin]
        ids = ids[len(start) if ids[:1] == start else 0 :]
        # Without a token to begin with, the last of one window begins the next.
        for at in range(0, len(ids), size - 1):
            piece = start + ids[at : at + size - len(start)]
            if len(piece) > 1:
                pieces.append((number, piece))
    if not pieces:
        raise InputError("texts: no token to predict; expected documents of two tokens or more.")
    return pieces


def _score(
    model: Any,
    pieces: list[tuple[int, list[int]]],
    depths: Sequence[int],
    batch_size: int,
    steps: Progress,
) -> tuple[Scores, list[str]]:
    sums = np.full((len(pieces), len(MEASURES), len(depths)), np.nan)
    undefined = [""] * len(depths)
    for column, r in enumerate(depths):
        try:
            model.depth(r)
        except DepthError as error:
            undefined[column] = str(error)
            steps.step(-(-len(pieces) // batch_size))
            continue
        for rows, nll, right in _batches(model, pieces, r, batch_size):
            sums[rows, 0, column], sums[rows, 1, column] = nll, right
            steps.step()
        if not np.isfinite(sums[:, 0, column]).all():
            sums[:, :, column] = np.nan
            undefined[column] = f"the state or the NLL of some token is not finite at n_iters={r}"
    if all(undefined):
        raise DepthError(f"n_iters: no depth has values ({'; '.join(undefined)})")
    count = np.array([len(ids) - 1 for _, ids in pieces])
    return Scores(sums, count, np.array([document for document, _ in pieces])), undefined


def _batches(
    model: Any, pieces: list[tuple[int, list[int]]], r: int, batch_size: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows of a batch, their summed NLL and their right answers, at depth r."""
    for first in range(0, len(pieces), batch_size):
        rows = slice(first, first + batch_size)
        ids = [piece for _, piece in pieces[rows]]
        longest = max(map(len, ids))
        padded = torch.tensor([piece + [piece[-1]] * (longest - len(piece)) for piece in ids])
        mask = torch.arange(longest) < torch.tensor([len(piece) for piece in ids])[:, None]
        inputs = prepare(model, padded, r, mask.long())
        state = deque(states(model, inputs), maxlen=1).pop()
        with torch.no_grad():
            logits: Tensor = model.readout(state)
        counted = mask[:, 1:].to(logits.device)
        nll = next_token_nll(logits, inputs.tokens, inputs.mask, per_token=True).double()
        right = (logits[:, :-1].argmax(-1) == inputs.tokens[:, 1:]) & counted
        total = nll.where(counted, 0.0).sum(1)
        yield rows, total.cpu().numpy(), right.sum(1).double().cpu().numpy()


def _gather(
    model: Any,
    scores: Scores,
    depths: Sequence[int],
    undefined: list[str],
    n_draws: int,
    confidence: float,
    seed: int,
    control: Upward | None,
) -> Upward:
    from abbie_lens.training.evaluate import bootstrap_means  # it brings the trainer's libraries

    shape = scores.sums.shape[1:]
    flat = scores.sums.reshape(len(scores.sums), -1)
    drawn = bootstrap_means(flat, scores.count, scores.document, n_draws, seed).reshape(-1, *shape)
    value = scores.sums.sum(0) / scores.count.sum()
    at = list(depths).index(model.info().trained_n_iters)
    bounds = [
        np.array([[quantiles(d, confidence) for d in row.T] for row in draws.transpose(1, 0, 2)])
        for draws in (drawn, drawn - drawn[:, :, at : at + 1])
    ]
    return Upward(
        model=model.info(),
        tokens=(),
        n_iters=max(depths),
        depths=np.array(depths),
        trained=depths[at],
        value=value,
        low=bounds[0][..., 0],
        high=bounds[0][..., 1],
        change=value - value[:, at : at + 1],
        change_low=bounds[1][..., 0],
        change_high=bounds[1][..., 1],
        undefined=tuple(undefined),
        confidence=confidence,
        n_documents=len(np.unique(scores.document)),
        n_tokens=int(scores.count.sum()),
        control=control,
    )
