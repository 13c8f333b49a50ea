"""Training batches as a pure function of (seed, step).

So a resumed run sees what it would have seen, several models see the same text, and any number
of processes share one global batch.
"""

from functools import lru_cache

import numpy as np

from abbie_lens.errors import InputError


class Batches:
    """Non-overlapping windows in an order shuffled anew, and cut at another offset, every epoch.

    A window is the separator and n_ctx - 1 corpus tokens: prompts, too, begin with it.
    """

    def __init__(
        self, tokens: np.ndarray, *, separator: int, n_ctx: int, batch_size: int, seed: int
    ) -> None:
        self.tokens, self.separator, self.seed = tokens, separator, seed
        self.batch_size, self.n_ctx, self.stride = batch_size, n_ctx, n_ctx - 1
        self.n_windows = (len(tokens) - self.stride + 1) // self.stride
        if n_ctx < 2 or self.n_windows < 1:
            raise InputError(
                f"data has {len(tokens)} tokens for training; "
                f"one window of n_ctx={n_ctx} needs {2 * self.stride - 1}"
            )
        self._epoch = lru_cache(maxsize=2)(self._shuffle)

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray]:
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        return int(generator.integers(self.stride)), generator.permutation(self.n_windows)

    def __call__(self, step: int) -> np.ndarray:
        """The global batch of `step`: [batch_size, n_ctx] int64."""
        batch = np.empty((self.batch_size, self.n_ctx), dtype=np.int64)
        batch[:, 0] = self.separator
        for row in range(self.batch_size):
            epoch, index = divmod(step * self.batch_size + row, self.n_windows)
            shift, order = self._epoch(epoch)
            start = shift + int(order[index]) * self.stride
            batch[row, 1:] = self.tokens[start : start + self.stride]
        return batch
