"""Loops for plain decoders as people ask for them: a window, a rule by name, and for `anchored` its share beta."""

from __future__ import annotations

from abbie_lens.bridged import Anchored, Loop
from abbie_lens.bridged.loop import RULES

BEGIN, END = 0.45, 0.57
"""Share of the depth at which the usual window begins and ends: in the middle, where a stack bears repetition best."""
USUAL_RULE = "damped"

__all__ = ["RULES", "USUAL_RULE", "make", "settings", "spelt", "usual", "usual_window"]


def usual_window(n_blocks: int) -> tuple[int, int]:
    """(start, stop) of the window that is looped where none is named."""
    start = int(BEGIN * n_blocks)
    return start, max(start + 1, round(END * n_blocks))


def usual(n_blocks: int) -> Loop:
    """The loop of a plain decoder for which none was chosen."""
    return make(*usual_window(n_blocks), USUAL_RULE)


def make(start: int, stop: int, rule: str, beta: float | None = None) -> Loop:
    """The loop; `beta` only counts for `anchored`. Errors: ConfigError."""
    if rule == Anchored.family and beta is not None:
        return Loop(start, stop, Anchored(beta=beta))
    return Loop(start, stop, rule)


def settings(loop: Loop) -> dict[str, object]:
    """What a file says of the loop."""
    return {"start": loop.start, "stop": loop.stop, "rule": spelt(loop)}


def spelt(loop: Loop) -> str:
    """The rule as the command line takes it: a name, or `anchored=0.3`."""
    if isinstance(loop.family, Anchored):
        return f"{Anchored.family}={loop.family.beta:g}"
    return next(name for name, family in RULES.items() if type(loop.family) is family)
