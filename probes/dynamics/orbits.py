"""What path each token's state takes in the end: settles, orbits, slides, wanders, diverges (ANALYSES 12, 18).

Recurrent-depth work (arXiv 2502.05171) sorts tokens by eye, on principal components, into fixed points, orbits and
sliders. Here the same is told from the states themselves, in all dimensions: its fixed points are our "settles", its
orbits "orbits", its sliders "slides"; what our verdicts call "drifts" is "slides" if the path is straight and "wanders" if not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes import numerics, verdicts
from probes.control import fresh_weights
from probes.distances import Closure
from probes.dynamics.path_shape import shapes
from probes.fixed_point_result import judged
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.running import states
from probes.tidy import tidy, with_control
from probes.trust import Trust

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SLIDES, WANDERS = "slides", "wanders"
KINDS = (
    *(verdicts.SETTLES, verdicts.BELOW, verdicts.ORBITS, SLIDES, WANDERS),
    *(verdicts.DIVERGES, verdicts.SHORT),
)
"""In the order in which they are shown; padding has the empty string."""
MEASURES = ("turn", "straightness", "closure", "recurrence")


@dataclass(frozen=True, eq=False, kw_only=True)
class Orbits(Result):
    """The shape of every token's path over the last half of the iterations; undefined values are NaN.

    x_k = u(h_k), or h_k if `unit` is false. What touches a state that is not finite, or too large for
    the model's own norms, is left out.
    """

    title: ClassVar[str] = "Orbits, sliders, fixed points"
    formula: ClassVar[str] = (
        "turn: mean cos(dₖ₊₁, dₖ); straightness: ‖x_r − x_m‖ / Σ‖xₖ₊₁ − xₖ‖; closure: least ‖xₖ − x_m‖ over "
        "the farthest before; recurrence: least mean ‖xₖ₊ₚ − xₖ‖ / mean ‖xⱼ − xₖ‖ of those p at which it falls; "
        "k from m = r/2"
    )

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "measures"})

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    unit: bool
    """Whether the paths are of directions."""
    direction: np.ndarray
    """[r, batch, pos] ‖u(h_{k+1}) − u(h_k)‖."""
    angle: np.ndarray
    """[r, batch, pos] cosine between step k and the one before; the first is NaN."""
    norm: np.ndarray
    """[r+1, batch, pos] ‖h_k‖."""
    turn: np.ndarray
    """[batch, pos] mean cosine between successive steps: 1 straight on, −1 back and forth."""
    straightness: np.ndarray
    """[batch, pos] way as the crow flies over way gone: 1 straight, 0 closed."""
    closure: np.ndarray
    """[batch, pos] how near the direction comes back to where it was, over how far it had gone."""
    recurrence: np.ndarray
    """[batch, pos] mean distance after `period` iterations over that between any two: 0 repeats exactly."""
    period: np.ndarray
    """[batch, pos] iterations after which the path is nearest to itself again; NaN if it only goes away."""
    thresholds: dict[str, float]
    """Those of the verdicts (`probes.verdicts.Thresholds`), and `straight`, from which a drift slides."""
    kind: np.ndarray
    """[batch, pos] one of KINDS; empty for padding."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is NaN or infinite; −1 if none."""
    overflow_at: np.ndarray
    """[batch, pos] first iteration whose state is too large to square; −1 if none."""
    control: Orbits | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    def counts(self) -> dict[str, int]:
        """Tokens by kind, in the order of KINDS; absent ones left out."""
        number = {kind: int((self.kind == kind).sum()) for kind in KINDS}
        return {kind: n for kind, n in number.items() if n}

    def judge(self, **thresholds: float) -> Orbits:
        """The same paths judged by other thresholds, control included; runs nothing. Errors: InputError."""
        merged = _thresholds(self.thresholds | thresholds)
        return dataclasses.replace(
            self,
            thresholds=merged,
            kind=_kind(vars(self), merged),
            control=self.control and self.control.judge(**thresholds),
        )

    def per_token(self) -> dict[str, np.ndarray]:
        """[1, batch, pos] of every measure and the period, and of every kind whether it applies (0 or 1)."""
        values = {name: getattr(self, name)[None] for name in (*MEASURES, "period")}
        kinds = {f"kind {k}": np.where(self.valid, self.kind == k, np.nan)[None] for k in KINDS}
        return values | kinds

    def to_frame(self) -> pd.DataFrame:
        """One row per token; `weights` tells the control apart."""

        names = (*MEASURES, "period", "kind", "diverged_at", "overflow_at")
        columns = {name: getattr(self, name)[None] for name in names}
        frame = tidy(self.tokens, columns, valid=self.valid).drop(columns="iteration")
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light", view: str = "text", **options: Any) -> go.Figure:
        """`view="text"`: the text, each token in the colour of its kind; `"measures"`: the numbers behind."""
        from probes.figures import orbits as figures

        return figures.draw(self, view=view, theme=theme, **options)


def orbits(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    unit: bool = True,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
    **thresholds: float,
) -> Orbits:
    """The path of every token's state, classified; `unit` takes directions, `seed` draws the control.

    `thresholds`: resolution, decay, growth, closure (`probes.verdicts`) and straight (0.9). `progress`
    counts iterations.
    Errors: InputError for bad input. Divergence is reported (`diverged_at`), never raised.
    """
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    chosen = {"resolution": numerics.resolution(model.dtype), "straight": 0.9, **thresholds}
    settings = _thresholds(chosen)
    steps = Progress((1 + control) * (n_iters + 1), progress)
    beside = None
    if control:
        beside = _run(fresh_weights(model, seed), inputs, unit, settings, None, steps)
    return _run(model, inputs, unit, settings, beside, steps)


def _run(
    model: Any,
    inputs: Inputs,
    unit: bool,
    thresholds: dict[str, float],
    control: Orbits | None,
    progress: Progress,
) -> Orbits:
    trust, shape = Trust(model, inputs), inputs.valid.shape
    closing = Closure(start=inputs.n_iters // 2)
    points, norms, units, steps = [], [], [], []
    before = None
    for state in states(model, inputs):
        h = numerics.host(state.h)
        norm = numerics.norm(h)
        h = np.where(trust.see(state.k, norm)[..., None], h, np.nan)
        units.append(numerics.unit(h))
        points.append(units[-1] if unit else h)
        norms.append(np.where(np.isfinite(h).all(-1), norm, np.nan))
        closing.add(state.k, torch.from_numpy(units[-1]))
        if before is not None:
            steps.append(h - before)
        before = h
        progress.step()
    angle = np.full((inputs.n_iters, *shape), np.nan)
    for k in range(1, len(steps)):
        angle[k] = numerics.cosine(steps[k], steps[k - 1])
    u, norm = np.stack(units), np.stack(norms)
    measured: dict[str, Any] = {
        "valid": inputs.valid,
        "direction": numerics.norm(np.diff(u, axis=0)),
        "angle": angle,
        "norm": norm,
        "closure": closing.value.numpy(),
        "diverged_at": trust.diverged_at,
        "overflow_at": trust.overflow_at,
        **shapes(np.stack(points)),
    }
    evidence = verdicts.gather(measured["direction"], norm, angle)
    return Orbits(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        unit=bool(unit),
        turn=evidence.turn,
        thresholds=thresholds,
        kind=_kind(measured, thresholds),
        control=control,
        **measured,
    )


def _kind(fields: Any, thresholds: dict[str, float]) -> np.ndarray:
    plain = {name: value for name, value in thresholds.items() if name != "straight"}
    kind = judged(fields, plain).astype(object)
    drifts = kind == verdicts.DRIFTS
    straight = fields["straightness"] >= thresholds["straight"]
    kind[drifts & straight], kind[drifts & ~straight] = SLIDES, WANDERS
    return kind.astype(str)


def _thresholds(chosen: dict[str, float]) -> dict[str, float]:
    """Checked, with the defaults filled in. Errors: InputError for an unknown or negative one."""
    known = [*(f.name for f in dataclasses.fields(verdicts.Thresholds)), "straight"]
    unknown = set(chosen) - set(known)
    if unknown:
        raise InputError(f"{', '.join(sorted(unknown))}: thresholds are {', '.join(known)}.")
    straight = chosen["straight"]
    if not 0 <= straight <= 1:
        raise InputError(f"straight={straight!r}: expected a share, 0 to 1.")
    plain = {name: value for name, value in chosen.items() if name != "straight"}
    return {**vars(verdicts.Thresholds(**plain)), "straight": float(straight)}
