"""What an intervention does to every prediction of a text: KL to the plain run's, and how much worse the next tokens are.

kl    mean over tokens of KL(p_plain ‖ p), nats
nll   mean over tokens of −log p(next) less that of the plain run, nats
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.halting.measures import kl_divergence, wide
from probes.decoding import next_tokens, nll
from probes.interventions.reruns import MOST_NUMBERS, MOST_ROWS, Reruns
from probes.numerics import host

MEASURES = ("kl", "nll")


class Effects:
    """Judges runs that part from a recorded one."""

    def __init__(self, run: Reruns) -> None:
        self.run, inputs = run, run.inputs
        self.valid = torch.from_numpy(inputs.valid).to(inputs.tokens.device)
        self.following = next_tokens(inputs.tokens, inputs.mask)
        with torch.no_grad():
            self.plain = wide(run.model.readout(run.states[-1])).log_softmax(-1)
        self.plain_nll = nll(self.plain, self.following)

    def chunk(self) -> int:
        """Runs at once, so that their logits stay below MOST_NUMBERS numbers."""
        pos, vocabulary = self.plain.shape[-2:]
        return max(1, min(MOST_ROWS, MOST_NUMBERS // (pos * vocabulary)))

    @torch.no_grad()
    def of(self, state: Any, index: Tensor) -> tuple[np.ndarray, Tensor]:
        """([measure, row], logits [row, d_vocab] of the last token) of runs from `state` on."""
        end = self.run.finished(state)
        logits = self.run.model.readout(end)
        found = wide(logits).log_softmax(-1)
        valid = self.valid[index]
        kl = kl_divergence(self.plain[index], found).where(valid, 0.0).sum(-1) / valid.sum(-1)
        worse = (nll(found, self.following[index]) - self.plain_nll[index]).nanmean(-1)
        rows = torch.arange(len(index), device=logits.device)
        return np.stack([host(kl), host(worse)]), logits[rows, self.run.at[index]]
