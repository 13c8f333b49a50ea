"""Training batches of a task, drawn as they are needed: a pure function of (seed, step)."""

from __future__ import annotations

import numpy as np

from abbie_lens.tasks.base import Task


class TaskBatches:
    """`batches(step)` gives rows of the train split and which of their tokens are to be learnt."""

    def __init__(self, task: Task, batch_size: int, seed: int) -> None:
        self.task, self.batch_size, self.seed = task, batch_size, seed
        self.n_ctx = task.n_ctx

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The global batch of `step`: tokens [batch_size, n_ctx] int64, counted [batch_size, n_ctx] bool.

        `counted[i, t]`: token t is an answer, predicted from position t - 1.
        """
        batch = self.task.sample(self.seed, self.batch_size, step=step)
        return batch.tokens, batch.counted
