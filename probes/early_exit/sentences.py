"""One computed sentence for each figure of a replay."""

from __future__ import annotations

import numpy as np

from probes import exits
from probes.early_exit.outcome import HaltingOutcome, HaltingSweep


def text(outcome: HaltingOutcome) -> str:
    """Of the text: how deep, and how often the answer stays."""
    if not np.isfinite(outcome.mean_steps):
        return "No token was read."
    early = outcome.fired & (outcome.exit_step < outcome.n_iters)
    share = early.sum() / max((outcome.exit_step >= 0).sum(), 1)
    return (
        f"{outcome.rule['title']} stops {share:.0%} of the tokens before r = {outcome.n_iters}, after "
        f"{outcome.mean_steps:.2f} iterations on average; {_share(outcome.agreement)} keep the top token of full depth."
    )


def frontier(outcome: HaltingOutcome) -> str:
    """Of depth against quality: whether these are the right tokens, by NLL on this text."""
    gap, spread = outcome.mean_nll_exit - outcome.random_nll, outcome.random_nll_sd
    if not np.isfinite(gap) or spread <= 1e-9:
        return "All exits are alike, or the NLL is undefined: nothing tells this rule from one depth for all."
    which = (
        "better than"
        if gap < -1.96 * spread
        else "worse than"
        if gap > 1.96 * spread
        else "within what chance gives:"
    )
    return (
        f"At exit the NLL is {outcome.mean_nll_exit:.3f} nats, {which} the same exits dealt at random "
        f"({outcome.random_nll:.3f} ± {1.96 * spread:.3f}), on this text."
    )


def oracle(sweep: HaltingSweep, outcome: HaltingOutcome) -> str:
    """Of the references: how far the rule is from the best exits at its depth."""
    if not len(sweep.oracle_nll) or not np.isfinite(outcome.mean_nll_exit):
        return ""
    best = float(np.interp(outcome.mean_steps_scored, sweep.oracle_steps, sweep.oracle_nll))
    return f"The best exits of that depth, known only afterwards, would give {best:.3f} nats."


def classes(outcome: HaltingOutcome) -> str:
    """Of the classes: which stop first, and which last."""
    names, counts = outcome.by_class()
    size = counts.sum(1)
    held = np.flatnonzero(size)
    if len(held) < 2:
        return "All tokens are of one class."
    mean = counts[held] @ np.arange(counts.shape[1]) / size[held]
    first, last = held[mean.argmin()], held[mean.argmax()]
    return (
        f"Tokens of the class {names[first]} stop first, after {mean.min():.2f} iterations on average; those of the class "
        f"{names[last]} last, after {mean.max():.2f}."
    )


def both(one: HaltingOutcome, other: HaltingOutcome) -> str:
    """Of two rules on one text: how often they stop a token alike, and who spends more."""
    there = one.exit_step >= 0
    a, b = one.exit_step[there], other.exit_step[there]
    return (
        f"{one.rule['title']} spends {exits.mean_or_nan(a):.2f} iterations a token, {other.rule['title']} "
        f"{exits.mean_or_nan(b):.2f}; they stop {_share(exits.mean_or_nan(a == b))} of the tokens alike."
    )


def _share(x: float) -> str:
    return f"{x:.0%}" if np.isfinite(x) else "an undefined share"
