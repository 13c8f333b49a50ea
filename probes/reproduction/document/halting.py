"""Tables of learned halting: masks imposed on a model, and exits by its gate."""

from __future__ import annotations

from probes.reproduction.claims.base import text
from probes.reproduction.comparisons import Estimate
from probes.reproduction.document.tables import plain_or_dash, table
from probes.reproduction.store import Metrics, number, numbers


def pruning(metrics: Metrics) -> str:
    """Rules of halting at equal mean updates."""
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "pondering")
        for rule in stored["rules"] if stored else ():
            threshold = number(rule["threshold"])
            rows.append([
                family, rule["rule"], rule["compared_with"], plain_or_dash(threshold, "{:.2g}"),
                f"{rule['mean_updates']:.3f}", f"{rule['nll']:.4f}",
                text(Estimate.of(rule["over_none"]), 4), text(Estimate.of(rule["over_compared"]), 4),
            ])  # fmt: skip
    head = [
        "family", "rule", "updates as", "threshold", "mean updates", "NLL",
        "over no halting", "learned rule minus this",
    ]  # fmt: skip
    return table(head, rows, left=3)


def gates(metrics: Metrics) -> str:
    """Where learned gates let tokens stop, and what it costs."""
    rows = []
    for family in metrics.families():
        stored = metrics.values(family, "gates")
        if stored is None:
            continue
        for i, at in enumerate(stored["at"]):
            about = ["", "", "", ""]
            if i == 0:
                share = " ".join(f"{p:.2f}" for p in numbers(stored["share"]))
                expected, rank = (Estimate.of(stored[name]) for name in ("expected", "spearman"))
                about = [family, share, text(expected, 2, sign=False), text(rank)]
            rows.append([
                *about, f"{at['threshold']:g}", f"{at['mean_steps']:.2f}", f"{at['nll']:.4f}",
                text(Estimate.of(at["over_full"]), 4), text(Estimate.of(at["over_fixed"]), 4),
                plain_or_dash(number(at["over_random"]), "{:+.4f}"),
            ])  # fmt: skip
    head = [
        "family", "exit probability at k = 0 … r", "expected exit", "its rank correlation with NLL",
        "threshold", "mean exit", "NLL", "over depth r", "over one depth for all", "over random exits",
    ]  # fmt: skip
    return table(head, rows, left=2)
