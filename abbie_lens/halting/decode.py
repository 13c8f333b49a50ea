"""Token after token with keys and values in place: every new token stops at its own depth.

The prompt is one pass, each further token another (`halting.one_pass.Pass`). Memory for all of them is taken once, and so are the
rotations of all positions; a single query sees every key there is and needs no mask. Without a policy all tokens take all iterations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abbie_lens.components.positions import rotary_table
from abbie_lens.context import Context
from abbie_lens.halting.one_pass import Pass
from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.kv_store import KVRule, KVStore


class Decoder:
    """Logits of the next token, pass by pass, for a generation of at most `capacity` tokens, prompt included."""

    def __init__(
        self,
        model: Any,
        n_iters: int,
        capacity: int,
        policy: HaltingPolicy | None,
        rule: KVRule,
    ) -> None:
        self.model, self.n_iters, self.policy, self.rule = model, n_iters, policy, rule
        self.store = KVStore(rule, capacity)
        self.positions = torch.arange(capacity, device=model.device)[None]
        self.rotary = rotary_table(model.cfg, self.positions, model.dtype)
        self.exits: list[Tensor] = []
        """[1, new] iterations of the tokens of each pass."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits [d_vocab] after new tokens [1, new]; more than one in the first pass alone."""
        model, past = self.model, self.store.n_past
        new = slice(past, past + tokens.shape[1])
        rotary = self.rotary
        if rotary is not None:
            rotary = (rotary[0][:, new], rotary[1][:, new])
        context = Context(self.positions[:, new], None, rotary, tokens=tokens)
        with torch.no_grad(), model.lock:
            model.check_asked(self.n_iters)
            one = Pass(
                model, self.policy, self.rule, self.store, tokens, None, self.n_iters, context
            )
            one.run({})
            logits = one.read_exits(last=True)[0, -1]
        self.store.finish(
            {
                b: model.rows(f"body.{b}.hook_resid_pre", one.k)
                for b in range(model.cfg.n_body_blocks)
            }
        )
        self.exits.append(one.exits)
        return logits
