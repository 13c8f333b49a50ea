"""Progress of a run: what callers get, and the bar on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands."""

    step: int
    n_steps: int
    loss: float = math.nan
    """Training loss of the last logged step, nats per token; NaN before the first."""
    tokens_per_second: float = math.nan
    eta_seconds: float = math.nan
    heldout: dict[int, float] = field(default_factory=dict)
    """Newest held-out figure by depth; empty before the first."""
    judged_by: str = "held-out NLL"
    """What that figure is."""
    stage: str = "training"
    """"training", or "evaluation": then `step` of `n_steps` counts held-out windows."""


OnProgress = Callable[[TrainProgress], None]


class StderrProgress(AbstractContextManager):
    """A rich bar on a terminal; elsewhere (logs) a plain line every half minute."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = None
        self._last_line = 0.0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None)

    def __call__(self, now: TrainProgress) -> None:
        text = _describe(now)
        if self._bar is not None:
            self._bar.update(self._task, total=now.n_steps, completed=now.step, description=text)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or now.step == now.n_steps:
            self._last_line = time.monotonic()
            print(f"{now.step}/{now.n_steps} · {text}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _describe(now: TrainProgress) -> str:
    if now.stage == "evaluation":
        return "evaluating"
    parts = [f"loss {now.loss:.3f}", f"{now.tokens_per_second:,.0f} tokens/s"]
    parts.append(f"ETA {timedelta(seconds=round(now.eta_seconds))}")
    if now.heldout:
        figures = " ".join(f"r={r} {v:.3f}" for r, v in now.heldout.items())
        parts.append(f"{now.judged_by} {figures}")
    return " · ".join(parts)
