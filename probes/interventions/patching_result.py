"""What patching found: a score for every cell, exact and by gradients, and how far the two agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Patching(Result):
    """What share of the clean answer comes back when one cell of the corrupt run takes its clean value.

    `tokens` are the corrupt prompts'. Axes: site; iteration, the row of the site; pair; pos, of the corrupt prompt (one,
    for all, where `together`); head (one where heads are not told apart). NaN: no such cell, or an undefined score.
    """

    title: ClassVar[str] = "Activation patching"
    formula: ClassVar[str] = (
        "score = (m_patched − m_corrupt) / (m_clean − m_corrupt); by gradients: ∂m/∂x · (x_clean − x_corrupt) "
        "/ (m_clean − m_corrupt), at the corrupt run"
    )

    metric: str
    """What m is."""
    sites: tuple[str, ...]
    clean_tokens: tuple[tuple[str, ...], ...]
    valid: np.ndarray
    """[pair, pos] bool: a token of the corrupt prompt."""
    differs: np.ndarray
    """[pair, pos] bool: not the clean prompt's token."""
    together: bool
    """Whether all positions are patched at once."""
    clean: np.ndarray
    corrupt: np.ndarray
    """[pair] m of the two runs."""
    patched: np.ndarray
    """[site, iteration, pair, pos, head] m after patching."""
    score: np.ndarray
    """[site, iteration, pair, pos, head] exact; empty if not asked for."""
    attribution: np.ndarray
    """[site, iteration, pair, pos, head] by gradients; empty if not asked for."""
    control: np.ndarray
    """[site, iteration, pair, pos, head] exact, of a third prompt's values; empty if not asked for."""
    control_tokens: tuple[tuple[str, ...], ...]
    """The third prompts; empty if there are none."""
    pearson: float
    spearman: float
    """Correlation of the two over all cells that both define; NaN for fewer than three, or constant ones."""

    def grid(self, of: str = "score") -> np.ndarray:
        """`score`, `attribution` or `control`. Errors: InputError where it was not computed."""
        if of not in ("score", "attribution", "control"):
            raise InputError(f"of={of!r}: expected score, attribution or control.")
        values = getattr(self, of)
        if not values.size:
            raise InputError(f"of={of!r}: it was not computed.")
        return values

    def best(self, pair: int = 0, of: str = "score") -> tuple[int, int, int, int] | None:
        """(site, iteration, pos, head) of the greatest score of a pair; None where none is defined."""
        values = self.grid(of)[:, :, pair]
        if not np.isfinite(values).any():
            return None
        site, iteration, pos, head = np.unravel_index(np.nanargmax(values), values.shape)
        return int(site), int(iteration), int(pos), int(head)

    def origin(self, pair: int = 0, of: str = "score") -> tuple[int, int] | None:
        """(iteration, pos) of the greatest score in the first patched row; None where none is defined there."""
        values = self.grid(of)[0, :, pair, :, 0]
        rows = np.flatnonzero(np.isfinite(values).any(axis=1))
        return (int(rows[0]), int(np.nanargmax(values[rows[0]]))) if len(rows) else None

    def to_frame(self) -> pd.DataFrame:
        """One row per cell that exists: site, iteration, pair, position, token, head, patched, score, attribution, control."""
        import pandas as pd

        grids = [g for g in (self.score, self.attribution) if g.size]
        there = (
            np.isfinite(self.patched) if self.patched.size else np.zeros_like(grids[0], dtype=bool)
        )
        for grid in grids:
            there = there | np.isfinite(grid)
        site, iteration, pair, pos, head = np.nonzero(there)
        missing = np.full(len(site), np.nan)
        several = there.shape[-1] > 1
        frame = {
            "site": [self.sites[s] for s in site],
            "iteration": iteration,
            "pair": pair,
            "position": np.where(self.together, -1, pos),
            "token": [
                "all" if self.together else self.tokens[n][p]
                for n, p in zip(pair, pos, strict=True)
            ],
            "head": head if several else -1,
        }
        for name in ("patched", "score", "attribution", "control"):
            values = getattr(self, name)
            frame[name] = values[there] if values.size else missing
        return pd.DataFrame(frame)

    def figure(
        self,
        *,
        theme: str = "light",
        pair: int = 0,
        site: int = 0,
        head: int = 0,
        cell: tuple[int, int] | None = None,
        selectable: bool = False,
    ) -> go.Figure:
        """Scores over token × iteration, exact above the control's and those by gradients; `cell` (iteration, position) is framed.

        Where all positions are patched at once: over site and head × iteration.
        """
        from probes.figures import patching as figures

        return figures.draw(
            self, theme=theme, pair=pair, site=site, head=head, cell=cell, selectable=selectable
        )
