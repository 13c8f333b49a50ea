"""The numbers of a run on one screen: for the Overview page and for `abbie-lens diagnose`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from probes import FixedPoint, Halting, Lens, Result
from probes.figures import labels

DISTANCES = ("raw", "relative", "direction", "readout")


def of(results: Mapping[str, Result]) -> dict[str, Any]:
    """Plain JSON of what `app.exporting.results` returned; undefined numbers are None."""
    lens = cast(Lens, results["lens"])
    return _plain(
        {
            "model": lens.model.to_dict(),
            "n_iters": lens.n_iters,
            "n_tokens": len(lens.tokens[0]),
            "prediction": prediction(lens),
            "nll": dict(enumerate(nll(lens))),
            "fixed_point": fixed_point(cast(FixedPoint, results["fixed_point"])),
            "halting": halting(cast(Halting, results["halting"])),
        }
    )


def prediction(lens: Lens) -> list[dict[str, Any]]:
    """Most probable next tokens after the last token of the first sequence, at depth r."""
    last = np.flatnonzero(lens.valid[0])[-1]
    pairs = zip(lens.top_ids[-1, 0, last], lens.top_probabilities[-1, 0, last], strict=True)
    return [
        {"id": int(i), "token": lens.token(i), "probability": float(p)} for i, p in pairs if i >= 0
    ]


def nll(lens: Lens) -> list[float]:
    """Mean NLL in nats of the prompt's own next tokens after k = 0…r; NaN where undefined."""
    # The last token of a sequence has no next one; a diverged NLL counts, and makes the mean NaN.
    following = lens.valid[:, :-1] & lens.valid[:, 1:]
    scored = lens.nll[:, :, :-1]
    return [float(row[following].mean()) if following.any() else math.nan for row in scored]


def fixed_point(fixed: FixedPoint) -> dict[str, Any]:
    """Tokens by verdict, and the median of each distance at the last iteration, beside the control's."""
    runs = {"trained": fixed} | ({"random": fixed.control} if fixed.control else {})
    return {
        "verdicts": {name: run.counts() for name, run in runs.items()},
        "last_step": {
            metric: {name: float(run.quantiles(metric)[1, -1]) for name, run in runs.items()}
            for metric in DISTANCES
        },
    }


def halting(run: Halting) -> dict[str, Any]:
    """Depth and quality of every rule at its own threshold."""
    outcomes = {name: run.at(name) for name in run.names}
    return {name: {"threshold": o.threshold, **o.summary()} for name, o in outcomes.items()}


def text(summary: Mapping[str, Any]) -> str:
    """The summary as lines for a terminal."""
    model, fixed = summary["model"], summary["fixed_point"]
    tops = ", ".join(
        f"{labels.visible(t['token'])} {t['probability']:.3f}" for t in summary["prediction"]
    )
    lines = [
        f"{model['name']} ({model['family']}), r = {summary['n_iters']}, {summary['n_tokens']} tokens",
        f"next token      {tops or 'undefined: the state diverged'}",
        f"NLL by k        {_by_depth(summary['nll'])}",
        *(f"verdicts        {_counts(v)} ({name})" for name, v in fixed["verdicts"].items()),
        *(
            f"last {metric:<10} " + ", ".join(f"{_number(v)} ({name})" for name, v in pair.items())
            for metric, pair in fixed["last_step"].items()
        ),
        f"bundle          {summary['bundle']}",
    ]
    return "\n".join(lines)


def _by_depth(values: Mapping[Any, float | None]) -> str:
    shown = [k for k in values if k in (0, 1, 2, 4, 8, 16, 32) or k == max(values)]
    return ", ".join(f"k={k} {_number(values[k])}" for k in shown)


def _counts(verdicts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items()) or "none"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"


def _plain(value: Any) -> Any:
    """`value` for strict JSON: NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
