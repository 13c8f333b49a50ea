"""LogitAttribution: the terms of a logit, and sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class LogitAttribution(Result):
    """Terms of one logit, or of a difference of two; they add up to it. Undefined values are NaN.

    A term's iteration is -1 before and after the loop; its block -1 where no block makes it.
    """

    title: ClassVar[str] = "Direct logit attribution"
    formula: ClassVar[str] = (
        "logit = Σ w · term · N'(u); w: what later carries make of it, N' the final norm, held still"
    )

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "iterations"})

    positions: np.ndarray
    """[pos] columns that were looked at."""
    target_ids: np.ndarray
    """[batch, pos] token whose logit this is; -1 where there is none."""
    versus_ids: np.ndarray | None
    """[batch, pos] token whose logit was taken off; None for a logit by itself."""
    random_ids: np.ndarray
    """[batch, pos] the control: a random token in the target's place."""
    vocabulary: dict[str, str]
    """Token strings of every id that occurs above, by id as text."""
    logit: np.ndarray
    """[batch, pos] the model's logit, or difference of logits, before a soft cap."""
    random_logit: np.ndarray
    """[batch, pos] the control's."""
    soft_cap: float
    """c of c tanh(x / c) that the model puts on its logits; 0 for none."""
    stage: tuple[str, ...]
    """[term] begin, head, body, tail or readout."""
    component: tuple[str, ...]
    """[term] embedding, drawn state, head {h}, attention bias, mlp, injected or bias."""
    iteration: np.ndarray
    """[term]"""
    block: np.ndarray
    """[term]"""
    contribution: np.ndarray
    """[term, batch, pos] as later carries weigh it."""
    direct: np.ndarray
    """[term, batch, pos] the same read once, as if it entered z_r as it is."""
    random_contribution: np.ndarray
    """[term, batch, pos] to the control's logit."""

    @property
    def error(self) -> np.ndarray:
        """[batch, pos] logit less the sum of all terms: rounding."""
        return self.logit - self.contribution.sum(0)

    @property
    def carry(self) -> np.ndarray:
        """[term, batch, pos] the part of each contribution that later carries made of it."""
        return self.contribution - self.direct

    def by_iteration(self, name: str = "contribution") -> np.ndarray:
        """[iteration, batch, pos] sums over the Body's terms of `contribution`, `direct`, `carry`, `random_contribution`."""
        values, body = self._values(name), np.array(self.stage) == "body"
        rows = [values[body & (self.iteration == k)].sum(0) for k in range(self.n_iters)]
        return np.array(rows).reshape(-1, *self.logit.shape)

    def by_stage(self, name: str = "contribution") -> dict[str, np.ndarray]:
        """[batch, pos] sums: `before` the loop, `body`, `tail`, and the read-out's `bias`."""
        values, stage = self._values(name), np.array(self.stage)
        parts = {
            "before": ("begin", "head"),
            "body": ("body",),
            "tail": ("tail",),
            "bias": ("readout",),
        }
        return {part: values[np.isin(stage, names)].sum(0) for part, names in parts.items()}

    def rows(self, stages: Sequence[str], block: int | None = None) -> dict[str, np.ndarray]:
        """[column, batch, pos] by component: a column per iteration for the Body's, one for other stages'.

        Attention is one row a block, its heads and biases together; with `block` the heads of that block alone.
        """
        inside = np.isin(self.stage, stages)
        columns = range(self.n_iters) if tuple(stages) == ("body",) else (-1,)
        found: dict[str, np.ndarray] = {}
        for term in np.flatnonzero(inside):
            name, b = self.component[term], int(self.block[term])
            if block is not None and (b != block or name == "mlp"):
                continue
            of_attention = block is None and name.startswith(("head ", "attention"))
            label = "attn" if of_attention else "MLP" if name == "mlp" else name
            label = label if b < 0 or block is not None else f"{label} {b}"
            empty = np.zeros((len(columns), *self.logit.shape))
            column = columns.index(int(self.iteration[term]))
            found.setdefault(label, empty)[column] += self.contribution[term]
        return found

    def token(self, token_id: int) -> str:
        """The string of a token id that occurs in this result; empty for -1."""
        return "" if token_id < 0 else self.vocabulary[str(int(token_id))]

    def to_frame(self) -> pd.DataFrame:
        """One row per token and term."""
        import pandas as pd

        batch, column = np.nonzero(self.target_ids >= 0)
        n = len(self.stage)
        words = [self.tokens[b][self.positions[p]] for b, p in zip(batch, column, strict=True)]
        ids = {"target": self.target_ids, "random": self.random_ids}
        if self.versus_ids is not None:
            ids["versus"] = self.versus_ids
        named = {name: [self.token(i) for i in held[batch, column]] for name, held in ids.items()}
        numbers = {
            name: self._values(name)
            for name in ("contribution", "direct", "carry", "random_contribution")
        }
        many = len(batch)
        return pd.DataFrame(
            {
                "batch": np.repeat(batch, n),
                "position": np.repeat(self.positions[column], n),
                "token": np.repeat(np.array(words, object), n),
                **{name: np.repeat(np.array(held, object), n) for name, held in named.items()},
                "stage": np.tile(np.array(self.stage, object), many),
                "iteration": np.tile(self.iteration, many),
                "block": np.tile(self.block, many),
                "component": np.tile(np.array(self.component, object), many),
                **{name: held[:, batch, column].T.reshape(-1) for name, held in numbers.items()},
            }
        )

    def figure(
        self, *, theme: str = "light", view: str = "components", **options: Any
    ) -> go.Figure:
        """`view="components"` iteration × attention and MLP of each block, `"heads"` (`block=`), `"iterations"`: sums.

        `batch=`, `position=` a column of the text; the last that was looked at if None.
        """
        from probes.figures import attribution as figures

        return figures.draw(self, view=view, theme=theme, **options)

    def column(self, batch: int, position: int | None) -> int:
        """Where in the arrays a column of the text is. Errors: InputError."""
        if not 0 <= batch < len(self.tokens):
            raise InputError(f"batch={batch}: expected 0 to {len(self.tokens) - 1}.")
        there = np.flatnonzero(self.target_ids[batch] >= 0)
        held = {int(self.positions[p]): int(p) for p in there}
        if position is None and held:
            return held[max(held)]
        if position not in held:
            raise InputError(
                f"position={position!r}: expected one of {', '.join(map(str, held)) or 'none'}."
            )
        return held[position]

    def _values(self, name: str) -> np.ndarray:
        known = ("contribution", "direct", "carry", "random_contribution")
        if name not in known:
            raise InputError(f"name={name!r}: expected one of {', '.join(known)}.")
        return getattr(self, name)
