"""Where the states go: PCA of all (token, iteration) states, and each token's path in it (ANALYSES 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import DivergedError, InputError
from probes import numerics
from probes.inputs import prepare
from probes.result import Result
from probes.running import states
from probes.tidy import tidy
from probes.trust import Trust

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Trajectories(Result):
    """Every state as coordinates on the principal components of all of them.

    Fitted on unit vectors unless `unit` is false: the norm of a doubling family would be PC 1. A
    component's sign is fixed by its largest loading, which is positive.
    """

    title: ClassVar[str] = "Trajectories"
    formula: ClassVar[str] = (
        "PCA of x = u(hₖ) (or hₖ, if asked) over all tokens and iterations 0…r; "
        "score on PC c = ⟨x − mean, vᶜ⟩; an orbit is a token's path minus its own mean over k"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    unit: bool
    """Whether states were scaled to length 1 first."""
    scores: np.ndarray
    """[r+1, batch, pos, component] coordinates; NaN for padding, divergence and overflow."""
    explained: np.ndarray
    """[component] share of the variance of all states, 0…1."""
    components: np.ndarray
    """[component, d_model] orthonormal directions."""
    mean: np.ndarray
    """[d_model] what is subtracted before projecting."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is NaN or infinite; −1 if none."""
    overflow_at: np.ndarray
    """[batch, pos] first iteration whose state is too large for the model's own norms; −1 if none."""

    @property
    def n_components(self) -> int:
        """Components kept: at most as many as the states span."""
        return self.scores.shape[-1]

    @property
    def centred(self) -> np.ndarray:
        """[r+1, batch, pos, component] each token's path around its own mean over the iterations."""
        defined = np.isfinite(self.scores)
        n = defined.sum(0)
        total = np.where(defined, self.scores, 0).sum(0)
        return self.scores - np.where(n > 0, total / np.maximum(n, 1), np.nan)

    def to_frame(self) -> pd.DataFrame:
        """One row per token and iteration: pc1, pc2, …, the centred ones, and divergence."""
        centred = self.centred
        columns = {f"pc{c + 1}": self.scores[..., c] for c in range(self.n_components)}
        columns |= {f"pc{c + 1}_centred": centred[..., c] for c in range(self.n_components)}
        columns |= {"diverged_at": self.diverged_at, "overflow_at": self.overflow_at}
        return tidy(self.tokens, columns, valid=self.valid)

    def figure(self, *, theme: str = "light", view: str = "paths", **options: Any) -> go.Figure:
        """`view="paths"` on pairs of components, `"phase"` with arrows and frames, `"orbits"`, `"waterfall"`."""
        from probes.figures import trajectories as figures

        return figures.draw(self, view=view, theme=theme, **options)


def trajectories(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    n_components: int = 6,
    unit: bool = True,
    attention_mask: Any = None,
) -> Trajectories:
    """PCA coordinates of h_0 … h_r of every token; `unit` fits on directions.

    Fewer components come back where the states span fewer. Errors: InputError for bad input,
    DivergedError if no state at all is finite.
    """
    if isinstance(n_components, bool) or not isinstance(n_components, int) or n_components < 1:
        raise InputError(f"n_components={n_components!r}: expected an integer >= 1.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask)
    points, kept, trust = [], [], Trust(model, inputs)
    for state in states(model, inputs):
        h = numerics.host(state.h)
        points.append(numerics.unit(h) if unit else h)
        kept.append(trust.see(state.k, numerics.norm(h)))
    x = np.stack(points)
    finite = np.isfinite(x).all(-1) & np.stack(kept)
    samples = x[finite]
    if not len(samples):
        raise DivergedError("no state is finite: there is nothing to fit.")
    mean, components, explained = _fit(samples, n_components)
    scores = np.full((*finite.shape, len(components)), np.nan)
    scores[finite] = (samples - mean) @ components.T
    return Trajectories(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        valid=inputs.valid,
        unit=unit,
        scores=scores,
        explained=explained,
        components=components,
        mean=mean,
        diverged_at=trust.diverged_at,
        overflow_at=trust.overflow_at,
    )


def _fit(samples: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, components [c, d] and explained share [c] of samples [n, d]."""
    from sklearn.decomposition import PCA

    mean = samples.mean(0)
    spread = np.abs(samples - mean).max()
    if spread == 0:
        # All states are one point: there is no direction to name.
        return mean, np.zeros((0, samples.shape[1])), np.zeros(0)
    # Raw states of a doubling family are too large to square: scale first, PCA does not mind.
    pca = PCA(min(n_components, *samples.shape), svd_solver="full").fit((samples - mean) / spread)
    explained = np.asarray(pca.explained_variance_ratio_)
    kept = explained > np.finfo(float).eps
    # scikit-learn makes the largest loading of each component positive, so signs are reproducible.
    return mean, np.asarray(pca.components_)[kept], explained[kept]
