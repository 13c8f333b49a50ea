"""Errors: every failure a user can cause is one of these, naming argument, value and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AbbieLensError(Exception):
    """Base of all errors raised on purpose by abbie-lens."""


class ConfigError(AbbieLensError):
    """A configuration that contradicts itself or does not fit what it configures."""


class InputError(AbbieLensError):
    """A prompt, token tensor or argument that the model cannot run on."""


class DepthError(InputError):
    """A number of iterations that the loop refuses."""


class SiteError(AbbieLensError):
    """An activation address (`name` or `name@iteration`) that does not exist or cannot be read."""


class CheckpointError(AbbieLensError):
    """A checkpoint that is missing, damaged, unsafe, or does not fit its configuration."""


class DivergedError(AbbieLensError):
    """A state that became NaN or infinite where a finite one is needed."""


class OverflowForecast(UserWarning):
    """A run that will leave its dtype's range before it ends; no error, for what comes before is right."""


class TaskError(AbbieLensError):
    """A benchmark task that cannot be read: its file is wrong, or its data is not there."""


class ExistsError(AbbieLensError):
    """An output that is already there and was not asked to be overwritten."""


def nearest(name: str, known: Iterable[str], n: int = 3) -> str:
    """The known names closest to `name`, as text for an error message; empty if none is close."""
    close = difflib.get_close_matches(name, list(known), n=n, cutoff=0.4)
    return f" Nearest: {', '.join(close)}." if close else ""


def first_line(error: BaseException) -> str:
    """What an error of another library says, cut to one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
