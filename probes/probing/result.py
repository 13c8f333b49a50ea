"""What linear probes of a model's states came to, beside every baseline and control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from probes.probing.stored import FittedProbes, unpacked
from probes.probing.targets import Kind
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BY_ROW = ("trained", "untrained", "shuffled", "control", "selectivity")
FLAT = ("embedding", "head_output", "majority")


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearProbes(Result):
    """Test scores of linear probes with all baselines; the last axis is (score, low, high).

    The score is accuracy, or R² for a label that is a number. low and high: 95% bootstrap interval over
    test documents, NaN with a single one. Rows that a site does not have, and states that are not
    finite, are NaN.
    """

    title = "Linear probes"
    formula = (
        "ŷ = argmax softmax(W s + b), s = standardised state; accuracy (of numbers: R²) on held-out"
        " documents, 95% bootstrap interval over documents; selectivity = accuracy − accuracy on random"
        " labels by word type"
    )

    label: str
    description: str
    """What the label says about a token."""
    kind: Kind
    classes: tuple[str, ...]
    """Classes that were probed; the label's name for numbers."""
    dropped_classes: tuple[str, ...]
    """Classes left out because they occur in fewer than two documents."""
    sites: tuple[str, ...]
    rows: np.ndarray
    """[site] rows that the site has, one an iteration or as many as the loop gives it; 0 outside the loop, drawn at k = 0."""
    trained: np.ndarray
    """[site, k, 3] the model's own states; k goes to n_iters, or to the longest site's last row."""
    untrained: np.ndarray
    """[site, k, 3] baseline: the same architecture with random weights."""
    shuffled: np.ndarray
    """[site, k, 3] control: the model's states, training labels permuted."""
    control: np.ndarray
    """[site, k, 3] control task: the model's states, one random label for every word type."""
    selectivity: np.ndarray
    """[site, k, 3] trained minus control, on the same draws of documents."""
    embedding: np.ndarray
    """[3] baseline: the token embedding alone."""
    head_output: np.ndarray
    """[3] baseline: h_0, before any iteration."""
    majority: np.ndarray
    """[3] baseline: always the most frequent training class, or the training mean."""
    penalty: np.ndarray
    """[site, k] chosen on the validation documents."""
    confusion: np.ndarray
    """[site, k, class, class] test tokens by true (first) and predicted class; 0 in rows that a site has not, and for numbers."""
    unfinished: int
    """Fits on the model's states that stopped before the solver was done."""
    counts: np.ndarray
    """[class, 3] training, validation and test tokens of each class."""
    n_documents: tuple[int, int, int]
    """Training, validation and test documents."""
    weights: dict[str, np.ndarray]
    """The fitted probes; `fitted` puts them together."""
    seed: int

    @property
    def score_name(self) -> str:
        """What the score is called in tables."""
        return "r2" if self.kind == "regression" else "accuracy"

    @property
    def equation(self) -> str:
        """The formula of this kind of label, one line."""
        rest = (
            "on held-out documents, 95% bootstrap interval over documents; selectivity = {0} − {0} of"
            " random labels by word type"
        )
        if self.kind == "regression":
            return (
                "ŷ = W s + b, s = standardised state; R² = 1 − Σ(y − ŷ)² / Σ(y − mean of training y)² "
                + rest.format("R²")
            )
        said = "argmax softmax(W s + b)" if self.kind == "classes" else "[W s + b > 0]"
        return f"ŷ = {said}, s = standardised state; accuracy {rest.format('accuracy')}"

    def fitted(self) -> FittedProbes:
        """The probes themselves, to save or to read a prompt with."""
        return FittedProbes(
            self.model,
            self.label,
            self.description,
            self.n_iters,
            unpacked(self.weights, self.kind, self.classes),
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per score: condition, site, iteration (missing for baselines without one)."""
        import pandas as pd

        table = []
        for condition in BY_ROW:
            values = getattr(self, condition)
            for s, site in enumerate(self.sites):
                for k in range(max(1, int(self.rows[s]))):
                    iteration = k if self.rows[s] else None
                    table.append((condition, site, iteration, *values[s, k]))
        for condition in FLAT:
            table.append((condition, None, None, *getattr(self, condition)))
        columns = ["condition", "site", "iteration", self.score_name, "low", "high"]
        frame = pd.DataFrame(table, columns=columns)
        frame["iteration"] = frame["iteration"].astype("Int64")
        frame.insert(0, "label", self.label)
        return frame

    def figure(
        self,
        *,
        theme: str = "light",
        view: str = "score",
        site: str | None = None,
        iteration: int = -1,
    ) -> go.Figure:
        """Score against the iteration with every baseline, one panel a site (or `site` alone).

        view: "score", "selectivity", or "confusion" of `site` (the first if None) at `iteration` (-1: its
        last). Errors: InputError for an unknown view, site or iteration.
        """
        from probes.figures import linear as figures

        return figures.draw(self, view=view, site=site, iteration=iteration, theme=theme)
