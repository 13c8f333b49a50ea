"""RunLock: one run at a time on a model, re-entrant, and not in the way of copying or pickling the model."""

from __future__ import annotations

import threading
from typing import Any


class RunLock:
    """A re-entrant lock that a copied model gets anew.

    Hooks are global module state: without it a forward would see those of another thread half-way.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return RunLock, ()
