"""The extra `[eval]`: whether lm-eval is here, and what to say where it is not."""

from __future__ import annotations

import importlib.util

from abbie_lens.errors import InputError


def require() -> None:
    """Errors: InputError naming the extra, where lm-eval is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise InputError(
            "eval: lm-eval is not installed; it comes with an extra: pip install 'abbie-lens[eval]'"
        )
