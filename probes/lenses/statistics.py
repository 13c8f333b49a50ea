"""What is kept of a row's distributions: taken of a few tokens at a time, so that memory does not grow with the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.halting import measures
from probes import decoding
from probes.lenses.result import CELLS


@dataclass(frozen=True)
class Asked:
    """Whose ranks and losses are wanted, each [batch, pos] ids with -1 for none."""

    following: Tensor
    target: Tensor
    random: Tensor
    top_k: int


def reduce(
    model: Any, x: Sequence[Tensor], last: Tensor, asked: Asked
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every field [row, batch, pos, ...], and the ids [batch, pos] that `last` predicts.

    x: of each row, and last: of the model's own prediction, what the final norm reads, [batch, pos, d_model].
    """
    shape, width = last.shape[:-1], last.shape[-1]
    flat = [one.reshape(-1, width) for one in x]
    reference = last.reshape(-1, width)
    ids = [one.reshape(-1) for one in (asked.following, asked.target, asked.random)]
    # Made beforehand: small results between freed blocks of megabytes would keep those from being used again.
    fields = _blank(len(x), len(reference), asked.top_k, last.device)
    finals = torch.empty(len(reference), dtype=torch.long, device=last.device)
    for part in decoding.row_chunks(len(reference), model.cfg.d_vocab):
        logits = decoding.logits_of(model, reference[part])
        finals[part] = decoding.top_token(logits)
        log_r = logits.float().log_softmax(-1)
        del logits
        following, target, random = (one[part] for one in ids)
        for row, (given, one) in enumerate(zip(x, flat, strict=True)):
            log_p = log_r if given is last else _log_p(model, one[part])
            found = _of(log_p, log_r, following, target, random, finals[part], asked.top_k)
            for name, values in found.items():
                fields[name][row, part] = values
    arrays = {
        name: field.view(len(x), *shape, *field.shape[2:]).cpu() for name, field in fields.items()
    }
    whole = {n: (a if n == "top_ids" else a.double()).numpy() for n, a in arrays.items()}
    return whole, finals.view(shape).cpu().numpy()


def _blank(n_rows: int, n_tokens: int, top_k: int, device: torch.device) -> dict[str, Tensor]:
    """Fields [row, token, ...] to be filled."""
    make = lambda *size, dtype=torch.float32: torch.empty(  # noqa: E731
        n_rows, n_tokens, *size, dtype=dtype, device=device
    )
    fields = {name: make() for name in CELLS}
    return {
        "top_ids": make(top_k, dtype=torch.long),
        "top_probabilities": make(top_k),
    } | fields


def _log_p(model: Any, x: Tensor) -> Tensor:
    return decoding.logits_of(model, x).float().log_softmax(-1)


def _of(
    log_p: Tensor,
    log_r: Tensor,
    following: Tensor,
    target: Tensor,
    random: Tensor,
    final: Tensor,
    top_k: int,
) -> dict[str, Tensor]:
    """All fields of some tokens of one row, from log-probabilities [token, d_vocab]."""
    top = log_p.topk(top_k)
    entropy = measures.entropy(log_p)
    # One NaN or infinity among the logits makes every log-probability NaN.
    broken = log_p[:, :1].isnan()
    return {
        "top_ids": top.indices.masked_fill(broken, -1),
        "top_probabilities": top.values.exp().masked_fill(broken, float("nan")),
        "entropy": entropy,
        "nll": decoding.nll(log_p, following),
        "target_rank": decoding.rank(log_p, target),
        "final_rank": decoding.rank(log_p, final),
        "random_rank": decoding.rank(log_p, random),
        "kl_to_final": measures.kl_divergence(log_r, log_p),
    }
