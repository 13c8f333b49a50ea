"""What an intervention is judged by: one number a run, read off the logits of its last token.

logit_difference   logit(answer) − logit(other)
kl                 KL(p_clean ‖ p), nats
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import kl_divergence, wide
from probes.lenses.targets import single_token

Metric = Callable[[Tensor, Tensor], Tensor]
"""(logits [row, d_vocab] of the last token, number of the pair [row] that each row is a run of) -> [row]."""
METRICS = ("logit_difference", "kl")


@dataclass(frozen=True)
class LogitDifference:
    """logit(answer) − logit(other) of each row's pair."""

    answer: Tensor
    other: Tensor
    """[pair] token ids."""

    def __call__(self, logits: Tensor, pair: Tensor) -> Tensor:
        rows = torch.arange(len(logits), device=logits.device)
        a, b = (wide(logits[rows, ids[pair]]) for ids in (self.answer, self.other))
        return a - b


@dataclass(frozen=True)
class KL:
    """KL(p_clean ‖ p) of each row's pair, nats."""

    clean: Tensor
    """[pair, d_vocab] log-probabilities."""

    def __call__(self, logits: Tensor, pair: Tensor) -> Tensor:
        return kl_divergence(self.clean[pair], wide(logits).log_softmax(-1))


def token_ids(model: Any, name: str, given: Any, n: int, device: Any) -> Tensor:
    """[n] ids of a token as text or id, or one for each of n prompts. Errors: InputError naming the argument."""
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given] * n
    if len(several) != n:
        raise InputError(
            f"{name}: {len(several)} tokens for {n} prompts; expected one, or one each."
        )
    try:
        ids = [single_token(model, t) if isinstance(t, str) else int(t) for t in several]
    except (TypeError, ValueError):
        raise InputError(f"{name}={given!r}: expected a token as text, or its id.") from None
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix('targets')}") from None
    vocabulary = model.cfg.d_vocab
    if not all(0 <= i < vocabulary for i in ids):
        raise InputError(f"{name}={given!r}: expected ids from 0 to {vocabulary - 1}.")
    return torch.tensor(ids, device=device)


def of_pairs(
    model: Any, metric: str | Metric, clean: Tensor, corrupt: Tensor, answer: Any, other: Any
) -> tuple[Metric, str]:
    """The metric and its name; `clean` and `corrupt` [pair, d_vocab] are the two runs' logits.

    Without `answer` and `other`, the two runs' most probable tokens. Errors: InputError for an unknown metric, or a pair
    whose answer is the other token.
    """
    if callable(metric):
        return metric, getattr(metric, "__name__", type(metric).__name__)
    if metric == "kl":
        return KL(wide(clean).log_softmax(-1)), "KL(clean ‖ patched)"
    if metric != "logit_difference":
        raise InputError(f"metric={metric!r}: expected one of {', '.join(METRICS)}, or a function.")
    n, device = len(clean), clean.device
    ids = [
        run.argmax(-1) if given is None else token_ids(model, name, given, n, device)
        for name, given, run in (("answer", answer, clean), ("other", other, corrupt))
    ]
    for row, (a, b) in enumerate(zip(*(i.tolist() for i in ids), strict=True)):
        if a == b:
            name = model.to_str_tokens([a])[0]
            raise InputError(
                f"answer, other: both are {name!r} in pair {row}; name two tokens, or take metric='kl'."
            )
    shown = [" ".join(dict.fromkeys(repr(t) for t in model.to_str_tokens(i))) for i in ids]
    return LogitDifference(*ids), f"logit({shown[0]}) − logit({shown[1]})"


def evaluated(metric: Metric, logits: Tensor, pair: Tensor) -> Tensor:
    """The metric's [row] values. Errors: InputError where a function gives another shape."""
    values = metric(logits, pair)
    if not isinstance(values, Tensor) or values.shape != pair.shape:
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InputError(
            f"metric: gave {shape}; expected a tensor [row] of {len(pair)} from logits [row, d_vocab] and pairs [row]."
        )
    return values
