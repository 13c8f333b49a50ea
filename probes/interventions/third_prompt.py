"""The control of patching: values of a third prompt, which has neither the clean nor the corrupt prompt's own tokens.

As the unrelated names of Wang et al. 2022 (arXiv:2211.00593): the same frame, other content. What such values bring back is
not the clean prompt's: the corrupt answer was broken, nothing was carried over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.inputs import Inputs, prepare
from probes.interventions.pairs import Pairs


def third(model: Any, pairs: Pairs, given: Any, seed: int) -> Pairs:
    """The same corrupt prompts, with a third in the place of each clean one.

    `given`: texts or token ids as long as the corrupt prompts; True: the corrupt prompt with another token wherever the two
    differ, drawn by `seed` of the prompts' other tokens. Errors: InputError for another number or length.
    """
    corrupt = pairs.corrupt
    other = _drawn(model, pairs, seed) if given is True else prepare(model, given, corrupt.n_iters)
    if other.valid.shape[0] != corrupt.valid.shape[0]:
        raise InputError(
            f"control: {len(other.valid)} prompts for {len(corrupt.valid)} pairs; expected as many of each."
        )
    lengths = [
        (int(a.sum()), int(b.sum())) for a, b in zip(other.valid, corrupt.valid, strict=True)
    ]
    for n, (found, wanted) in enumerate(lengths):
        if found != wanted:
            raise InputError(
                f"control: prompt {n} has {found} tokens, the corrupt one {wanted}; expected the same length."
            )
    places = np.arange(corrupt.valid.shape[1])
    aligned = np.where(pairs.aligned >= 0, places, -1)
    same = other.tokens.cpu().numpy() == corrupt.tokens.cpu().numpy()
    return Pairs(other, corrupt, aligned, (aligned >= 0) & ~same)


def _drawn(model: Any, pairs: Pairs, seed: int) -> Inputs:
    """The corrupt prompts with other tokens where they differ from the clean ones."""
    rng, corrupt = np.random.default_rng(seed), pairs.corrupt
    clean = pairs.from_clean(pairs.clean.tokens).cpu().numpy()
    ids = corrupt.tokens.cpu().numpy().copy()
    special = set(getattr(getattr(model, "tokenizer", None), "all_special_ids", None) or ())
    for n in range(len(ids)):
        known = {*ids[n][corrupt.valid[n]].tolist(), *clean[n][pairs.aligned[n] >= 0].tolist()}
        for p in np.flatnonzero(pairs.differs[n]):
            taken = {int(ids[n, p]), int(clean[n, p])}
            pool = sorted(known - special - taken)
            if not pool:
                pool = [i for i in range(min(model.cfg.d_vocab, 64)) if i not in taken | special]
            if not pool:
                raise InputError(
                    "control=True: no third token to put where the prompts differ; name a prompt, or control=False."
                )
            ids[n, p] = rng.choice(pool)
    return _labelled(model, corrupt, torch.from_numpy(ids).to(corrupt.tokens.device))


def _labelled(model: Any, inputs: Inputs, tokens: Tensor) -> Inputs:
    again = prepare(model, tokens, inputs.n_iters, inputs.mask)
    return replace(inputs, tokens=tokens, str_tokens=again.str_tokens)
