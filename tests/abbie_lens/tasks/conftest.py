"""One small task of every kind."""

import pytest

from abbie_lens import tasks


@pytest.fixture(params=sorted(tasks.TASKS))
def task(request) -> tasks.Task:
    """A task with its default settings."""
    return tasks.make(request.param)
