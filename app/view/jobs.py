"""Long work beside the page: started once, watched, cancelled, and kept when the page is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from probes.progress import Callback, Cancelled


class Job:
    """One piece of work in a thread. `work(progress)` passes `progress` on to an analysis."""

    def __init__(self, work: Callable[[Callback], Any]) -> None:
        self.done, self.total = 0, 0
        self.result: Any = None
        self.error: Exception | None = None
        self.cancelled = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the work goes on."""
        return self._thread.is_alive()

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def cancel(self) -> None:
        """Ask the work to stop at its next report of progress."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> None:
        """Block until the work is over."""
        self._thread.join(timeout)

    def _progress(self, done: int, total: int) -> bool:
        self.done, self.total = done, total
        return not self._stop.is_set()

    def _run(self, work: Callable[[Callback], Any]) -> None:
        try:
            self.result = work(self._progress)
        except Cancelled:
            self.cancelled = True
        except Exception as error:
            # The page raises it again: a thread's own traceback would be seen by nobody.
            self.error = error
