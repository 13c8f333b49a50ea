"""What a saved model's own files say of it: its measures, and the task that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from abbie_lens import tasks, zoo
from abbie_lens.errors import AbbieLensError
from abbie_lens.files.layout import is_model_folder
from abbie_lens.tasks.base import Task
from abbie_lens.zoo import ZooModel


def described(names: Mapping[str, str]) -> list[ZooModel]:
    """The files of those models (name or folder -> what it is called) that are bundled, or saved in a folder."""
    found = []
    for name, called in names.items():
        with suppress(AbbieLensError):  # its own page says what is wrong with it
            if name in zoo.names():
                found.append(zoo.describe(name))
            elif is_model_folder(Path(name)):
                found.append(zoo.describe_folder(Path(name), called))
    return found


def own_task(model: str) -> Task | None:
    """The task that a saved model was trained on, as its files tell; None for one of text."""
    for found in described({model: model}):
        accuracy = found.metrics.get("accuracy") or {}
        settings = accuracy.get("task") or (found.metrics.get("training") or {}).get("task")
        if settings:
            return tasks.decode(settings)
    return None
