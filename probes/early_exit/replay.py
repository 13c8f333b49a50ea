"""Halting rules, replayed from one deep run (ANALYSES 25).

The model runs once to full depth; every rule's value is taken at every k, with the prediction and the
NLL that an exit there would give. Thresholds are then a matter of arrays: `.at(rule, threshold)` and
`.sweep(rule)` never touch the model. The replay equals a live run that keeps the keys and values of
every iteration for all tokens (`kv="full"`); it says nothing about rules that drop them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from abbie_lens import halting as rules_module
from abbie_lens.errors import InputError, nearest
from abbie_lens.halting import HaltingPolicy
from probes import decoding, exits
from probes.early_exit.outcome import EXIT_FORMULA, HaltingOutcome, HaltingSweep
from probes.early_exit.watch import named, watched
from probes.inputs import prepare
from probes.result import Result
from probes.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MAX_THRESHOLDS = 41


@dataclass(frozen=True, eq=False, kw_only=True)
class Halting(Result):
    """Every rule's value at every token and iteration, with what an exit there would predict."""

    title = "Halting rules, replayed"
    formula = EXIT_FORMULA

    rules: tuple[dict[str, Any], ...]
    """Name, title, formula, unit, direction and default settings of each rule."""
    values: np.ndarray
    """[rule, k, batch, pos] the rule's value, k = 0…r; NaN where undefined."""
    nll: np.ndarray
    """[k, batch, pos] NLL of the next token when read out after k, nats; NaN without one."""
    prediction: np.ndarray
    """[k, batch, pos] most probable token id after k; -1 where the prediction is NaN."""
    valid: np.ndarray
    """[batch, pos] real tokens, not padding."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules."""
        return tuple(rule["name"] for rule in self.rules)

    @property
    def agrees(self) -> np.ndarray:
        """[k, batch, pos] 1 where the top token is that of full depth, 0 where not, NaN if undefined."""
        agrees = (self.prediction == self.prediction[-1]).astype(float)
        undefined = (self.prediction < 0) | (self.prediction[-1] < 0) | ~self.valid
        return np.where(undefined, np.nan, agrees)

    @property
    def diverged_at(self) -> np.ndarray:
        """[batch, pos] first k whose prediction is NaN; -1 if none."""
        bad = (self.prediction < 0) & self.valid
        return np.where(bad.any(0), bad.argmax(0), -1)

    def rule(self, name: str) -> tuple[dict[str, Any], np.ndarray]:
        """The rule called `name` and its values [k, batch, pos]. Errors: InputError if it was not replayed."""
        if name not in self.names:
            known = ", ".join(self.names)
            raise InputError(f"rule={name!r}: replayed were {known}.{nearest(name, self.names)}")
        i = self.names.index(name)
        return self.rules[i], self.values[i]

    def at(
        self, rule: str, threshold: float | None = None, min_iters: int | None = None
    ) -> HaltingOutcome:
        """Exit steps of `rule` at a threshold (its own default if None), from the stored values.

        Errors: InputError for an unknown rule, NaN threshold, or min_iters outside 0…r.
        """
        about, values = self.rule(rule)
        threshold = float(about["threshold"] if threshold is None else threshold)
        least = min(about["min_iters"], self.n_iters) if min_iters is None else min_iters
        if np.isnan(threshold):
            raise InputError("threshold=nan: expected a number.")
        if not 0 <= least <= self.n_iters:
            raise InputError(f"min_iters={least}: expected 0 to r={self.n_iters}.")
        steps, fired = exits.exit_steps(
            values, threshold, about["stops"], least, about["max_iters"]
        )
        agrees, valid, scored = self.agrees, self.valid, self._scored
        mean_steps = exits.mean_or_nan(steps[valid])
        mean_scored = exits.mean_or_nan(steps[scored])
        random_agreement = exits.random_exit(agrees[:, valid], steps[valid])
        random_nll = exits.random_exit(self.nll[:, scored], steps[scored])
        nll_exit = exits.at_exit(self.nll, steps)
        return HaltingOutcome(
            model=self.model,
            tokens=self.tokens,
            n_iters=self.n_iters,
            rule=about,
            threshold=threshold,
            min_iters=least,
            values=values,
            agrees=agrees,
            exit_step=np.where(valid, steps, -1),
            fired=fired & valid,
            diverged_at=self.diverged_at,
            nll_exit=nll_exit,
            nll_full=self.nll[-1],
            histogram=np.bincount(steps[valid], minlength=self.n_iters + 1),
            mean_steps=mean_steps,
            mean_steps_scored=mean_scored,
            agreement=exits.mean_or_nan(exits.at_exit(agrees, steps)[valid]),
            mean_nll_exit=exits.mean_or_nan(nll_exit[scored]),
            mean_nll_full=exits.mean_or_nan(self.nll[-1][scored]),
            fixed_agreement=exits.fixed_depth(agrees[:, valid], mean_steps),
            fixed_nll=exits.fixed_depth(self.nll[:, scored], mean_scored),
            random_agreement=random_agreement[0],
            random_agreement_sd=random_agreement[1],
            random_nll=random_nll[0],
            random_nll_sd=random_nll[1],
        )

    def sweep(
        self, rule: str, thresholds: Sequence[float] | None = None, *, also: Sequence[float] = (),
        flops: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> HaltingSweep:  # fmt: skip
        """`rule` over `thresholds`; by default up to 41 quantiles of its values, and `also`.

        flops: [k] of a token at one depth, and of one that exits by the rule (`early_exit.costs.flops_by_exit`).
        """
        about, values = self.rule(rule)
        if thresholds is None:
            taken = _levels(values[about["min_iters"] :, self.valid], about["threshold"])
            levels = np.union1d(taken, also)
        else:
            levels = np.asarray(thresholds, dtype=float)
        if about["stops"] == "at_least":
            levels = levels[::-1] if thresholds is None else levels
        outcomes = [self.at(rule, float(level)) for level in levels]
        column = lambda name: np.array([getattr(o, name) for o in outcomes])  # noqa: E731
        agrees, nll = self.agrees[:, self.valid], self.nll[:, self._scored]
        oracle_steps, oracle_nll = exits.oracle(nll)
        cost: dict[str, np.ndarray] = {}
        if flops is not None:
            fixed, own = (x / flops[0][-1] for x in flops)
            shares = np.array([o.histogram for o in outcomes]) / max(self.valid.sum(), 1)
            cost = {"flops": shares @ own, "random_flops": shares @ fixed, "fixed_flops": fixed}
        return HaltingSweep(
            model=self.model,
            tokens=self.tokens,
            n_iters=self.n_iters,
            rule=about,
            thresholds=levels,
            mean_steps=column("mean_steps"),
            mean_steps_scored=column("mean_steps_scored"),
            agreement=column("agreement"),
            nll=column("mean_nll_exit"),
            random_agreement=column("random_agreement"),
            random_agreement_sd=column("random_agreement_sd"),
            random_nll=column("random_nll"),
            random_nll_sd=column("random_nll_sd"),
            fixed_agreement=np.array([exits.mean_or_nan(row) for row in agrees]),
            fixed_nll=np.array([exits.mean_or_nan(row) for row in nll]),
            oracle_steps=oracle_steps,
            oracle_nll=oracle_nll,
            **cost,
        )

    @property
    def _scored(self) -> np.ndarray:
        """[batch, pos] tokens that have a next one; a diverged NLL still counts, and is NaN."""
        following = np.zeros_like(self.valid)
        following[:, :-1] = self.valid[:, :-1] & self.valid[:, 1:]
        return following

    def to_frame(self) -> pd.DataFrame:
        """One row per real token and k: each rule's value, the prediction, agreement and NLL."""
        columns = dict(zip(self.names, self.values, strict=True))
        columns |= {"prediction_id": self.prediction, "agrees": self.agrees, "nll": self.nll}
        return tidy(self.tokens, columns, valid=self.valid)

    def figure(
        self,
        *,
        theme: str = "light",
        rule: str | None = None,
        threshold: float | None = None,
        batch: int = 0,
    ) -> go.Figure:
        """Values of `rule` (default: the first) over token × iteration, with the exits of a threshold."""
        return self.at(rule or self.names[0], threshold).figure(theme=theme, batch=batch)


def halting(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    rules: Sequence[str | HaltingPolicy] | None = None,
    attention_mask: Any = None,
) -> Halting:
    """Run `model` once to depth r and take every rule's value at every token and iteration.

    rules: names of `abbie_lens.halting.RULES` or policies of one's own; None takes all that say something of
    this model: `learned_gate` where the loop has a gate, else its values are NaN and it never stops a token.
    Errors: InputError for an unknown rule or bad input. Diverged values are NaN, never an error.
    Source: exit criteria of arXiv 2502.05171; formulas stand with each rule.
    """
    policies = named(rules_module.rules_for(model) if rules is None else rules)
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask)
    targets = decoding.next_tokens(inputs.tokens, inputs.mask)
    values, nll, prediction = [], [], []
    for seen, found in watched(model, inputs, policies):
        values.append(found)
        nll.append(decoding.nll(seen.log_probs, targets).cpu())
        prediction.append(seen.argmax.cpu())
    valid = inputs.valid
    return Halting(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        rules=tuple(policy.describe() for policy in policies),
        values=np.where(valid, torch.stack(values, 1).double().numpy(), np.nan),
        nll=torch.stack(nll).double().numpy(),
        prediction=np.where(valid, torch.stack(prediction).numpy(), -1),
        valid=valid,
    )


def _levels(values: np.ndarray, default: float) -> np.ndarray:
    """Thresholds that span what a rule took, plus one beyond it on the side where all or none fire."""
    finite = np.unique(values[np.isfinite(values)])
    if not finite.size:
        return np.array([default])
    if finite.size > MAX_THRESHOLDS:
        finite = np.unique(np.quantile(finite, np.linspace(0, 1, MAX_THRESHOLDS)))
    return np.append(finite, np.nextafter(finite[-1], np.inf))
