"""A run whose tokens halt: those that do leave the batch, and nothing of theirs is computed again.

    run = halted(model, tokens, 16, policy, kv="reuse")       # run.logits, run.exits, run.kv_bytes

It is begin, steps and a read-out as always, on packed rows (`abbie_lens.rows`): one row for each token that goes on.
Padding is never packed. Attention asks with these rows and sees the keys of all tokens, as the rule of `abbie_lens.kv_store`
says; the Body stops when no row is left. With kv="full" all tokens are computed on, and each is read out at its exit.

Rules on logits read out the rows that go on, at every look. There the Tail sees of others what they had at their own last
read-out. Exits are read out at the end, in one pass of the Tail over the last read-out state of every token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abbie_lens.context import make_context
from abbie_lens.errors import InputError
from abbie_lens.halting.one_pass import Pass
from abbie_lens.halting.packing import Computed
from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.kv_store import KVRule, KVStore, kv_rule

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


@dataclass(frozen=True, eq=False)
class HaltedRun:
    """What a run with a halting policy gave."""

    logits: Tensor
    """[batch, pos, d_vocab] read out of every token's last z; NaN at padding."""
    exits: Tensor
    """[batch, pos] iterations each token took; -1 for padding."""
    h: Tensor
    """[batch, pos, d_model] the last state of every token; NaN at padding."""
    z: Tensor
    """[batch, pos, d_model] the last read-out state of every token; NaN at padding."""
    n_iters: int
    """Planned depth."""
    rule: KVRule
    """Which keys and values halted tokens serve."""
    real: Computed
    """All tokens but padding: what `begin` computed."""
    iterations: tuple[Computed, ...]
    """What each iteration of the Body computed, as many as ran."""
    looks: tuple[Computed, ...]
    """What each read-out while the run went on computed: for the policy, and with kv="full" at exits."""
    asked: tuple[tuple[int, int], ...]
    """(k, tokens) of each time the policy asked the loop's gate."""
    readout: Computed
    """What the final read-out computed; nothing with kv="full"."""
    kv_bytes: tuple[int, ...]
    """Keys and values of the Body that a generation has to keep of these tokens, by iteration (or slot of the rule)."""
    n_keys: int
    """Positions that attention saw, padding counted."""


def halted(
    model: Any,
    tokens: Any,
    n_iters: int | None,
    policy: HaltingPolicy | str,
    kv: str = "reuse",
    *,
    attention_mask: Tensor | None = None,
    initial_state: Tensor | None = None,
    seed: int | None = None,
    token_type_ids: Tensor | None = None,
) -> HaltedRun:
    """Run tokens [batch, pos] or text to depth `n_iters` at most; each token stops where `policy` says.

    kv: which keys and values halted tokens serve: reuse, recompute, last, first, cyclic(N), or full, the reference, in
    which all tokens are computed on. Without gradients. Errors: InputError for an unknown rule, a policy that needs a gate
    of a loop without one, a family or model that cannot halt, or a token stopped before it has keys; DivergedError.
    """
    from abbie_lens.halting import policy as named

    policy = named(policy) if isinstance(policy, str) else policy
    rule = kv_rule(kv)
    require_halting(model, policy)
    with torch.no_grad(), model.lock:
        tokens, attention_mask, depth = model.checked(
            tokens, attention_mask, n_iters, initial_state, seed
        )
        context = make_context(
            model.cfg, tokens, attention_mask, None, model.dtype, depth, token_type_ids
        )
        model.check_asked(depth)
        start = {"initial_state": initial_state, "seed": seed}
        one = Pass(model, policy, rule, KVStore(rule), tokens, attention_mask, depth, context)
        one.run(start)
        logits = one.read_exits()
    return HaltedRun(
        logits=logits,
        exits=one.exits,
        h=one.h,
        z=one.z,
        n_iters=depth,
        rule=rule,
        real=one.begun,
        iterations=tuple(one.iterations),
        looks=tuple(one.looks),
        asked=tuple(one.asked),
        readout=one.read_out,
        kv_bytes=kept_bytes(model, rule, one.exits, depth),
        n_keys=tokens.shape[1],
    )


def require_halting(model: Any, policy: HaltingPolicy | None) -> None:
    """Errors: InputError for a model, a loop or a policy that do not go together."""
    loop: Any = getattr(getattr(model, "cfg", None), "loop", None)
    if not getattr(model, "packs", False):
        raise InputError("halting: a bridged model runs its source's own blocks, on all tokens.")
    if not loop.packs:
        raise InputError(
            f"halting: {loop.family} mixes tokens outside attention, so none can leave a run; "
            "replay the rule with probes.halting."
        )
    if model.training:
        raise InputError("halting: the model is in training mode; call model.eval() first.")
    if policy is not None and "exit_cdf" in policy.needs and not loop.gated:
        raise InputError(f"halting: {policy.name} needs a learned gate; {loop.family} has none.")


def kept_bytes(
    model: HookedLoopedTransformer, rule: KVRule, exits: Tensor, n_iters: int
) -> tuple[int, ...]:
    """Bytes of the Body's keys and values that tokens with these exits leave to later ones, by iteration or slot.

    Counted is what differs: a token's last keys, which it serves in all later iterations, count once.
    """
    cfg = model.cfg
    one = 2 * cfg.kv_heads * cfg.head_width * model.embed.weight.element_size()
    took = exits[exits >= 0]
    if rule.computes_all:
        took = torch.full_like(took, n_iters)
    blocks = [f"body.{b}.hook_resid_pre" for b in range(cfg.n_body_blocks)]
    ran = [sum(model.rows(name, k) for name in blocks) for k in range(n_iters + 1)]
    applied = [ran[k + 1] - (ran[k] if k else 0) for k in range(n_iters)]
    if rule.n_slots is not None:
        applied = applied[: rule.n_slots]
    return tuple(n * one * int((took > i).sum() if i else len(took)) for i, n in enumerate(applied))
