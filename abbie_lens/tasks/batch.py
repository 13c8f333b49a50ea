"""Rows of a task as arrays: tokens, which of them answer, how many steps each answer needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """`n` rows of equal length. An answer at position t is predicted *from position t - 1*."""

    tokens: np.ndarray
    """[n, pos] int64 token ids; `<|endoftext|>` = 0 opens the row and pads its end."""
    counted: np.ndarray
    """[n, pos] bool: this token is an answer, to be predicted from the position before."""
    difficulty: np.ndarray
    """[n, pos] int64: steps that this answer needs, at least 1; 0 where the token is no answer."""
    real: np.ndarray
    """[n, pos] bool: attention mask, False at padding."""

    def to_frame(self, str_tokens: Sequence[Sequence[str]] | None = None) -> pd.DataFrame:
        """The labels of what each position must predict, to join with analyses; see `label_table`."""
        following = np.zeros_like(self.difficulty)
        following[:, :-1] = self.difficulty[:, 1:]
        return label_table(self.tokens, following, self.real, str_tokens)


def label_table(
    tokens: np.ndarray,
    following: np.ndarray,
    real: np.ndarray,
    str_tokens: Sequence[Sequence[str]] | None = None,
) -> pd.DataFrame:
    """One row per (batch, position), padding left out: batch, position, token, counted, answer, difficulty.

    tokens, following, real: [n, pos] ids, steps that the *next* token needs (0 where it is no answer), mask.
    str_tokens: [batch][pos] labels, ids if None. The labels describe the next token, as do the read-out,
    NLL and exit step of an analysis at that position: join on batch and position. answer and difficulty
    are missing where the next token is no answer.
    """
    import pandas as pd

    batch, position = np.nonzero(real)
    steps = pd.Series(following[batch, position], dtype="Int64")
    names = [list(map(str, row)) for row in (tokens.tolist() if str_tokens is None else str_tokens)]
    cells = list(zip(batch.tolist(), position.tolist(), strict=True))
    shown = np.zeros_like(real)
    shown[:, :-1] = real[:, 1:] & (following[:, :-1] > 0)
    return pd.DataFrame(
        {
            "batch": batch,
            "position": position,
            "token": [names[b][p] for b, p in cells],
            "counted": (steps > 0).astype(bool),
            "answer": [names[b][p + 1] if shown[b, p] else None for b, p in cells],
            "difficulty": steps.mask(steps == 0),
        }
    )


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions before they are packed into rows: all at one width, with gaps."""

    tokens: np.ndarray
    """[n, slot, width] token ids."""
    present: np.ndarray
    """[n, slot, width] bool: False at gaps, which close up; a slot without any is left out."""
    difficulty: np.ndarray
    """[n, slot, width] steps of the tokens that answer; 0 elsewhere."""


def pack(opening: np.ndarray, questions: Questions, n_ctx: int) -> TaskBatch:
    """Rows [n, n_ctx] of `<|endoftext|>`, the opening [n, length] and the questions in order.

    A question that no longer fits whole ends the row: what is left over is padding.
    """
    n, length = opening.shape
    tokens = np.zeros((n, n_ctx), dtype=np.int64)
    difficulty = np.zeros((n, n_ctx), dtype=np.int64)
    tokens[:, 1 : length + 1] = opening
    ends = length + 1 + questions.present.sum(-1).cumsum(-1)
    kept = questions.present & (ends <= n_ctx)[..., None]
    flat = kept.reshape(n, -1)
    # The gaps close: a token's place is the number of tokens kept before it.
    places = (length + flat.cumsum(1))[flat]
    rows = np.nonzero(flat)[0]
    tokens[rows, places] = questions.tokens.reshape(n, -1)[flat]
    difficulty[rows, places] = questions.difficulty.reshape(n, -1)[flat]
    real = np.arange(n_ctx) < (length + 1 + flat.sum(1))[:, None]
    return TaskBatch(tokens, difficulty > 0, difficulty, real)
