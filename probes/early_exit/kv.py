"""KV-sharing error (ANALYSES 29): what it changes that halted tokens serve old keys, or the only ones that are kept.

    e = KL(p_full ‖ p_rule) at every token, nats

p_full: the same exits with the keys and values of all iterations computed, read out of the same last states in one pass of
the Tail; p_rule: the live run. Exits are dealt from one run, that of `full`, so that nothing but the keys differs. A halting
study that replays a deep run reports p_full; what it saves is only to be had at p_rule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens import halting as rules_module
from abbie_lens.errors import InputError
from abbie_lens.halting import Decision, HaltingPolicy, Observation
from abbie_lens.halting.measures import kl_divergence, wide
from abbie_lens.halting.run import halted
from probes import decoding, exits
from probes.inputs import prepare
from probes.numerics import host
from probes.result import Result
from probes.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

KV_RULES = ("reuse", "recompute", "last", "first", "cyclic(2)")


@dataclass(frozen=True, eq=False, kw_only=True)
class KVSharing(Result):
    """What every rule on keys and values costs at the exits of one halting rule."""

    title = "KV-sharing error"
    formula = "KL(p_full ‖ p_rule) at the same exit steps, nats"

    rule: dict[str, Any]
    """The halting rule: name, title, formula, unit, direction and settings."""
    kv: tuple[str, ...]
    """Rules on keys and values."""
    exit_step: np.ndarray
    """[batch, pos] iterations spent on the token; -1 for padding."""
    error: np.ndarray
    """[kv, batch, pos] KL to the run with all keys, nats; NaN for padding."""
    nll: np.ndarray
    """[kv, batch, pos] NLL of the next token, nats; NaN without one."""
    nll_full: np.ndarray
    """[batch, pos] the same with all keys."""
    agrees: np.ndarray
    """[kv, batch, pos] 1 where the top token is that of the run with all keys; NaN for padding."""
    kv_bytes: np.ndarray
    """[kv] bytes of the Body's keys and values that a generation keeps of these tokens."""
    kv_bytes_full: int
    """The same with all keys of all iterations."""
    valid: np.ndarray
    """[batch, pos] real tokens, not padding."""

    @property
    def mean_error(self) -> np.ndarray:
        """[kv] mean over real tokens, nats."""
        return np.array([exits.mean_or_nan(row[self.valid]) for row in self.error])

    @property
    def kv_share(self) -> np.ndarray:
        """[kv] bytes kept, as a share of those of all tokens in all iterations."""
        return self.kv_bytes / self.kv_bytes_full

    def to_frame(self) -> pd.DataFrame:
        """One row per rule on keys and real token: exit step, error, agreement and NLL."""
        import pandas as pd

        frames = []
        for i, name in enumerate(self.kv):
            columns = {
                "kl_to_full": self.error[i : i + 1],
                "agrees": self.agrees[i],
                "nll": self.nll[i],
                "nll_full": self.nll_full,
                "exit_step": self.exit_step,
            }
            frame = tidy(self.tokens, columns, valid=self.valid).drop(columns="iteration")
            frame.insert(0, "kv", name)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Mean error of every rule, and the memory its keys take as a share of all."""
        from probes.figures import halting_kv as figures

        return figures.draw(self, theme=theme)


def kv_sharing(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    rule: str | HaltingPolicy = "direction_distance",
    kv: Sequence[str] = KV_RULES,
    attention_mask: Any = None,
) -> KVSharing:
    """Run `model` with every rule on keys and values at the exits that `rule` has with all of them.

    Errors: InputError for an unknown rule, or a family that cannot halt; DivergedError.
    """
    if isinstance(kv, str) or not kv or len(set(kv)) < len(kv):
        raise InputError(f"kv={kv!r}: expected a non-empty list of different names.")
    policy = rules_module.policy(rule) if isinstance(rule, str) else rule
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    reference = halted(model, inputs.tokens, n_iters, policy, "full", attention_mask=inputs.mask)
    real = torch.from_numpy(inputs.valid).to(reference.exits.device)
    if bool((reference.exits[real] == 0).any()):
        raise InputError(
            f"rule={policy.name!r}: stops tokens before the first iteration; set min_iters=1."
        )
    dealt = _Dealt(exits=reference.exits[real])
    with torch.no_grad():
        full = model.decode(reference.z.nan_to_num(0.0), inputs.mask, inputs.tokens)
        full = full.float().log_softmax(-1)
        targets = decoding.next_tokens(inputs.tokens, inputs.mask)
        errors, nll, agrees, kept = [], [], [], []
        for name in kv:
            run = halted(model, inputs.tokens, n_iters, dealt, name, attention_mask=inputs.mask)
            own = run.logits.float().log_softmax(-1)
            errors.append(host(kl_divergence(full, own)))
            nll.append(host(decoding.nll(own, targets)))
            agrees.append(host((own.argmax(-1) == full.argmax(-1)).double()))
            kept.append(sum(run.kv_bytes))
        nll_full = host(decoding.nll(full, targets))
    real_only = lambda rows: np.where(inputs.valid, np.stack(rows), np.nan)  # noqa: E731
    return KVSharing(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        rule=policy.describe(),
        kv=tuple(kv),
        exit_step=reference.exits.cpu().numpy(),
        error=real_only(errors),
        nll=real_only(nll),
        nll_full=np.where(inputs.valid, nll_full, np.nan),
        agrees=real_only(agrees),
        kv_bytes=np.array(kept),
        kv_bytes_full=sum(reference.kv_bytes),
        valid=inputs.valid,
    )


@dataclass(frozen=True)
class _Dealt(HaltingPolicy):
    """Exit steps of another run, [token]."""

    name = "dealt"
    title = "Exits of another run"
    formula = "k ≥ exit step"
    unit = "iterations"
    stops = "at_least"
    threshold: float = 0.0
    exits: Any = dataclasses.field(default=None, repr=False)

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        return wide(current.k - self._left(previous))

    def remember(self, current: Observation, previous: Decision | None) -> dict[str, Tensor]:
        return {"exits": self._left(previous)}

    def _left(self, previous: Decision | None) -> Tensor:
        return self.exits if previous is None else previous.memory["exits"]
