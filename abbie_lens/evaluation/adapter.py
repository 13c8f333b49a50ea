"""A looped model as lm-eval's `LM`, with the number of iterations as its parameter.

Prompts begin with the model's bos token, as in `model.tokenize`. What does not fit into the context
loses its beginning, bos included; `n_truncated` counts those prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from abbie_lens.errors import InputError
from abbie_lens.evaluation.continuation import Ending, continue_until
from abbie_lens.evaluation.likelihood import Pair, log_likelihoods, truncated

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from abbie_lens.model import HookedLoopedTransformer


class LoopedLM(TemplateLM):
    """lm-eval's three requests, answered after `n_iters` iterations."""

    def __init__(
        self,
        model: HookedLoopedTransformer,
        n_iters: int | None = None,
        *,
        batch_size: int = 16,
        seed: int = 0,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """`n_iters` None is the trained depth; `seed` is for tasks that sample; `progress(done, total)`
        counts the requests of one kind. Errors: InputError for a model without a tokenizer or one
        whose tokenizer has neither bos nor eos, a depth below 0, a batch_size below 1.
        """
        super().__init__()
        if model.tokenizer is None:
            raise InputError("model: it has no tokenizer, and tasks are text.")
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: expected at least 1.")
        self.model = model
        self.tokenizer: Any = model.tokenizer
        self.n_iters = model.depth(n_iters)
        self.batch_size, self.seed, self.progress = batch_size, seed, progress
        self.n_requests = self.n_truncated = 0
        self._device = model.device
        ends = (model.tokenizer.bos_token_id, model.tokenizer.eos_token_id)
        self._first = next((i for i in ends if i is not None), None)
        if self._first is None:
            raise InputError("model: its tokenizer has neither a bos nor an eos token.")

    # -- tokens: lm-eval's own code splits context from continuation with these ------------------------------

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        eos = self.tokenizer.eos_token_id
        return self.prefix_token_id if eos is None else eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a continuation without a context: bos, or eos where there is none."""
        assert self._first is not None
        return self._first

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids, bos first unless it is there already or `add_special_tokens` is false."""
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=False)
        bos = self.tokenizer.bos_token_id
        if add_special_tokens is False or bos is None or ids[:1] == [bos]:
            return ids
        return [int(bos), *ids]

    # -- the three requests ------------------------------------------------------------------------------

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy) of continuations given their contexts."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        return self._score([(context, continuation) for _, context, continuation in requests])

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-likelihood in nats of whole texts, each token predicted once.

        The first window reads bos and predicts n_ctx tokens. Each further one reads the last token of the
        one before it and predicts the next n_ctx; the last one is filled up to n_ctx tokens to the left.
        """
        pairs: list[Pair] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.model.cfg.n_ctx,
                context_len=1,
            )
            for window in windows:
                pairs.append(make_disjoint_window(window))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._score(pairs), strict=True):
            totals[owner] += value
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Continuations, one prompt at a time with cached keys and values, longest prompts first."""
        prompts = [self.tok_encode(request.args[0]) for request in requests]
        n_ctx = self.model.cfg.n_ctx
        settings: list[Any] = [request.arguments[1] for request in requests]
        endings = [Ending.from_settings(one, n_ctx) for one in settings]
        self._count(len(p) > n_ctx - e.n_new for p, e in zip(prompts, endings, strict=True))
        texts = [""] * len(requests)
        told = self._teller(len(requests))
        for i in sorted(range(len(requests)), key=lambda i: -len(prompts[i])):
            # A seed of its own: what a request draws must not depend on those before it.
            texts[i] = continue_until(
                self.model, prompts[i], endings[i], self.n_iters, seed=self.seed + i
            )
            told(1)
        return texts

    def _score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        self._count(truncated(pair, self.model.cfg.n_ctx) for pair in pairs)
        return log_likelihoods(
            self.model,
            pairs,
            self.n_iters,
            batch_size=self.batch_size,
            on_batch=self._teller(len(pairs)),
        )

    def _count(self, cut: Any) -> None:
        flags = list(cut)
        self.n_requests += len(flags)
        self.n_truncated += sum(flags)

    def _teller(self, total: int) -> Callable[[int], None]:
        done = 0

        def tell(n: int) -> None:
            nonlocal done
            done += n
            if self.progress is not None:
                self.progress(done, total)

        return tell
