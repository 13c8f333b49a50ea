"""Token after token with keys and values in place: every new token of a batch stops at its own depth.

The prompts are one pass, each further token of all of them another (`halting.one_pass.Pass`). Memory for all of them is taken
once; where nothing is padded so are the rotations of all positions, and a single query sees every key there is and needs no
mask. Rows of the batch whose text has ended are not computed. Without a policy all tokens take all iterations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abbie_lens.components.positions import rotary_table
from abbie_lens.context import Context, allowed, position_ids
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
        """[batch, new] iterations of the tokens of each pass; -1 where none were run."""

    def __call__(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits [batch, d_vocab] after new tokens [batch, new]; more than one in the first pass alone.

        `mask` [batch, past + new] is 0 at padding, on the left, and after a text's end; None: nowhere. NaN where ended.
        """
        model = self.model
        new = None if mask is None else mask[:, self.store.n_past :]
        with torch.no_grad(), model.lock:
            model.check_asked(self.n_iters)
            context = self._context(tokens, mask)
            one = Pass(
                model, self.policy, self.rule, self.store, tokens, new, self.n_iters, context
            )
            one.run({})
            logits = one.read_exits(last=True)[:, -1]
        self.store.finish(
            {
                b: model.rows(f"body.{b}.hook_resid_pre", one.k)
                for b in range(model.cfg.n_body_blocks)
            }
        )
        self.exits.append(one.exits)
        return logits

    def _context(self, tokens: Tensor, mask: Tensor | None) -> Context:
        past, (_, n) = self.store.n_past, tokens.shape
        if mask is not None:
            positions = position_ids(mask, past, n, tokens.device)
            rotary = rotary_table(self.model.cfg, positions, self.model.dtype)
            return Context(positions, allowed(mask, past, n, tokens.device), rotary, tokens=tokens)
        new = slice(past, past + n)
        rotary = self.rotary
        if rotary is not None:
            rotary = (rotary[0][:, new], rotary[1][:, new])
        return Context(self.positions[:, new], None, rotary, tokens=tokens)
