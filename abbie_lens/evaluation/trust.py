"""What lm-eval would run that nobody here has read, and the switch that keeps it from running.

Two kinds: metric scripts that the `evaluate` library fetches from the hub, and tasks that execute the
programs a model wrote. Dataset scripts are not run by any `datasets` this package allows. Python beside
a task file of the user's own is the user's, like any module that they import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import evaluate
from evaluate import config
from huggingface_hub import constants

from abbie_lens.errors import InputError

if constants.HF_HUB_OFFLINE:
    # `evaluate` has a switch of its own and does not know the hub's.
    config.HF_EVALUATE_OFFLINE = True


@contextmanager
def no_fetched_metrics(allow_code: bool) -> Iterator[None]:
    """Within it, a metric script from the hub is an InputError, also where lm-eval swallows errors."""
    if allow_code:
        yield
        return
    load, asked = evaluate.load, []

    def refuse(path: str, *_: Any, **__: Any) -> None:
        asked.append(path)
        raise refusal(path)

    evaluate.load = refuse
    try:
        yield
    except Exception as error:
        # lm-eval's look-up of a metric goes on without it and fails later, over something else.
        if asked:
            raise refusal(asked[0]) from error
        raise
    finally:
        evaluate.load = load
    if asked:
        raise refusal(asked[0])


def refusal(path: str) -> InputError:
    """The error for a metric script."""
    return InputError(
        f"metric {path!r}: lm-eval takes it from the hub as a script and runs it;"
        " pass --allow-code if you trust it."
    )


def check_tasks(tasks: Iterable[Any], allow_code: bool) -> None:
    """Errors: InputError for a task that runs what the model wrote."""
    for task in tasks:
        if getattr(task, "UNSAFE_CODE", False) and not allow_code:
            raise InputError(
                f"task {task.task_name!r}: it runs programs that the model wrote;"
                " pass --allow-code if this machine may."
            )
