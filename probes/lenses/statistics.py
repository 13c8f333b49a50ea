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
    n_vocab = model.cfg.d_vocab
    chunks: list[list[dict[str, Tensor]]] = []
    finals: list[Tensor] = []
    for part in decoding.row_chunks(len(reference), n_vocab):
        logits = decoding.logits_of(model, reference[part])
        final, log_r = decoding.top_token(logits), logits.float().log_softmax(-1)
        del logits
        finals.append(final)
        following, target, random = (one[part] for one in ids)
        chunks.append(
            [
                _of(
                    log_r if row is last else _log_p(model, one[part]),
                    *(log_r, following, target, final, random, asked.top_k),
                )
                for row, one in zip(x, flat, strict=True)
            ]
        )
    fields = {
        name: torch.stack(
            [torch.cat([chunk[row][name] for chunk in chunks]) for row in range(len(x))]
        )
        for name in (chunks[0][0] if x else ())
    }
    arrays = {
        name: field.view(len(x), *shape, *field.shape[2:]).cpu() for name, field in fields.items()
    }
    whole = {n: (a if n == "top_ids" else a.double()).numpy() for n, a in arrays.items()}
    return whole, torch.cat(finals).view(shape).cpu().numpy()


def _log_p(model: Any, x: Tensor) -> Tensor:
    return decoding.logits_of(model, x).float().log_softmax(-1)


def _of(
    log_p: Tensor,
    log_r: Tensor,
    following: Tensor,
    target: Tensor,
    final: Tensor,
    random: Tensor,
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
