"""Progress of a run: what callers get, and the bar on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands."""

    step: int
    n_steps: int
    loss: float
    """Training loss of the last logged step, nats per token."""
    tokens_per_second: float
    eta_seconds: float
    heldout: dict[int, float]
    """Newest held-out loss by depth; empty before the first."""


OnProgress = Callable[[TrainProgress], None]


class StderrProgress(AbstractContextManager):
    """A rich bar on a terminal; elsewhere (logs) a plain line every half minute."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = None
        self._last_line = 0.0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None)

    def __call__(self, now: TrainProgress) -> None:
        text = f"loss {now.loss:.3f} · {now.tokens_per_second:,.0f} tokens/s"
        if now.heldout:
            text += " · held-out " + " ".join(f"r={r} {v:.3f}" for r, v in now.heldout.items())
        if self._bar is not None:
            self._bar.update(self._task, total=now.n_steps, completed=now.step, description=text)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES or now.step == now.n_steps:
            self._last_line = time.monotonic()
            eta = f"{now.eta_seconds / 60:.0f} min"
            print(
                f"step {now.step}/{now.n_steps} · {text} · ETA {eta}", file=sys.stderr, flush=True
            )

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
