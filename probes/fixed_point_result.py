"""What is known of a run's fixed points: four distances, the norm, verdicts, and controls beside (ANALYSES 6–11, 18).

No single distance answers. With pre-norm blocks AbbIE-D computes 2h + F(h): its norm doubles, the raw step
diverges, the relative step tends to 1, and the direction settles even for random weights. So all are
shown together, and beside them the same for freshly initialised weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError, nearest
from probes import verdicts
from probes.distances import METRICS, NORMALISERS, Metric
from probes.result import Result
from probes.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class FixedPoint(Result):
    """Distances of every token at every iteration, and a verdict; undefined values are NaN.

    Row k of a step is from h_k to h_{k+1} ([r, batch, pos]); row k of a level belongs to h_k
    ([r+1, batch, pos]). Norms are max-scaled in float64 (`probes.numerics`). Padding is NaN, and so is
    what touches a state that is not finite or too large for the model's own norms.
    """

    title: ClassVar[str] = "Fixed points"
    formula: ClassVar[str] = "; ".join(
        METRICS[m].formula for m in ("raw", "relative", "direction", "readout")
    )

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({"view": "text"}, {}, {"view": "tokens"})

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    denominator: str
    """What `relative` divides by: "previous" ‖h_k‖ or "next" ‖h_{k+1}‖."""
    raw: np.ndarray
    """[r, batch, pos] ‖h_{k+1} − h_k‖."""
    raw_largest: np.ndarray
    """[r, batch, pos] largest absolute entry of h_{k+1} − h_k: the same step in the infinity norm."""
    relative: np.ndarray
    """[r, batch, pos] raw step over `denominator`."""
    direction: np.ndarray
    """[r, batch, pos] ‖u(h_{k+1}) − u(h_k)‖, 0…2."""
    readout: np.ndarray
    """[r, batch, pos] ‖N(z_{k+1}) − N(z_k)‖ / √d."""
    angle: np.ndarray
    """[r, batch, pos] cosine between step k and the one before; the first is NaN."""
    normaliser: str
    """What `second_order` divides by: "state" ‖h_k‖, "steps" (sum of both steps' norms), or "none"."""
    second_order: np.ndarray
    """[r, batch, pos] ‖d_{k+1} − d_k‖ over `normaliser`, d_{k+1} = h_{k+1} − h_k; the first is NaN."""
    norm: np.ndarray
    """[r+1, batch, pos] ‖h_k‖; true even where the model's own norms overflow."""
    norm_ratio: np.ndarray
    """[r+1, batch, pos] ‖h_k‖ / ‖h_{k−1}‖; the first is NaN."""
    limit_direction: np.ndarray
    """[r+1, batch, pos] ‖u(h_k) − u(h*)‖."""
    limit_readout: np.ndarray
    """[r+1, batch, pos] ‖N(z_k) − N(z*)‖ / √d."""
    limit_iters: int
    """Iterations of the run that ends in h*, z*; 0 if there was none."""
    limit_dtype: str
    """Arithmetic of that run: the model's own, or one that can carry it (`probes.limits`)."""
    limit_step: np.ndarray
    """[batch, pos] last direction step of that run: h* is a limit only where this is small."""
    limit_reason: str
    """Why some token has no limit; empty if every token has one."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is NaN or infinite; −1 if none."""
    overflow_at: np.ndarray
    """[batch, pos] first iteration whose state is too large to square; −1 if none."""
    closure: np.ndarray
    """[batch, pos] how near the direction comes back to h_{r/2}, over how far it had gone."""
    thresholds: dict[str, float]
    """Of the verdicts: resolution, decay, growth, closure (`probes.verdicts.Thresholds`)."""
    verdict: np.ndarray
    """[batch, pos] one of `probes.verdicts.VERDICTS`; empty for padding."""
    control: FixedPoint | None
    """The same for freshly initialised weights of the same architecture; None if not asked for."""
    shuffled: FixedPoint | None
    """The same weights on the same tokens in another order; None if not asked for."""

    @property
    def one_minus_cos(self) -> np.ndarray:
        """[r, batch, pos] 1 − cos(h_{k+1}, h_k), without cancellation: half the squared direction step."""
        return self.direction**2 / 2

    def metric(self, name: str) -> np.ndarray:
        """Values [iteration, batch, pos] of a metric by its name. Errors: InputError."""
        if name not in METRICS:
            known = ", ".join(METRICS)
            raise InputError(f"metric={name!r}: known are {known}.{nearest(name, METRICS)}")
        return getattr(self, name)

    def describe(self, name: str) -> Metric:
        """Title and formula of a metric, with the denominator or normaliser that was used."""
        self.metric(name)
        metric = METRICS[name]
        if name == "second_order":
            return dataclasses.replace(metric, formula=NORMALISERS[self.normaliser])
        if name != "relative" or self.denominator == "previous":
            return metric
        return dataclasses.replace(metric, formula="‖hₖ₊₁ − hₖ‖ / ‖hₖ₊₁‖")

    def quantiles(self, name: str, levels: tuple[float, ...] = (0.1, 0.5, 0.9)) -> np.ndarray:
        """[level, iteration] quantiles over all tokens at which the metric is defined; NaN if none is."""
        values = self.metric(name)[:, self.valid]
        out = np.full((len(levels), len(values)), np.nan)
        for k, row in enumerate(values):
            if np.isfinite(row).any():
                out[:, k] = np.quantile(row[np.isfinite(row)], levels)
        return out

    @property
    def limit_still(self) -> float:
        """Median over tokens of the long run's last direction step; NaN if no token has a limit."""
        steps = self.limit_step[self.valid]
        steps = steps[np.isfinite(steps)]
        return float(np.median(steps)) if steps.size else float("nan")

    def counts(self) -> dict[str, int]:
        """Tokens by verdict, in the order of `probes.verdicts.VERDICTS`; absent ones left out."""
        number = {v: int((self.verdict == v).sum()) for v in verdicts.VERDICTS}
        return {v: n for v, n in number.items() if n}

    @property
    def course(self) -> np.ndarray:
        """[batch, pos] the verdict with what the norm does beside it, as "grows, direction settled" for h -> 2h."""
        evidence = verdicts.gather(self.direction, self.norm, self.angle)
        return verdicts.course(self.verdict, evidence, verdicts.Thresholds(**self.thresholds))

    def per_token(self) -> dict[str, np.ndarray]:
        """[iteration, batch, pos] of every metric, and of every verdict whether it applies (1 row, 0 or 1)."""
        values = {name: self.metric(name) for name in METRICS}
        values |= {name: getattr(self, name)[None] for name in ("closure", "limit_step")}
        return values | verdicts.shares(self.verdict, self.valid)

    def judge(self, **thresholds: float) -> FixedPoint:
        """The same distances judged by other thresholds, control included; runs nothing.

        Errors: InputError for an unknown or negative threshold.
        """
        unknown = set(thresholds) - set(self.thresholds)
        if unknown:
            raise InputError(
                f"{', '.join(sorted(unknown))}: thresholds are {', '.join(self.thresholds)}."
            )
        merged = self.thresholds | thresholds
        return dataclasses.replace(
            self,
            thresholds=merged,
            verdict=judged(vars(self), merged),
            control=self.control and self.control.judge(**thresholds),
            shuffled=self.shuffled and self.shuffled.judge(**thresholds),
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per token and iteration: all metrics, verdict, divergence.

        `weights` tells the controls apart: "trained", "random", or "trained, shuffled text".
        """
        import pandas as pd

        columns = {name: self.metric(name) for name in METRICS}
        columns |= {
            name: getattr(self, name)
            for name in ("limit_step", "diverged_at", "overflow_at", "verdict")
        }
        frame = tidy(self.tokens, columns, valid=self.valid)
        frame.insert(0, "weights", "trained")
        beside = {"random": self.control, "trained, shuffled text": self.shuffled}
        frames = [r.to_frame().assign(weights=w) for w, r in beside.items() if r is not None]
        return pd.concat([frame, *frames], ignore_index=True) if frames else frame

    def figure(self, *, theme: str = "light", view: str = "distances", **options: Any) -> go.Figure:
        """`view="distances"` (four distances, limit), `"norm"`, `"tokens"` (`metric=`), `"text"`; `position=` a token."""
        from probes.figures import fixed_point as figures

        return figures.draw(self, view=view, theme=theme, **options)


def judged(arrays: Mapping[str, Any], thresholds: dict[str, float]) -> np.ndarray:
    """[batch, pos] verdicts from the fields of a `FixedPoint` by name."""
    evidence = verdicts.gather(arrays["direction"], arrays["norm"], arrays["angle"])
    return verdicts.judge(
        evidence,
        arrays["closure"],
        arrays["diverged_at"] >= 0,
        arrays["valid"],
        verdicts.Thresholds(**thresholds),
    )
