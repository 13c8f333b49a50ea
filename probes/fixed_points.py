"""Does the state approach a fixed point? Four distances, the norm, and controls beside (ANALYSES 6–11, 18)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from abbie_lens.errors import InputError
from probes import numerics, verdicts
from probes.control import fresh_weights, shuffled
from probes.distances import METRICS, NORMALISERS, measure
from probes.fixed_point_result import FixedPoint, judged
from probes.inputs import Inputs, prepare
from probes.limits import find_limit, nothing
from probes.progress import Callback, Progress

__all__ = ["METRICS", "Denominator", "FixedPoint", "Normaliser", "fixed_point"]

Denominator = Literal["previous", "next"]
Normaliser = Literal["state", "steps", "none"]
NOT_ASKED = "not asked for"


def fixed_point(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    denominator: Denominator = "previous",
    normaliser: Normaliser = "state",
    control: bool = True,
    shuffled_text: bool = False,
    attention_mask: Any = None,
    seed: int = 0,
    limit_times: int = 4,
    progress: Callback | None = None,
    **thresholds: float,
) -> FixedPoint:
    """Distances of h and z over r iterations, for `model` and for random weights (`control`, `seed`).

    `shuffled_text` runs `model` a second time, on the same tokens in an order drawn with `seed`.
    `denominator` is of the relative step, `normaliser` of the second-order distance (‖h_k‖, the sum of
    both steps' norms, or none).
    The limit is the end of a run `limit_times` (at least 4) times longer, never one of the shown
    states; 0 asks for none. `thresholds`: resolution, decay, growth, closure of the verdicts (`probes.verdicts`); the
    resolution is the unit roundoff of the model's dtype unless given. `progress` counts runs, two for each
    of `model` and the controls.
    Errors: InputError for bad input. Divergence is reported (`diverged_at`), never raised.
    Source: ARCHITECTURES 1.3; distances after arXiv 2507.08567, 2604.11791.
    """
    if denominator not in ("previous", "next"):
        raise InputError(f"denominator={denominator!r}: expected 'previous' or 'next'.")
    if normaliser not in NORMALISERS:
        raise InputError(f"normaliser={normaliser!r}: expected one of {', '.join(NORMALISERS)}.")
    if not isinstance(limit_times, int) or not (limit_times >= 4 or limit_times == 0):
        raise InputError(
            f"limit_times={limit_times!r}: expected an integer >= 4, or 0 for no limit."
        )
    unknown = set(thresholds) - {f.name for f in dataclasses.fields(verdicts.Thresholds)}
    if unknown:
        raise InputError(f"{', '.join(sorted(unknown))}: not an argument and not a threshold.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    chosen = {"resolution": numerics.resolution(model.dtype), **thresholds}
    settings = vars(verdicts.Thresholds(**chosen))
    steps = Progress(2 * (1 + control + shuffled_text), progress)

    def run(model: Any, inputs: Inputs, **beside: FixedPoint | None) -> FixedPoint:
        limit = (
            find_limit(model, inputs, limit_times) if limit_times else nothing(inputs, NOT_ASKED)
        )
        steps.step()
        measured: dict[str, Any] = measure(model, inputs, limit, denominator, normaliser)
        steps.step()
        return FixedPoint(
            model=model.info(),
            tokens=inputs.str_tokens,
            n_iters=inputs.n_iters,
            valid=inputs.valid,
            denominator=denominator,
            normaliser=normaliser,
            limit_iters=limit.iters,
            limit_dtype=limit.dtype,
            limit_step=limit.step,
            limit_reason=limit.reason,
            thresholds=settings,
            verdict=judged({**measured, "valid": inputs.valid}, settings),
            **{"control": None, "shuffled": None, **beside},
            **measured,
        )

    fresh = run(fresh_weights(model, seed), inputs) if control else None
    mixed = run(model, shuffled(model, inputs, seed)) if shuffled_text else None
    return run(model, inputs, control=fresh, shuffled=mixed)
