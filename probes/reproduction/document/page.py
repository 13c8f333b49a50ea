"""The text around the tables."""

from __future__ import annotations

from probes.reproduction import claims
from probes.reproduction.claims import Claim
from probes.reproduction.document import halting, tables
from probes.reproduction.store import CONFIG, Metrics

HELDOUT = (
    "NLL in nats per held-out token after r iterations; below it the 95 % interval (documents, then blocks of "
    "neighbouring windows, drawn with replacement). Bold: the depth trained with. —: the loop refuses the depth.\n"
)
COMPUTE = (
    "Forward MFLOPs per token of one full window, unembedding included: matrix products, two FLOPs a multiply-add. "
    "n_iters of the pondering families counts updates, so they run the Body once more. Loops whose tokens halt are "
    "counted as they run, halted tokens included.\n"
)
EQUAL_FLOPS = (
    "NLL at equal FLOPs: at what the cheapest, the middle and the dearest family spend as trained. Between measured "
    "depths NLL is interpolated linearly in log FLOPs; outside them there is no number.\n"
)
HALTING = (
    "Masks imposed on the trained model. `none`: nobody halts. `random`: tokens drawn at random halt, in the same "
    "numbers at every update. `fixed`: all tokens take the same number of updates, NLL interpolated linearly in mean "
    "updates. `gate …`: the gates' own values, cut where that share of all updates is left. Last column below 0: "
    "the learned choice of tokens is worth something.\n"
)
EXITS = (
    "Gates read at the trained depth r; the last exit takes what is left. Expected exit: mean over tokens of Σ k p_k, with "
    "its rank correlation with the token's NLL at r. At a threshold a token exits at the first k at which the gate's "
    "cumulated exit probability reaches it. Last columns below 0: which tokens the gate lets go is worth something, "
    "against one depth for all tokens (NLL interpolated linearly) and against the same exits dealt at random.\n"
)
HOPS = "Accuracy on k-hop questions, r iterations against hops needed.\n"


def page(metrics: Metrics, drawn: set[str], folder: str) -> str:
    """The whole document in Markdown."""
    config, rows = metrics.config(), claims.judge(metrics)
    measured = [f for f in metrics.families() if metrics.values(f, "nll") is not None]
    settings = config["measures"]

    def figure(name: str, alt: str) -> str:
        return f"![{alt}]({folder}/{name})\n" if name in drawn else ""

    def section(title: str, note: str, table: str, *more: str) -> str:
        """Left out where nothing was measured."""
        parts = (f"## {title}\n", note, table + "\n", *more)
        return "\n".join(part for part in parts if part) if table else ""

    equal = tables.equal_flops(metrics)
    parts = [
        _head(config, measured, rows, metrics),
        "## The claims\n",
        *(_paper(paper, of) for paper, of in _by_paper(rows).items()),
        section("Held-out loss", HELDOUT, tables.sizes(metrics),
                tables.by_depth(metrics) + "\n", figure("nll.svg", "Held-out NLL against r")),
        section("Compute", COMPUTE, tables.compute(metrics), *((EQUAL_FLOPS, equal + "\n") if equal else ()),
                figure("flops.svg", "Held-out NLL against FLOPs per token")),
        section("Fixed points", _fixed_point_note(settings.get("fixed_point")), tables.fixed_points(metrics),
                figure("fixed-point.svg", "Distances between successive states")),
        section("Stability", _stability_note(settings.get("stability")), tables.stability(metrics),
                figure("stability.svg", "Gradient norms and state norms at K loops")),
        section("Learned halting", HALTING, halting.pruning(metrics)),
        section("Learned exits", EXITS, halting.gates(metrics)),
        section("Attention by loop", _attention_note(settings.get("attention")), tables.attention(metrics),
                figure("attention.svg", "Attention span and entropy by loop")),
        section("Depth extrapolation", HOPS, tables.hops(metrics)),
        f"All settings: [config.json]({folder}/metrics/{CONFIG}).\n",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def _head(config: dict, measured: list[str], rows: list[Claim], metrics: Metrics) -> str:
    missing = [f for f in config["families"] if f not in measured]
    counted = {
        v: sum(c.verdict == v for c in rows) for v in (claims.HOLDS, claims.FAILS, claims.UNKNOWN)
    }
    training = config["training"]
    tokens = training.get("train_tokens")
    length = f"{tokens:,} tokens" if tokens else "the default number of tokens"
    stored = metrics.values(measured[0], "nll") if measured else None
    read = f"{stored['n_tokens']:,} held-out tokens" if stored else "no held-out token yet"
    lines = [
        "# Reproduction\n",
        f"`abbie-lens reproduce` made this document from the metrics in its folder: comparison `{config['name']}`, "
        f"{len(measured)} of {len(config['families'])} families trained on {length} of the same text in the same batches, "
        f"measured on {read}.\n",
        f"Of {len(rows)} claims of the papers, {counted[claims.HOLDS]} hold here, {counted[claims.FAILS]} do not hold at "
        f"this scale, {counted[claims.UNKNOWN]} were not measured. Scale is part of every claim: one that "
        "fails here may hold for larger models trained on more text. One seed a family: the intervals are of the text, "
        "not of the training.\n",
    ]
    if missing:
        lines.append(f"Not trained yet: {', '.join(missing)}.\n")
    return "\n".join(lines)


def _by_paper(rows: list[Claim]) -> dict[str, list[Claim]]:
    found: dict[str, list[Claim]] = {}
    for row in rows:
        found.setdefault(f"{row.paper} ({row.source})", []).append(row)
    return found


def _paper(title: str, rows: list[Claim]) -> str:
    return f"### {title}\n\n{tables.claims_table(rows)}\n"


def _fixed_point_note(settings: dict | None) -> str:
    if not settings:
        return ""
    return (
        f"The step from k to k + 1 at the last of {settings['n_iters']} iterations over the first, medians over the tokens "
        f"of {settings['prompts']} held-out prompts of {settings['length']} tokens, with its interval over prompts; beside "
        "it freshly initialised weights. Relative: over ‖h_k‖. Direction: between unit vectors. Read-out: of z, after the "
        "final norm. What only the direction shows may be true of any weights.\n"
    )


def _stability_note(settings: dict | None) -> str:
    if not settings:
        return ""
    return (
        f"The same initial weights looped K times and trained for {settings['steps']} steps of {settings['batch_size']} "
        "windows. Gradient norm of every block's weights and norm of the Body's output by loop, on held-out windows, "
        "before and after. Spike: largest gradient norm of the second half of training over its median.\n"
    )


def _attention_note(settings: dict | None) -> str:
    return (
        "Of the Body's patterns at the trained depth, mean over blocks, heads and queries. Span: distance from query to "
        "key, in tokens (distance in chunks × tokens a chunk). Entropy over log of the keys that causality allows. "
        f"Local: mass at most {(settings or {}).get('near', '?')} tokens away.\n"
    )
