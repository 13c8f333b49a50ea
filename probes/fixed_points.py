"""Does the state approach a fixed point? Four distances, the norm, and a random model beside (ANALYSES 6–9, 11, 18).

No single distance answers. With pre-norm blocks AbbIE-D computes 2h + F(h): its norm doubles, the raw step
diverges, the relative step tends to 1, and the direction settles even for random weights. So all are
shown together, and beside them the same for freshly initialised weights.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from abbie_lens.errors import InputError, nearest
from probes import numerics, verdicts
from probes.distances import METRICS, Metric, measure
from probes.inputs import Inputs, prepare
from probes.limits import find_limit
from probes.result import Result
from probes.tidy import tidy
from probes.twins import fresh_weights

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Denominator = Literal["previous", "next"]


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

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    denominator: str
    """What `relative` divides by: "previous" ‖h_k‖ or "next" ‖h_{k+1}‖."""
    raw: np.ndarray
    """[r, batch, pos] ‖h_{k+1} − h_k‖."""
    relative: np.ndarray
    """[r, batch, pos] raw step over `denominator`."""
    direction: np.ndarray
    """[r, batch, pos] ‖u(h_{k+1}) − u(h_k)‖, 0…2."""
    readout: np.ndarray
    """[r, batch, pos] ‖N(z_{k+1}) − N(z_k)‖ / √d."""
    angle: np.ndarray
    """[r, batch, pos] cosine between step k and the one before; the first is NaN."""
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
        """Title and formula of a metric, with the denominator that was used."""
        self.metric(name)
        metric = METRICS[name]
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
            verdict=_judge(vars(self), merged),
            control=self.control and self.control.judge(**thresholds),
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per token and iteration: all metrics, verdict, divergence; `weights` tells the control apart."""
        import pandas as pd

        columns = {name: self.metric(name) for name in METRICS}
        columns |= {
            name: getattr(self, name)
            for name in ("limit_step", "diverged_at", "overflow_at", "verdict")
        }
        frame = tidy(self.tokens, columns, valid=self.valid)
        frame.insert(0, "weights", "trained")
        if self.control is None:
            return frame
        control = self.control.to_frame().assign(weights="random")
        return pd.concat([frame, control], ignore_index=True)

    def figure(self, *, theme: str = "light", view: str = "distances", **options: Any) -> go.Figure:
        """`view="distances"` (four distances and the limit), `"norm"`, or `"tokens"` (`metric=`, `batch=`)."""
        from probes.figures import fixed_point as figures

        return figures.draw(self, view=view, theme=theme, **options)


def fixed_point(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    denominator: Denominator = "previous",
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    limit_times: int = 4,
    **thresholds: float,
) -> FixedPoint:
    """Distances of h and z over r iterations, for `model` and for random weights (`control`, `seed`).

    The limit is the end of a run `limit_times` (at least 4) times longer, never one of the shown
    states. `thresholds`: resolution, decay, growth, closure of the verdicts (`probes.verdicts`); the
    resolution is the unit roundoff of the model's dtype unless given.
    Errors: InputError for bad input. Divergence is reported (`diverged_at`), never raised.
    Source: ARCHITECTURES 1.3; distances after arXiv 2507.08567, 2604.11791.
    """
    if denominator not in ("previous", "next"):
        raise InputError(f"denominator={denominator!r}: expected 'previous' or 'next'.")
    if not isinstance(limit_times, int) or limit_times < 4:
        raise InputError(f"limit_times={limit_times!r}: expected an integer >= 4.")
    unknown = set(thresholds) - {f.name for f in dataclasses.fields(verdicts.Thresholds)}
    if unknown:
        raise InputError(f"{', '.join(sorted(unknown))}: not an argument and not a threshold.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    chosen = {"resolution": numerics.resolution(model.dtype), **thresholds}
    settings = vars(verdicts.Thresholds(**chosen))
    beside = None
    if control:
        beside = _run(fresh_weights(model, seed), inputs, denominator, limit_times, settings, None)
    return _run(model, inputs, denominator, limit_times, settings, beside)


def _run(
    model: Any,
    inputs: Inputs,
    denominator: str,
    limit_times: int,
    thresholds: dict[str, float],
    control: FixedPoint | None,
) -> FixedPoint:
    limit = find_limit(model, inputs, limit_times)
    measured: dict[str, Any] = measure(model, inputs, limit, denominator)
    return FixedPoint(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        denominator=denominator,
        limit_iters=limit.iters,
        limit_dtype=limit.dtype,
        limit_step=limit.step,
        limit_reason=limit.reason,
        thresholds=thresholds,
        verdict=_judge({**measured, "valid": inputs.valid}, thresholds),
        control=control,
        **measured,
    )


def _judge(arrays: dict[str, Any], thresholds: dict[str, float]) -> np.ndarray:
    evidence = verdicts.gather(arrays["direction"], arrays["norm"], arrays["angle"])
    return verdicts.judge(
        evidence,
        arrays["closure"],
        arrays["diverged_at"] >= 0,
        arrays["valid"],
        verdicts.Thresholds(**thresholds),
    )
