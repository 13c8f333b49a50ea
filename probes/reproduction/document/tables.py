"""Tables of the document, from stored metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from probes.reproduction.claims import Claim
from probes.reproduction.claims.base import text
from probes.reproduction.claims.dynamics import short
from probes.reproduction.claims.hops import MEASURE as HOPS
from probes.reproduction.claims.hops import asked
from probes.reproduction.claims.stacks import courses
from probes.reproduction.comparisons import At, Estimate, flops_at, nll, nll_at_flops
from probes.reproduction.measures.fixed_points import DISTANCES
from probes.reproduction.store import Metrics, numbers

NONE = "—"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are text, the others numbers. Empty without rows."""
    if not rows:
        return ""
    align = [":--" if i < left else "--:" for i in range(len(head))]
    lines = [head, align, *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def claims_table(rows: Sequence[Claim]) -> str:
    """Claim, rule, measurement, verdict."""
    head = ["claim", "holds if", "measured", "verdict"]
    body = [[c.claim, c.rule, c.measured, f"**{c.verdict}**"] for c in rows]
    return table(head, body, left=4)


def sizes(metrics: Metrics) -> str:
    """Parameters, trained depth, loss at it."""
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "nll")
        if stored is None:
            continue
        at = At(family)
        loss = nll(metrics, at)
        rows.append([
            family, f"{stored['n_params']:,}", str(stored["trained_n_iters"]),
            plain_or_dash(flops_at(metrics, at, "passes"), "{:.0f}"),
            _mega(flops_at(metrics, at)), text(loss, sign=False), plain_or_dash(math.exp(loss.value), "{:.1f}"),
        ])  # fmt: skip
    head = [
        "family",
        "parameters",
        "trained r",
        "passes",
        "MFLOPs/token",
        "NLL at it",
        "perplexity",
    ]
    return table(head, rows)


def by_depth(metrics: Metrics) -> str:
    """NLL against r, the trained depth in bold."""
    depths = _depths(metrics, "nll")
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "nll")
        if stored is None:
            continue
        cells = []
        for r in depths:
            found = nll(metrics, At(family, r))
            cell = plain_or_dash(found.value, "{:.3f}")
            if cell != NONE:
                cell += f"<br>{found.low:.3f} … {found.high:.3f}"
            cells.append(f"**{cell}**" if r == stored["trained_n_iters"] and cell != NONE else cell)
        rows.append([family, *cells])
    return table(["family", *(f"r={r}" for r in depths)], rows)


def compute(metrics: Metrics) -> str:
    """MFLOPs per token against r, passes of the Body in brackets where they are not r."""
    depths = _depths(metrics, "compute")
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "compute")
        if stored is None:
            continue
        cells = []
        for r in depths:
            at = At(family, r)
            passes = flops_at(metrics, at, "passes")
            cell = _mega(flops_at(metrics, at))
            differs = math.isfinite(passes) and passes != r
            cells.append(f"{cell} ({passes:.0f} passes)" if differs else cell)
        rows.append([family, *cells])
    return table(["family", *(f"r={r}" for r in depths)], rows)


def equal_flops(metrics: Metrics) -> str:
    """NLL where every family may spend what another spends at its trained depth."""
    budgets = budgets_of(metrics)
    rows = [
        [family, *(plain_or_dash(nll_at_flops(metrics, family, b), "{:.3f}") for _, b in budgets)]
        for family in metrics.families()
        if metrics.values(family, "nll") is not None
    ]
    return table(["family", *(f"{_mega(b)} MFLOPs ({name})" for name, b in budgets)], rows)


def budgets_of(metrics: Metrics) -> list[tuple[str, float]]:
    """Three budgets: what the cheapest, the middle and the dearest family spend as trained."""
    spent = [(f, flops_at(metrics, At(f))) for f in metrics.families()]
    spent = sorted((s for s in spent if math.isfinite(s[1])), key=lambda s: (s[1], s[0]))
    chosen = [spent[i] for i in (0, len(spent) // 2, len(spent) - 1)] if spent else []
    return list(dict.fromkeys((f"{f} as trained", cost) for f, cost in chosen))


def fixed_points(metrics: Metrics) -> str:
    """Last step over first, trained and random, and verdicts."""
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "fixed_point")
        if stored is None:
            continue
        for weights in ("trained", "random"):
            found = stored[weights]
            if found is None:
                rows.append([family, weights, *[NONE] * len(DISTANCES), "refuses this depth"])
                continue
            ratios = [short(Estimate.of(found["last_over_first"][d])) for d in DISTANCES]
            shares = sorted(found["verdicts"].items(), key=lambda item: -item[1])
            told = ", ".join(f"{name} {share:.0%}" for name, share in shares)
            rows.append([family, weights, *ratios, told])
    head = ["family", "weights", "raw", "relative", "direction", "read-out", "tokens by verdict"]
    return table(head, rows, left=2)


def stability(metrics: Metrics) -> str:
    """Norms before and after the short trainings, and how they went."""
    rows = []
    for family in metrics.families():
        for part, course in zip(
            metrics.parts(family, "stability"), courses(metrics, family), strict=True
        ):
            stored = metrics.values(family, part) or {}
            cells = []
            for when in ("initial", "trained"):
                found = stored[when]
                if found is None:
                    cells += [NONE, NONE]
                    continue
                gradient, state = numbers(found["gradient"]), numbers(found["state"])
                cells += [
                    " ".join(f"{g:.2g}" for g in gradient), f"{state[0]:.1f} → {state[-1]:.1f}"
                ]  # fmt: skip
            rows.append([
                family, str(course.n_iters), *cells, plain_or_dash(course.spike, "{:.1f}"),
                plain_or_dash(course.end, "{:.3f}"), course.unstable or "stable",
            ])  # fmt: skip
    head = [
        "family", "K", "gradient by block, initial", "state norm, first → last loop",
        "gradient by block, trained", "state norm", "spike", "loss at the end", "course",
    ]  # fmt: skip
    return table(head, rows)


def attention(metrics: Metrics) -> str:
    """Span and entropy by loop."""
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "attention")
        if stored is None:
            continue
        change = {name: Estimate.of(v) for name, v in stored["first_minus_last"].items()}
        rows.append([
            family, "-".join(map(str, stored["chunk"])),
            " → ".join(f"{v:.1f}" for v in numbers(stored["span"])),
            " → ".join(f"{v:.3f}" for v in numbers(stored["entropy"])),
            " → ".join(f"{v:.3f}" for v in numbers(stored["local"])),
            text(change["span"], 1), text(change["entropy"]),
        ])  # fmt: skip
    head = [
        "family", "tokens a chunk", "span by loop (tokens)", "entropy by loop", "local mass by loop",
        "span, first − last", "entropy, first − last",
    ]  # fmt: skip
    return table(head, rows, left=2)


def hops(metrics: Metrics) -> str:
    """Accuracy by depth and number of hops, one table a family."""
    parts = []
    for family in asked(metrics):
        stored = metrics.values(family, HOPS)
        if stored is None:
            continue
        exits, stored = stored["expected_exit"], stored["evaluation"]
        cells = [numbers(stored[name]) for name in ("accuracy", "low", "high")]
        rows = []
        for i, r in enumerate(stored["n_iters"]):
            found = [Estimate(*(float(c[i][j]) for c in cells)) for j in range(cells[0].shape[1])]
            rows.append([f"r={r}", *(text(e, 2, sign=False) for e in found)])
        if exits is not None:
            found = [Estimate(*numbers(row)) for row in exits]
            rows.append(["mean iterations by the gate", *(text(e, 2, sign=False) for e in found)])
        parts.append(
            f"{family}\n\n" + table(["", *(f"{h} hops" for h in stored["difficulty"])], rows)
        )
    return "\n\n".join(parts)


def _depths(metrics: Metrics, measure: str) -> list[int]:
    stored = [metrics.values(family, measure) for family in metrics.families()]
    return sorted({r for values in stored if values for r in values["n_iters"]})


def plain_or_dash(value: float, form: str) -> str:
    """A number in its form; a dash where it is undefined."""
    return form.format(value) if np.isfinite(value) else NONE


def _mega(flops: float) -> str:
    return plain_or_dash(flops / 1e6, "{:.2f}")
