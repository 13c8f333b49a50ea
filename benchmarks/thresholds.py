"""`python -m benchmarks.thresholds`: where bundled models and random weights lie beside the thresholds of verdicts and sentences.

Writes docs/thresholds.json, the numbers, and docs/thresholds.md, which is made of them alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import abbie_lens
import probes
from probes import verdicts
from probes.control import fresh_weights
from probes.readings import attention, base, fixed_point, loop

HERE = Path(__file__).resolve().parents[1] / "docs"
FILE = HERE / "thresholds.json"
MODELS = ("abbie-d-novels", "abbie-c-novels", "0pt-novels-5m", "flt-novels-5m")
TEXT = "She opened the letter slowly, and when she had read it to the end she looked up at him and said"
N_ITERS, DRAWS = 16, 20
THRESHOLDS = verdicts.Thresholds(resolution=0.0)

Runs = Mapping[str, Any]
"""One model's results by analysis."""


@dataclass(frozen=True)
class Measure:
    """A number that a sentence is chosen by."""

    title: str
    lines: tuple[float, ...]
    """Where one sentence ends and the next begins."""
    take: Callable[[Runs], float]
    why: str
    """How the line was chosen."""


MEASURES = {
    "decay": Measure(
        "p in direction step ∝ k^−p", (THRESHOLDS.decay,),
        lambda runs: base.median(_evidence(runs["fixed_point"]).decay[runs["fixed_point"].valid]),
        "A state pushed by a constant turns like k^−2 at most (AbbIE-C), a contraction beats every power (AbbIE-D with any "
        "weights): the line lies between the two.",
    ),
    "settled": Measure(
        "share of tokens that settle", (),
        lambda runs: _settled(runs["fixed_point"]),
        f"Shares that differ by less than {fixed_point.ALIKE:g} are called the same for trained and random weights. Draws "
        "differ among themselves, so the sentence speaks of one draw and not of training.",
    ),
    "norm": Measure(
        "factor of the norm an iteration", (1 - base.STEADY, 1 + base.STEADY),
        lambda runs: base.factor(runs["fixed_point"].quantiles("norm")[1]),
        "Between the lines a length hardly changes: a normed state is at 1, one that doubles at 2, one that grows by equal "
        "portions in between, the nearer to 1 the deeper the run.",
    ),
    "readout": Measure(
        "last read-out step", (base.STILL,),
        lambda runs: float(runs["fixed_point"].quantiles("readout")[1, -1]),
        "Below the line the last iteration moved what the Tail reads by less than that share of its size: AbbIE-D is below "
        "it, AbbIE-C, which never comes to rest, above.",
    ),
    "overlap": Measure(
        "overlap of the last two patterns", (attention.STILL,),
        lambda runs: base.median(runs["attention"].overlap[-1]),
        "Above the line patterns count as having stopped changing. AbbIE-C, whose state never comes to rest, has to lie "
        "below it, AbbIE-D above.",
    ),
    "entropy": Measure(
        "entropy / log(t+1)", (attention.FOCUSED, attention.SPREAD),
        lambda runs: base.median(runs["attention"].entropy[-1]),
        "Random weights look at all keys nearly alike; above the upper line attention is called spread, below the lower focused.",
    ),
    "last_cka": Measure(
        "CKA of the last two states", (loop.SAME_PLACES,),
        lambda runs: float(runs["similarity"].cka[-2, -1]),
        "Above the line one iteration hardly moves the tokens' places among each other. It tells no model that comes to "
        "rest from one that moves on slowly, so the sentence speaks of one iteration.",
    ),
    "whole_cka": Measure(
        "CKA of first and last state", (loop.KEPT_PLACES,),
        lambda runs: float(runs["similarity"].cka[0, -1]),
        "Above the line the loop left the tokens' places nearly as the Head made them.",
    ),
}  # fmt: skip


def measure(draws: int = DRAWS) -> dict[str, Any]:
    """Every number of every model, trained and with that many draws of random weights."""
    found: dict[str, Any] = {name: {} for name in MEASURES}
    for name in MODELS:
        model = abbie_lens.load(name, device="cpu")
        trained = _numbers(model)
        random = [_numbers(fresh_weights(model, seed)) for seed in range(draws)]
        print(name, flush=True)
        for key in MEASURES:
            found[key][name] = {"trained": trained[key], "random": [r[key] for r in random]}
    return {"text": TEXT, "n_iters": N_ITERS, "draws": draws, "measures": found}


def document(stored: Mapping[str, Any]) -> str:
    """The Markdown of the stored numbers."""
    parts = [
        "# Where the thresholds of verdicts and sentences lie",
        "Written by `python -m benchmarks.thresholds`. Every model reads one text of the novels for "
        f"r = {stored['n_iters']}; beside the trained weights stand {stored['draws']} draws of random ones, least to largest.",
    ]
    for key, about in MEASURES.items():
        lines = " and ".join(f"{line:g}" for line in about.lines)
        parts.append(f"## {about.title}" + (f": {lines}" if lines else ""))
        parts.append(about.why)
        rows = [
            "| model | trained | random weights | on the trained one's side |",
            "|---|---|---|---|",
        ]
        for name, values in stored["measures"][key].items():
            random = np.array(values["random"], dtype=float)
            shown = (
                f"{_said(np.nanmin(random))} to {_said(np.nanmax(random))}"
                if np.isfinite(random).any()
                else "undefined"
            )
            same = sum(_side(about, x) == _side(about, values["trained"]) for x in random)
            beside = f"{same} of {len(random)}" if about.lines else "–"
            rows.append(f"| {name} | {_said(values['trained'])} | {shown} | {beside} |")
        parts.append("\n".join(rows))
        if not about.lines:
            apart = max(np.ptp(values["random"]) for values in stored["measures"][key].values())
            parts.append(f"Two draws of one model differ by up to {apart:.2g}.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure and write both files; with --document-only the second alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__)
    parser.add_argument("--document-only", action="store_true", help="from the stored numbers")
    if not parser.parse_args().document_only:
        FILE.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    FILE.with_suffix(".md").write_text(document(json.loads(FILE.read_text("utf-8"))), "utf-8")


def _numbers(model: Any) -> dict[str, float]:
    runs = {
        "fixed_point": probes.fixed_point(model, TEXT, N_ITERS, control=False, limit_times=0),
        "attention": probes.attention(model, TEXT, N_ITERS, control=False),
        "similarity": probes.similarity(model, TEXT, N_ITERS, control=False),
    }
    return {name: float(about.take(runs)) for name, about in MEASURES.items()}


def _evidence(result: probes.FixedPoint) -> verdicts.Evidence:
    return verdicts.gather(result.direction, result.norm, result.angle)


def _settled(result: probes.FixedPoint) -> float:
    counts = result.counts()
    return sum(counts.get(kind, 0) for kind in fixed_point.CALM) / sum(counts.values())


def _side(about: Measure, value: float) -> int:
    """How many of the lines the value is above."""
    return sum(value > line for line in about.lines)


def _said(value: float) -> str:
    return "undefined" if value is None or np.isnan(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
