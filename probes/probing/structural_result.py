"""What structural probes of a model's states came to, beside every baseline and control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEASURES = {
    "uuas": "share of the tree's edges found (UUAS)",
    "distance_rank": "Spearman's ρ of distances",
    "depth_rank": "Spearman's ρ of depths",
}
"""Names in the table and on axes."""
BY_ROW = ("trained", "untrained", "shuffled")
FLAT = ("embedding", "head_output", "chain")


@dataclass(frozen=True, eq=False, kw_only=True)
class StructuralProbes(Result):
    """Test scores of distance and depth probes with all baselines; the last axis is (score, low, high).

    measure: share of the tree's edges found, Spearman's ρ of distances, of depths. low and high: 95% bootstrap interval
    over test documents, NaN with a single one. Rows that a site does not have, and states that are not finite, are NaN.
    """

    title = "Structural probes"
    formula = (
        "min_B mean |d_ij − ‖B(s_i − s_j)‖²| and min_B,c mean |depth_i − ‖B s_i + c‖²|, s = standardised state;"
        " UUAS: edges of the minimum spanning tree of predicted distances that the tree has; on held-out"
        " documents, 95% bootstrap interval over documents"
    )

    sites: tuple[str, ...]
    rows: np.ndarray
    """[site] rows that the site has; 0 outside the loop, drawn at k = 0."""
    trained: np.ndarray
    """[site, k, measure, 3] the model's own states."""
    untrained: np.ndarray
    """[site, k, measure, 3] baseline: the same architecture with random weights."""
    shuffled: np.ndarray
    """[site, k, measure, 3] control: the model's states, the words of each training tree permuted."""
    embedding: np.ndarray
    """[measure, 3] baseline: the token embedding alone."""
    head_output: np.ndarray
    """[measure, 3] baseline: h_0, before any iteration."""
    chain: np.ndarray
    """[measure, 3] baseline without states: every word joined to the next, |i − j| for distances, i for depths."""
    random_tree: np.ndarray
    """[3] baseline without states: the UUAS of a tree drawn uniformly, on average; its correlations are 0."""
    rank: int
    """Rows of B, or as many as the states are wide if those are fewer."""
    n_documents: tuple[int, int, int]
    """Training, validation and test documents."""
    n_sentences: tuple[int, int, int]
    """Training, validation and test sentences."""
    cut: int
    """Sentences left out because the model reads them in two windows."""
    too_long: int
    """Sentences left out because they have more than `longest` words."""
    longest: int
    weights: dict[str, np.ndarray]
    """By address and part, "loop.hook_state@3/distance": mean and scale [width] of the states, distance B [rank, width],
    depth B with c as its last column [rank, width + 1]."""
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One row per score: condition, site, iteration (missing for baselines without one), measure."""
        import pandas as pd

        table = []
        for condition in BY_ROW:
            values = getattr(self, condition)
            for s, site in enumerate(self.sites):
                for k in range(max(1, int(self.rows[s]))):
                    iteration = k if self.rows[s] else None
                    for m, measure in enumerate(MEASURES):
                        table.append((condition, site, iteration, measure, *values[s, k, m]))
        for condition in FLAT:
            for m, measure in enumerate(MEASURES):
                table.append((condition, None, None, measure, *getattr(self, condition)[m]))
        table.append(("random_tree", None, None, "uuas", *self.random_tree))
        columns = ["condition", "site", "iteration", "measure", "score", "low", "high"]
        frame = pd.DataFrame(table, columns=columns)
        frame["iteration"] = frame["iteration"].astype("Int64")
        return frame

    def figure(self, *, theme: str = "light", site: str | None = None) -> go.Figure:
        """A panel for each measure against the iteration, every baseline beside it; `site`: the first if None.

        Errors: InputError for an unknown site.
        """
        from probes.figures import structural as figures

        return figures.draw(self, site=site, theme=theme)
