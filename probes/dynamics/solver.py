"""Which fixed points does an iteration have, for a frozen context? Solved for from many starts (ANALYSES 16, 18).

Running the loop finds the fixed points that attract, one a start. Here h = step(h), or u(h) = u(step(h)), is solved for by
plain and damped iteration and by Anderson's, which also comes to points that repel. Solutions that lie together are one;
whether each attracts, the spectral radius at it says: ρ < 1 in every token. The context (injected input, gates, k) is
that of the last iteration of a run and stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes.control import fresh_weights
from probes.dynamics.jacobian import MAPS, Map
from probes.dynamics.search import METHODS, Budget, search
from probes.dynamics.walk import Walk, whole_number
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.tidy import with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ATTRACTS, REPELS, UNDECIDED = "attracts", "repels", "undecided"


@dataclass(frozen=True, eq=False, kw_only=True)
class FixedPointSearch(Result):
    """Distinct solutions, a row each, and what finding them cost. Undefined values are NaN."""

    title: ClassVar[str] = "Fixed points of one iteration"
    formula: ClassVar[str] = (
        "x = g(x), g the step at the context of the last iteration (or x ↦ u(step(‖hₖ‖ u(x)))); residual: largest over "
        "tokens of ‖g(x) − x‖ / ‖hₖ‖; attracts: ρ of ∂gₜ/∂xₜ below 1 in every token"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    map: str
    """"step" or "direction"."""
    sequence: np.ndarray
    """[solution] which sequence of the batch it belongs to."""
    points: np.ndarray
    """[solution, pos, d] the solutions."""
    residual: np.ndarray
    """[solution] how well it solves the equation."""
    radius: np.ndarray
    """[solution, pos] ρ of every token's diagonal block there; NaN for padding."""
    radius_error: np.ndarray
    """[solution, pos] its first-order error."""
    stability: np.ndarray
    """[solution] "attracts", "repels", or "undecided" where ρ is 1 within its error."""
    found: np.ndarray
    """[solution, method] number of starts that led there, by `METHODS`."""
    from_plain: np.ndarray
    """[solution] distance in lengths of h_k, largest over tokens, to where plain iteration of the run's own start ended."""
    applications: np.ndarray
    """[method, start, batch] Body applications until the residual was at most `tolerance`; −1 where it never was."""
    plain_residual: np.ndarray
    """[batch] least residual of plain iteration from the run's own start."""
    tolerance: float
    control: FixedPointSearch | None
    """The same for freshly initialised weights; None if not asked for."""

    @property
    def saving(self) -> np.ndarray:
        """[batch] Body applications of plain iteration over Anderson's, from the run's own start; NaN if either failed."""
        plain, faster = (self.applications[METHODS.index(m), 0] for m in ("plain", "anderson"))
        both = (plain > 0) & (faster > 0)
        return np.where(both, plain / np.where(both, faster, 1), np.nan)

    def per_token(self) -> dict[str, np.ndarray]:
        """Values by name, each [1, batch, pos]: number of solutions, and ρ at the one nearest to plain iteration's end."""
        count, radius = np.full(self.valid.shape, np.nan), np.full(self.valid.shape, np.nan)
        for b in range(len(self.valid)):
            own = np.flatnonzero(self.sequence == b)
            count[b] = np.where(self.valid[b], len(own), np.nan)
            if len(own) and np.isfinite(self.from_plain[own]).any():
                radius[b] = self.radius[own[np.nanargmin(self.from_plain[own])]]
        return {"n_fixed_points": count[None], "radius_at_end": radius[None]}

    def to_frame(self) -> pd.DataFrame:
        """One row per solution; `weights` tells the control apart."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "batch": self.sequence,
                "stability": self.stability,
                "radius": np.array(
                    [np.nanmax(r) if np.isfinite(r).any() else np.nan for r in self.radius]
                ),
                "residual": self.residual,
                "from_plain": self.from_plain,
                **{f"found_by_{m}": self.found[:, i] for i, m in enumerate(METHODS)},
            }
        )
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light", **options: Any) -> go.Figure:
        """A table of the solutions, trained and random."""
        from probes.figures import fixed_point_table as figures

        return figures.draw(self, theme=theme, **options)


def find_fixed_points(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 8,
    *,
    map: Map = "step",
    n_starts: int = 8,
    sizes: Sequence[float] = (1.0, 3.0, 0.1),
    tolerance: float = 1e-9,
    same: float = 1e-3,
    limit: int = 200,
    damping: float = 0.5,
    memory: int = 10,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    control_seed: int = 0,
    progress: Callback | None = None,
) -> FixedPointSearch:
    """Fixed points of the last of r iterations, from the run's own h_0 and `n_starts` − 1 random states, in float64.

    Random states are `sizes` in turn times as long as h_k. Solutions nearer than `same` (in lengths of h_k, largest over tokens)
    are one. `limit` bounds the applications of one solve, `damping` is β of damped iteration, `memory` Anderson's.
    Errors: InputError for bad input, Cancelled. A map without a solution gives none.
    """
    if map not in MAPS:
        raise InputError(f"map={map!r}: expected one of {', '.join(MAPS)}.")
    for name, value in (("n_starts", n_starts), ("limit", limit), ("memory", memory)):
        whole_number(name, value)
    for name, value in (("tolerance", tolerance), ("same", same), ("damping", damping)):
        if not 0 < value <= 1:
            raise InputError(f"{name}={value!r}: expected a number above 0, at most 1.")
    if not len(sizes) or not all(size > 0 for size in sizes):
        raise InputError(f"sizes={tuple(sizes)!r}: expected numbers above 0.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    budget = Budget(n_starts, tuple(sizes), tolerance, same, limit, damping, memory, seed)
    counting = Progress(n_starts * len(METHODS) * (1 + bool(control)), progress)
    beside = None
    if control:
        beside = _run(fresh_weights(model, control_seed), inputs, map, budget, counting, None)
    return _run(model, inputs, map, budget, counting, beside)


def _run(
    model: Any,
    inputs: Inputs,
    of: Map,
    budget: Budget,
    counting: Progress,
    beside: FixedPointSearch | None,
) -> FixedPointSearch:
    found = search(Walk.of(model, inputs), of, budget, counting)
    stability = [
        _stability(r[inputs.valid[b]], e[inputs.valid[b]])
        for b, r, e in zip(found["sequence"], found["radius"], found["radius_error"], strict=True)
    ]
    return FixedPointSearch(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        map=of,
        stability=np.array(stability, dtype=str),
        tolerance=budget.tolerance,
        control=beside,
        **found,
    )


def _stability(radius: np.ndarray, error: np.ndarray) -> str:
    """By ρ [pos] of all tokens and its error."""
    error = np.nan_to_num(error)
    if (radius + error < 1).all():
        return ATTRACTS
    return REPELS if (radius - error > 1).any() else UNDECIDED
