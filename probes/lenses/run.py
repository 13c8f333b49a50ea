"""`lens`: what the model would predict if it stopped here (ANALYSES 1–5).

    kind="tail"       softmax(readout(z_k))                 the model's own Tail, norm and unembedding
    kind="logit"      softmax(U N(z_k))                     final norm and unembedding only: it skips the Tail
    kind="tuned"      softmax(U N(z_k + A_k z_k + b_k))     learnt to give the final prediction (`tuned.py`)
    kind="jacobian"   softmax(U N(J_k h_k))                 the mean first-order effect (`jacobian.py`)

At k = r the tail lens is the model's prediction. The others need not be: z_k has not been through the Tail. All compare with
the same reference, the model's own prediction at depth r. Distributions are reduced a few tokens at a time: of all iterations,
positions and the vocabulary together there is never an array, unless `top_k` asks for the whole vocabulary.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes import decoding
from probes.inputs import prepare
from probes.lenses import rows
from probes.lenses.fitted import FittedLens
from probes.lenses.places import resolve
from probes.lenses.result import KINDS, Lens
from probes.lenses.statistics import Asked, reduce
from probes.lenses.targets import random_controls, target_ids


def lens(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    kind: Literal["tail", "logit", "tuned", "jacobian"] = "tail",
    blocks: rows.Blocks = False,
    fitted: FittedLens | str | os.PathLike[str] | None = None,
    top_k: int = 5,
    targets: str | int | Sequence[Sequence[int]] | Tensor | None = None,
    attention_mask: Any = None,
    seed: int = 0,
) -> Lens:
    """What `model` would predict after every k = 0…r, token by token.

    blocks: rows for the stream after every block of the Body too, with "all" also of Head and Tail (the tail lens
    leaves those of the Tail out). fitted: the tuned or Jacobian lens, or its folder; None takes the one that is shipped
    or was made before. targets: the token whose rank is followed: the next token (None), one token for all positions (its
    string or id), or ids [batch, pos] with -1 for none. seed: of the random-token control.
    Errors: InputError for an unknown kind, a lens that is missing, of another model or depth, a target that is no single
    token, blocks that read other rows than the tokens, or bad input.
    Source: logit lens (nostalgebraist 2020), coda lens (arXiv 2507.02199), tuned lens (arXiv 2303.08112), Jacobian lens
    (transformer-circuits.pub/2026/workspace).
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    rows.check(blocks)
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask)
    n_vocab = model.cfg.d_vocab
    if not 1 <= top_k <= n_vocab:
        raise InputError(f"top_k={top_k}: expected 1 to {n_vocab}, the size of the vocabulary.")
    following = decoding.next_tokens(inputs.tokens, inputs.mask)
    wanted, target_name = target_ids(model, targets, following, n_vocab)
    random = random_controls(wanted, n_vocab, seed)
    made = resolve(model, kind, fitted, n_iters, blocks)
    with torch.no_grad():
        walked = rows.walk(model, inputs, blocks, carried=kind == "jacobian")
        places, x = walked.rows, walked.x
        if kind == "tail":
            x = rows.through_the_tail(model, x, inputs)
            last = x[-1]
        elif blocks == "all":
            more, streams, last = rows.tail_rows(model, walked.z, inputs)
            places, x = places + more, x + streams
        else:
            last = rows.through_the_tail(model, [walked.z], inputs)[0]
        if made is not None:
            x = [made.apply(row.address, one) for row, one in zip(places, x, strict=True)]
        asked = Asked(following, wanted, random, top_k)
        stacked, final = reduce(model, x, last, asked)
    valid = inputs.valid
    blank = lambda x, fill: np.where(valid.reshape(valid.shape + (1,) * (x.ndim - 3)), x, fill)  # noqa: E731
    top_ids = blank(stacked.pop("top_ids"), -1)
    ids = {
        "target_ids": wanted.cpu().numpy(),
        "random_ids": random.cpu().numpy(),
        "final_ids": final,
    }
    ids = {name: np.where(valid, array, -1) for name, array in ids.items()}
    present = np.unique(np.concatenate([top_ids.ravel(), *(x.ravel() for x in ids.values())]))
    present = present[present >= 0]
    strings = model.to_str_tokens(torch.as_tensor(present))
    return Lens(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        kind=kind,
        blocks=blocks,
        addresses=tuple(row.address for row in places),
        iterations=np.array([row.iteration for row in places]),
        fitted="" if made is None else made.story,
        top_ids=top_ids,
        **{name: blank(x, np.nan) for name, x in stacked.items()},
        **ids,
        target_name=target_name,
        valid=valid,
        vocabulary={str(i): s for i, s in zip(present.tolist(), strings, strict=True)},
    )
