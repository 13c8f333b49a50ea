"""Operating points of a study run live: milliseconds, and the NLL of the very runs that were timed.

A replay is what exits give with the keys of all iterations; a live run serves fewer. So time and NLL are of one run here, beside
fixed depths of the same tokens, and the KV-sharing error says what the keys alone change (`probes.kv_sharing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from abbie_lens.errors import DepthError, InputError
from abbie_lens.halting import HaltingPolicy
from abbie_lens.halting.run import halted
from probes import decoding, exits
from probes.early_exit.costs import median_milliseconds
from probes.early_exit.kv import kv_sharing
from probes.inputs import Inputs


@dataclass(frozen=True, eq=False)
class LivePoints:
    """What was measured; NaN for what the runtime refuses, and for the oracle, which is no rule."""

    milliseconds: np.ndarray
    """[rule, point] median, per 1,000 tokens."""
    nll: np.ndarray
    """[rule, point] mean NLL of the next token in those runs, nats."""
    kv_error: np.ndarray
    """[rule, point] mean KL from the same exits with all keys, nats."""
    fixed_milliseconds: np.ndarray
    """[k] of all tokens at one depth."""
    fixed_nll: np.ndarray
    """[k] of the same tokens."""


def nothing(shape: tuple[int, int], n_iters: int) -> LivePoints:
    """Nothing was run."""
    return LivePoints(
        *(np.full(shape, np.nan) for _ in range(3)), *np.full((2, n_iters + 1), np.nan)
    )


def measure(
    model: Any, inputs: Inputs, policies: Sequence[HaltingPolicy], levels: np.ndarray, kv: str
) -> LivePoints:
    """Run every rule at its thresholds `levels` [rule and oracle, point], and every fixed depth.

    NaN for what the runtime refuses: bridged models, families whose tokens meet outside attention, stops before keys are made.
    """
    n_iters = inputs.n_iters
    found = nothing((levels.shape[0], levels.shape[1]), n_iters)
    per = 1000 / int(inputs.valid.sum())
    tokens, mask = inputs.tokens, inputs.mask
    for i, policy in enumerate(policies):
        for j, threshold in enumerate(levels[i]):
            rule = policy.replace(threshold=float(np.clip(threshold, *policy.allowed)))
            if rule.threshold != threshold:
                continue  # beyond what the rule takes: only a replay can ask that
            try:
                run = halted(model, tokens, n_iters, rule, kv, attention_mask=mask)
            except (InputError, TypeError):
                continue
            found.nll[i, j] = mean_nll(run.logits, inputs)
            del run
            found.milliseconds[i, j] = per * median_milliseconds(
                lambda rule=rule: model(
                    tokens, n_iters=n_iters, attention_mask=mask, halting=rule, kv=kv
                ),
                model.device,
            )
            if kv != "full":
                shared = kv_sharing(
                    model, tokens, n_iters, rule=rule, kv=(kv,), attention_mask=mask
                )
                found.kv_error[i, j] = shared.mean_error[0]
    for k in range(1, n_iters + 1):
        run = lambda k=k: model(tokens, n_iters=k, attention_mask=mask)  # noqa: E731
        try:
            with torch.no_grad():
                found.fixed_nll[k] = mean_nll(run(), inputs)
            found.fixed_milliseconds[k] = per * median_milliseconds(run, model.device)
        except DepthError:
            continue
    return found


def mean_nll(logits: torch.Tensor, inputs: Inputs) -> float:
    """Mean NLL over tokens with a next one, nats; NaN without any. logits: [batch, pos, d_vocab] of `inputs`."""
    targets = decoding.next_tokens(inputs.tokens, inputs.mask)
    nll = decoding.nll(logits.float().log_softmax(-1), targets).cpu().double().numpy()
    return exits.mean_or_nan(nll[inputs.valid & np.isfinite(nll)])
