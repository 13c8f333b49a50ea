"""Tasks at one depth after another."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from abbie_lens.errors import DepthError, DivergedError, InputError
from abbie_lens.evaluation import extra
from abbie_lens.evaluation.records import DepthScores
from abbie_lens.evaluation.seeds import seeded

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

OnRequests = Callable[[int, int], object]
"""callback(done, total) of the requests of one kind."""


class Evaluator:
    """A model and loaded tasks; `scores(r)` evaluates them after r iterations.

    >>> evaluator = Evaluator(abbie_lens.load("abbie-d-novels"), ["blimp"])
    >>> evaluator.scores(4).scores[0].value
    """

    def __init__(
        self,
        model: HookedLoopedTransformer,
        tasks: Sequence[str],
        *,
        include_path: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        batch_size: int = 16,
        confidence: float = 0.95,
        n_draws: int = 1000,
        seed: int = 0,
        allow_code: bool = False,
    ) -> None:
        """Load the tasks; `limit` takes the first documents of each, `include_path` is a folder of task files.

        `n_draws` and `confidence` are the intervals', `seed` also that of few-shot examples and of tasks
        that sample. `allow_code` lets tasks run metric scripts from the hub and programs the model wrote.
        Errors: InputError (also without lm-eval), TaskError.
        """
        extra.require()
        from abbie_lens.evaluation import tasks as found
        from abbie_lens.evaluation.scoring import Sampling

        if limit is not None and limit < 1:
            raise InputError(f"limit={limit}: expected at least 1.")
        if not 0 < confidence < 1:
            raise InputError(f"confidence={confidence}: expected a number between 0 and 1.")
        if n_draws < 1:
            raise InputError(f"n_draws={n_draws}: expected at least 1.")
        self.model, self.limit, self.batch_size = model, limit, batch_size
        self.names = tuple(dict.fromkeys(tasks))
        self.allow_code = allow_code
        self.sampling = Sampling(confidence, n_draws, seed)
        self.adapter(0)  # what is wrong with the model is told before data are read
        self.tasks = found.load(self.names, include_path, allow_code=allow_code, seed=seed)

    def adapter(self, n_iters: int, progress: OnRequests | None = None) -> Any:
        """The model as lm-eval's `LM` at one depth."""
        from abbie_lens.evaluation.adapter import LoopedLM

        return LoopedLM(
            self.model,
            n_iters,
            batch_size=self.batch_size,
            seed=self.sampling.seed,
            progress=progress,
        )

    def scores(self, n_iters: int, progress: OnRequests | None = None) -> DepthScores:
        """All scores after `n_iters` iterations; none, and the reason, where the loop refuses the depth
        or the logits are not finite.
        """
        from lm_eval.evaluator import evaluate

        from abbie_lens.evaluation.scoring import scores
        from abbie_lens.evaluation.trust import no_fetched_metrics

        try:
            adapter = self.adapter(n_iters, progress)
            self.tasks.prepare(self.sampling.seed)
            with no_fetched_metrics(self.allow_code), seeded(self.sampling.seed):
                results = evaluate(
                    adapter,
                    self.tasks.loaded,
                    limit=self.limit,
                    bootstrap_iters=0,  # the intervals are ours
                    log_samples=True,
                    confirm_run_unsafe_code=self.allow_code,
                )
        except (DepthError, DivergedError) as error:
            return DepthScores(n_iters, (), undefined=str(error))
        assert results is not None
        return DepthScores(
            n_iters,
            tuple(scores(results, self.tasks, self.sampling)),
            n_truncated=adapter.n_truncated,
            n_requests=adapter.n_requests,
        )

    def identity(self) -> dict[str, Any]:
        """What two runs must share for their scores to stand in one table, as plain JSON."""
        from importlib.metadata import version

        info, config = self.model.info(), self.model.cfg.to_dict()
        config.pop("model_name")
        return {
            "weight_hash": info.weight_hash,
            "dtype": info.dtype,
            "config": config,
            "tasks": list(self.names),
            "documents": self.tasks.digests(self.limit, self.sampling.seed),
            "limit": self.limit,
            "confidence": self.sampling.confidence,
            "n_draws": self.sampling.n_draws,
            "seed": self.sampling.seed,
            "lm_eval": version("lm_eval"),
        }
