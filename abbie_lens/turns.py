"""Logits of the next token of each prompt of a batch, turn by turn, by the cache that the loop allows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abbie_lens.halting.decode import Decoder
from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.halting.run import halted
from abbie_lens.kv_store import kv_rule


class Turns:
    """Logits [batch, d_vocab] after each stretch of new tokens; keys and values of earlier ones are cached."""

    def __init__(self, model: Any, n_iters: int) -> None:
        self.model, self.n_iters = model, n_iters
        self.past: dict[Any, Any] | None = {}

    def __call__(self, new: Tensor, mask: Tensor | None) -> Tensor:
        """`new` [batch, any]; `mask` [batch, all so far] is 0 at padding and after a text's end, None: nowhere."""
        logits, self.past = self.model.run_cached(new, self.past, self.n_iters, mask)
        return logits[:, -1]

    @property
    def exits(self) -> Tensor:
        """[batch, pos] iterations of all tokens that were run, -1 for those that were not."""
        raise NotImplementedError


class Placed(Turns):
    """The same with keys and values in place, and tokens that may halt."""

    def __init__(self, model: Any, n_iters: int, decoder: Decoder) -> None:
        super().__init__(model, n_iters)
        self.decoder = decoder

    def __call__(self, new: Tensor, mask: Tensor | None) -> Tensor:
        return self.decoder(new, mask)

    @property
    def exits(self) -> Tensor:
        """[batch, pos] iterations of all tokens that were run, -1 for those that were not."""
        return torch.cat(self.decoder.exits, dim=1)


class Anew(Turns):
    """The same from the whole text every time, without a cache."""

    def __init__(self, model: Any, n_iters: int, policy: HaltingPolicy | None, kv: str) -> None:
        super().__init__(model, n_iters)
        self.policy, self.kv = policy, kv
        self.whole: Tensor | None = None

    def __call__(self, new: Tensor, mask: Tensor | None) -> Tensor:
        self.whole = new if self.whole is None else torch.cat([self.whole, new], dim=1)
        if self.policy is None:
            return self.model(self.whole, n_iters=self.n_iters, attention_mask=mask)[:, -1]
        self.run = halted(
            self.model, self.whole, self.n_iters, self.policy, self.kv, attention_mask=mask
        )
        return self.run.logits[:, -1]

    @property
    def exits(self) -> Tensor:
        """[batch, pos] iterations of all tokens that were run, -1 for those that were not."""
        return self.run.exits


def turns(
    model: Any, n_iters: int, n_tokens: int, policy: HaltingPolicy | None, kv: str, cached: bool
) -> Turns:
    """How a generation of at most `n_tokens`, prompt included, is run."""
    rule = kv_rule(kv)
    # The reference computes and reads out everything anew.
    if not cached or (policy is not None and rule.name == "full"):
        return Anew(model, n_iters, policy, kv)
    packs = model.packs and model.cfg.loop.packs
    if not packs or model.cfg.prefix_lm or model.training:
        return Turns(model, n_iters)
    return Placed(model, n_iters, Decoder(model, n_iters, n_tokens, policy, rule))
