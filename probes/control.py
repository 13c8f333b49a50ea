"""What a result is shown beside: the same architecture with fresh weights, and the same tokens in no order."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from probes.inputs import Inputs


def fresh_weights(model: Any, seed: int) -> Any:
    """Fresh weights; of the next seed if `model` itself is untrained and was made from this one."""
    fresh = model.randomized(seed)
    same = fresh.info().weight_hash == model.info().weight_hash
    return model.randomized(seed + 1) if same else fresh


def shuffled(model: Any, inputs: Inputs, seed: int) -> Inputs:
    """The same tokens of every sequence in another order, padding and a beginning-of-sequence token in place."""
    generator = np.random.default_rng(seed)
    begin = getattr(getattr(model, "tokenizer", None), "bos_token_id", None)
    ids, labels = inputs.tokens.cpu().numpy().copy(), []
    for row, valid, told in zip(ids, inputs.valid, inputs.str_tokens, strict=True):
        places = np.flatnonzero(valid)
        places = places[int(row[places[0]] == begin) :]
        order = np.arange(len(row))
        order[places] = generator.permutation(places)
        row[:] = row[order]
        labels.append(tuple(told[i] for i in order))
    tokens = torch.from_numpy(ids).to(inputs.tokens)
    return dataclasses.replace(inputs, tokens=tokens, str_tokens=tuple(labels))
