"""The session that asked for long work: whether anybody still waits for it."""

from __future__ import annotations

import time

from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

GRACE = 120.0
"""Seconds without a connection after which a visitor is gone; a page that is only reloaded is back sooner."""


class Visitor:
    """The session that runs the page now."""

    def __init__(self) -> None:
        context = get_script_run_ctx(suppress_warning=True)
        self._session = None if context is None else context.session_id
        self._lost: float | None = None

    def gone(self) -> bool:
        """Whether the session has had no connection for `GRACE` seconds; asked from any thread."""
        if self._session is None or not Runtime.exists():
            return False
        if Runtime.instance().is_active_session(self._session):
            self._lost = None
            return False
        now = time.monotonic()
        self._lost = now if self._lost is None else self._lost
        return now - self._lost >= GRACE
