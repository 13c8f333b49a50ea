"""What reads the stream after the last block: the final norm held still, the unembedding, its bias and soft cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abbie_lens.halting.measures import wide
from probes import running
from probes.attribution.frozen_norm import FrozenNorm


@dataclass(frozen=True)
class Ending:
    """The read-out of a model as a linear map of the stream, but for the scale of its norm and the soft cap."""

    norm: FrozenNorm
    weight: Tensor
    """[d_vocab, d_model]."""
    bias: Tensor
    """[d_vocab] what is said of a stream that the norm makes 0."""
    soft_cap: float

    @classmethod
    def of(cls, model: Any) -> Ending:
        """The final norm and the unembedding of `model`."""
        like = model.embed.weight.detach().new_zeros(model.cfg.d_model)
        cap = float(model.unembed.soft_cap)
        with torch.no_grad(), model.lock:
            bias = uncapped(model.unembed.plain(like), cap)
        norm = FrozenNorm.of(lambda x: running.normed(model, x), like)
        return cls(norm, model.unembed.weight, bias, cap)


def uncapped(logits: Tensor, cap: float) -> Tensor:
    """Logits, wide, before the soft cap c tanh(x / c); as they are for c = 0."""
    logits = wide(logits)
    return logits if cap == 0 else cap * (logits / cap).atanh()
