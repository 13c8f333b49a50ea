"""The one place that knows where long-lived files of a user go."""

import os
from pathlib import Path

import platformdirs


def user_data() -> Path:
    """Folder for runs, prepared data and downloads: `$ABBIE_LENS_DATA`, else the platform's own."""
    override = os.environ.get("ABBIE_LENS_DATA")
    if override:
        return Path(override).expanduser()
    return platformdirs.user_data_path("abbie-lens", appauthor=False)


def runs() -> Path:
    """Folder that holds one folder per training run."""
    return user_data() / "runs"


def data() -> Path:
    """Folder that holds tokenizers and token files."""
    return user_data() / "data"


def models() -> Path:
    """Folder that holds one folder per fetched model."""
    return user_data() / "models"
