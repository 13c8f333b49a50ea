"""Log-likelihoods of continuations, batched: the one computation that most benchmarks are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abbie_lens.errors import DivergedError, InputError

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

Pair = tuple[list[int], list[int]]
"""Token ids of a context (at least one) and of its continuation."""


@torch.inference_mode()
def log_likelihoods(
    model: HookedLoopedTransformer,
    pairs: Sequence[Pair],
    n_iters: int | None = None,
    *,
    batch_size: int = 16,
    on_batch: Callable[[int], object] = lambda n: None,
) -> list[tuple[float, bool]]:
    """(Σ log p(continuation | context) in nats, whether greedy decoding yields it), in order.

    Longest pairs first, right-padded and masked; contexts lose their beginning where a pair does not
    fit into n_ctx + 1 tokens (the last one is never read). `on_batch(n)` hears of n finished pairs.
    Errors: InputError for a continuation longer than n_ctx, DivergedError for logits that are not
    finite: an arg max over NaN would be an answer.
    """
    n_ctx = model.cfg.n_ctx
    for context, continuation in pairs:
        if not context:
            raise InputError("context: no token to condition on; expected at least one.")
        if len(continuation) > n_ctx:
            raise InputError(
                f"continuation: {len(continuation)} tokens; the model's context holds {n_ctx}."
            )
    asked = [i for i, (_, continuation) in enumerate(pairs) if continuation]
    order = sorted(asked, key=lambda i: -sum(map(len, pairs[i])))
    # An empty continuation has probability 1.
    found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        inputs = [(pairs[i][0] + pairs[i][1])[-(n_ctx + 1) :][:-1] for i in rows]
        tokens, mask = _padded(inputs, model.device)
        logits = model(tokens, n_iters=n_iters, attention_mask=mask)
        for row, i in enumerate(rows):
            found[i] = _scored(logits[row, : len(inputs[row])], pairs[i][1])
        on_batch(len(rows))
    return found


def truncated(pair: Pair, n_ctx: int) -> bool:
    """Whether the context loses its beginning."""
    return sum(map(len, pair)) > n_ctx + 1


def _padded(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Tokens [batch, pos], right-padded, and their mask; no mask where nothing is padded."""
    lengths = torch.tensor([len(row) for row in rows])
    width = int(lengths.max())
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return tokens.to(device), None if bool(mask.all()) else mask.to(device)


def _scored(logits: Tensor, continuation: list[int]) -> tuple[float, bool]:
    """From the logits [pos, vocab] of one sequence without its last token."""
    target = torch.tensor(continuation, device=logits.device)
    kept = logits[-len(continuation) :].float()
    if not bool(torch.isfinite(kept).all()):
        raise DivergedError("the logits are not finite; try fewer iterations or a wider dtype.")
    chosen = kept.log_softmax(-1).gather(-1, target[:, None])
    return float(chosen.double().sum()), bool((kept.argmax(-1) == target).all())
