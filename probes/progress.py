"""Progress of long analyses: a callback that is told how far it is, and may stop the work."""

from __future__ import annotations

from collections.abc import Callable

from abbie_lens.errors import AbbieLensError

Callback = Callable[[int, int], object]
"""callback(done, total); returning False, or raising, cancels."""


class Cancelled(AbbieLensError):
    """The caller's progress callback asked to stop."""


class Progress:
    """Counts steps for a callback. Errors: Cancelled from `step` when the callback returns False."""

    def __init__(self, total: int, callback: Callback | None = None) -> None:
        self.done, self.total, self.callback = 0, total, callback

    def step(self, n: int = 1) -> None:
        """n more steps are done."""
        self.done += n
        if self.callback is not None and self.callback(self.done, self.total) is False:
            raise Cancelled(f"cancelled after {self.done} of {self.total} steps.")
