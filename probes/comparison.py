"""Several runs on one scale: curves of two or more models, or of one model on several prompts.

Nothing is run here: a comparison is put together from results that exist (`overlays`), or from what the
bundled models' own files say (`leaderboard`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from abbie_lens.info import ModelInfo
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Quantity:
    """One panel of a comparison."""

    name: str
    formula: str
    x_title: str = "iteration k"
    log: bool = False
    head: bool = False
    """Whether the point at 0 is the Head's own, before any iteration."""
    chance: float = float("nan")
    """What guessing reaches; NaN where that means nothing."""


@dataclass(frozen=True)
class Curve:
    """One run's line in one panel: [point] arrays; NaN bounds where there is no interval."""

    x: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(Result):
    """Curves of several runs; NaN where a run has no value, so a refused depth is a gap.

    `model` and `tokens` are those of the first run.
    """

    title: ClassVar[str] = "Runs compared"
    formula: ClassVar[str] = "one line a run, the same axes for all; band: as `band` says"

    heading: str
    runs: tuple[str, ...]
    """[run] what tells the runs apart: a model's name, or a prompt."""
    families: tuple[str, ...]
    """[run] loop family with its settings."""
    counts: tuple[str, ...]
    """[run] what one iteration is (`LoopFamily.counts`)."""
    quantities: tuple[str, ...]
    """[quantity] names of the panels."""
    formulas: tuple[str, ...]
    """[quantity]"""
    x_titles: tuple[str, ...]
    """[quantity]"""
    log: tuple[bool, ...]
    """[quantity] whether the axis is logarithmic."""
    head: tuple[bool, ...]
    """[quantity] whether the point at 0 is the Head's own, before any iteration."""
    chance: np.ndarray
    """[quantity] what guessing reaches; NaN where that means nothing."""
    band: str
    """What the band is."""
    several_models: bool
    """Whether the runs are of several models; else they are of one, on several prompts."""
    notes: tuple[str, ...]
    """Further sentences for the caption: what was refused, what is not comparable."""
    x: np.ndarray
    """[quantity, run, point]; NaN beyond the end of a curve."""
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """[quantity, run, point]"""

    @property
    def counts_differ(self) -> bool:
        """Whether one iteration is not the same in all runs."""
        return len(set(self.counts)) > 1

    def to_frame(self) -> pd.DataFrame:
        """One row per quantity, run and point: family, x, value, low, high."""
        import pandas as pd

        quantity, run, point = np.nonzero(np.isfinite(self.x))
        return pd.DataFrame(
            {
                "quantity": np.asarray(self.quantities, dtype=object)[quantity],
                "run": np.asarray(self.runs, dtype=object)[run],
                "family": np.asarray(self.families, dtype=object)[run],
                **{
                    name: getattr(self, name)[quantity, run, point]
                    for name in ("x", "value", "low", "high")
                },
            }
        )

    def figure(self, *, theme: str = "light", quantities: Sequence[str] | None = None) -> go.Figure:
        """One panel a quantity (all of them if None), one line and band a run."""
        from probes.figures import comparison as figures

        for name in quantities or ():
            if name not in self.quantities:
                raise InputError(
                    f"quantities={name!r}: expected among {', '.join(self.quantities)}."
                )
        return figures.draw(self, quantities or self.quantities, theme=theme)


def assemble(
    heading: str,
    runs: Sequence[tuple[str, ModelInfo]],
    panels: Sequence[tuple[Quantity, Sequence[Curve]]],
    *,
    band: str,
    tokens: tuple[tuple[str, ...], ...] = (),
    n_iters: int,
    several_models: bool = True,
    notes: Sequence[str] = (),
) -> Comparison:
    """A comparison of named runs from a curve for each panel and run, padded to one length."""
    if not runs:
        raise InputError("runs: nothing to compare; expected at least one.")
    longest = max(len(curve.x) for _, curves in panels for curve in curves)
    arrays: dict[str, Any] = {}
    for name in ("x", "value", "low", "high"):
        arrays[name] = np.full((len(panels), len(runs), longest), np.nan)
        for q, (_, curves) in enumerate(panels):
            for r, curve in enumerate(curves):
                values = getattr(curve, name)
                arrays[name][q, r, : len(values)] = values
    infos = [info for _, info in runs]
    quantities = [quantity for quantity, _ in panels]
    return Comparison(
        model=infos[0],
        tokens=tokens,
        n_iters=n_iters,
        heading=heading,
        runs=tuple(name for name, _ in runs),
        families=tuple(info.family for info in infos),
        counts=tuple(info.counts for info in infos),
        quantities=tuple(q.name for q in quantities),
        formulas=tuple(q.formula for q in quantities),
        x_titles=tuple(q.x_title for q in quantities),
        log=tuple(q.log for q in quantities),
        head=tuple(q.head for q in quantities),
        chance=np.array([q.chance for q in quantities]),
        band=band,
        several_models=several_models,
        notes=tuple(notes),
        **arrays,
    )
