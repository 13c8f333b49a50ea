"""A study's numbers as plain JSON, and the page docs/halting-study.md made of such numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.early_exit.study_result import TOLERANCES, HaltingStudy

GATES = ("learned_gate",)
OTHERS = ("direction_distance", "kl")
SHOWN = (
    "depth",
    "nll",
    "agreement",
    "against_random",
    "against_fixed",
    "spearman_nll",
    "oracle_error",
)


def numbers(result: HaltingStudy) -> dict[str, Any]:
    """What the page tells of a study, in plain JSON types; NaN as null."""
    rules = {}
    for i, rule in enumerate(result.rules):
        middle = result.point_at(rule["name"], (1 + result.n_iters) / 2)
        points = {"default": 0, "middle": middle}
        rules[rule["name"]] = {
            "title": rule["title"],
            "saving": _plain(result.saving[i]),
            "points": {
                which: {
                    "threshold": _plain(result.thresholds[i, j]),
                    "verdict": result.verdict(rule["name"], j),
                    "ece": _plain(result.ece[i, j]),
                    "auroc": _plain(result.auroc[i, j]),
                    **{name: _plain(result.metrics[name][i, j]) for name in SHOWN},
                }
                for which, j in points.items()
            },
        }
    return {
        "model": result.model.name,
        "n_iters": result.n_iters,
        "n_tokens": result.n_tokens,
        "n_documents": result.n_documents,
        "never_right": result.never_right,
        "nll_full": _plain(result.fixed_nll[-1]),
        "fixed_nll": _plain(result.fixed_nll),
        "fixed_saving": _plain(result.fixed_saving),
        "rules": rules,
    }


def page(studies: Sequence[dict[str, Any]]) -> str:
    """The page in Markdown."""
    lines = [
        "# Do learned gates save compute, and where do they spend it?",
        "",
        "Two claims of the literature, asked of the bundled models with a learned gate: a gate saves about a tenth of the compute at "
        "equal perplexity, and it spends more steps on tokens that are hard to predict. Numbers are those of the models here, "
        "small ones, on text they were not trained on; brackets are 95% intervals, documents drawn with replacement. Written by "
        "`python -m benchmarks.halting_study`; any model and text: `abbie-lens halting MODEL --data … --out …`.",
        "",
        "Saved is the share of full depth's FLOPs, the rule's own read-outs counted, at an NLL at most that of full depth (or "
        f"{TOLERANCES[1]:g} nats above it). *One depth for all* is the control: what is saved by being shallower everywhere. "
        "*Random* deals the same exit steps to the tokens at random; a difference below zero says that the rule chooses the "
        "right ones.",
        "",
    ]
    for study in studies:
        lines += [*_study(study), ""]
    return "\n".join(lines).rstrip() + "\n"


def _study(study: dict[str, Any]) -> list[str]:
    rules = study["rules"]
    shown = [name for name in (*GATES, *OTHERS, "oracle") if name in rules]
    lines = [
        f"## {study['model']}",
        "",
        f"r = {study['n_iters']}; {study['n_tokens']:,} tokens of {study['n_documents']:,} documents: {study['text']}. "
        f"NLL at full depth {_interval(study['nll_full'], 3)}.",
        "",
        "| rule | saved at equal NLL | saved at 0.01 nats more | mean steps | NLL at exit | minus random | ρ(steps, NLL) |",
        "|---|---|---|---|---|---|---|",
        f"| one depth for all | {_saved(study['fixed_saving'][0])} | {_saved(study['fixed_saving'][1])} | | | | |",
    ]
    for name in shown:
        rule = rules[name]
        for which in ("default", "middle") if name in GATES else ("middle",):
            point = rule["points"][which]
            label = f"{rule['title']}, " + (
                "its own threshold" if which == "default" else "mid depth"
            )
            saved = (
                [_saved(x) for x in rule["saving"]]
                if which == "default" or name not in GATES
                else ["", ""]
            )
            lines.append(
                f"| {label} | {saved[0]} | {saved[1]} | {_interval(point['depth'], 2)} | {_interval(point['nll'], 3)} "
                f"| {_interval(point['against_random'], 4, sign=True)} | {_interval(point['spearman_nll'], 3, sign=True)} |"
            )
    lines.append("")
    for name in (n for n in shown if n in GATES):
        lines += _answers(study, rules[name])
    return lines


def _answers(study: dict[str, Any], rule: dict[str, Any]) -> list[str]:
    """Both claims, decided by the numbers."""
    saved, low, high = rule["saving"][0]
    control = study["fixed_saving"][0][0]
    if saved is None or low is None:
        first = "Saving at equal perplexity: undefined here."
    else:
        holds = (
            "about a tenth"
            if low <= 0.1 <= high
            else "more than a tenth"
            if low > 0.1
            else "less than a tenth"
        )
        beside = (
            f"one depth for all saves {control:.1%}, at least as much"
            if control is not None and control >= saved
            else "more than one depth for all does"
        )
        first = (
            f"Saved at equal perplexity: {saved:.1%} [{low:.1%}, {high:.1%}], {holds}; {beside}."
        )
    point = rule["points"]["default"]
    which = "its own threshold"
    if point["spearman_nll"][0] is None:
        point, which = (
            rule["points"]["middle"],
            "mid depth (at its own threshold all tokens stop alike)",
        )
    rho, low, high = point["spearman_nll"]
    if rho is None or low is None:
        second = "Steps and NLL: undefined, all tokens stop alike."
    else:
        says = (
            "more steps on tokens that are hard to predict"
            if low > 0
            else "fewer steps on tokens that are hard to predict"
            if high < 0
            else "no more steps on hard tokens than on others"
        )
        second = f"Steps and full depth's NLL at {which}: {says}, ρ = {rho:+.3f} [{low:+.3f}, {high:+.3f}]."
    return [f"* {first}", f"* {second}", f"* {point['verdict']}"]


def _plain(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return [_plain(y) for y in x]
    return float(x) if np.isfinite(x) else None


def _interval(x: Sequence[float | None], digits: int, sign: bool = False) -> str:
    value, low, high = x
    if value is None:
        return "undefined"
    form = f"{'+' if sign else ''}.{digits}f"
    bounds = "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"
    return f"{value:{form}}{bounds}"


def _saved(x: Sequence[float | None]) -> str:
    value, low, high = x
    if value is None:
        return "undefined"
    bounds = "" if low is None or high is None else f" [{low:.1%}, {high:.1%}]"
    return f"{value:.1%}{bounds}"
