"""What a halting rule does at a threshold, and over all thresholds: the result objects of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from probes.labels import UNDEFINED, get_label
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

EXIT_FORMULA = "exit step of a token = least k ≥ k_min at which the rule fires; r if it never does"


@dataclass(frozen=True, eq=False, kw_only=True)
class HaltingOutcome(Result):
    """Exit steps of one rule at one threshold, with what they cost and what they save.

    Means are over real tokens, those of the NLL over tokens that have a next one; a diverged token
    makes a mean NaN. `random_*`: the same exit steps dealt to the tokens at random (exact mean and
    standard deviation); `fixed_*`: all tokens at the same depth, whose mean is the rule's.
    """

    title = "Halting"
    formula = EXIT_FORMULA

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "histogram"})

    rule: dict[str, Any]
    """Name, title, formula, unit, direction and parameters of the rule."""
    threshold: float
    min_iters: int
    """Least iterations before the rule may stop a token."""
    values: np.ndarray
    """[k, batch, pos] the rule's value, k = 0…r; NaN where undefined."""
    agrees: np.ndarray
    """[k, batch, pos] 1 where the top token is that of full depth, 0 where not; NaN if undefined."""
    exit_step: np.ndarray
    """[batch, pos] iterations spent on the token; -1 for padding."""
    fired: np.ndarray
    """[batch, pos] whether the rule fired; tokens that never fire exit at r."""
    diverged_at: np.ndarray
    """[batch, pos] first k whose prediction is NaN or infinite; -1 if none."""
    nll_exit: np.ndarray
    """[batch, pos] NLL of the next token at the exit step, nats; NaN without a next token."""
    nll_full: np.ndarray
    """[batch, pos] the same at full depth r."""
    histogram: np.ndarray
    """[k] tokens that exit after k iterations, k = 0…r."""
    mean_steps: float
    mean_steps_scored: float
    """Mean steps of the tokens that have a next one: the depth the NLL figures belong to."""
    agreement: float
    """Share of tokens whose top token at exit is that of full depth."""
    mean_nll_exit: float
    mean_nll_full: float
    fixed_agreement: float
    fixed_nll: float
    random_agreement: float
    random_agreement_sd: float
    random_nll: float
    random_nll_sd: float

    @property
    def n_never_fired(self) -> int:
        """Tokens that reached full depth without the rule firing."""
        return int((~self.fired & (self.exit_step >= 0)).sum())

    @property
    def n_diverged(self) -> int:
        """Tokens whose prediction became NaN or infinite at some k ≤ r."""
        return int((self.diverged_at >= 0).sum())

    def summary(self) -> dict[str, float]:
        """The numbers of the run, by name, in the order in which they are read."""
        names = (
            "mean_steps",
            "agreement",
            "fixed_agreement",
            "random_agreement",
            "mean_nll_exit",
            "mean_nll_full",
            "fixed_nll",
            "random_nll",
            "n_never_fired",
            "n_diverged",
        )
        return {name: getattr(self, name) for name in names}

    def to_frame(self) -> pd.DataFrame:
        """One row per real token: exit step, whether it fired, agreement, NLL at exit and full depth."""
        import pandas as pd

        batch, position = np.nonzero(self.exit_step >= 0)
        exits = self.exit_step[batch, position]
        return pd.DataFrame(
            {
                "batch": batch,
                "position": position,
                "token": [self.tokens[b][t] for b, t in zip(batch, position, strict=True)],
                "rule": self.rule["name"],
                "threshold": self.threshold,
                "exit_step": exits,
                "fired": self.fired[batch, position],
                "diverged_at": self.diverged_at[batch, position],
                "agrees": self.agrees[exits, batch, position],
                "nll_exit": self.nll_exit[batch, position],
                "nll_full": self.nll_full[batch, position],
            }
        )

    def by_class(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Classes of tokens (`probes.labels`), others last, and tokens [class, k] that exit after k."""
        label = get_label("current_class")
        counts = np.zeros((len(label.classes) + 1, self.n_iters + 1), int)
        for row, steps in zip(self.tokens, self.exit_step, strict=True):
            there = steps >= 0
            kinds = np.where((kinds := label(row)) == UNDEFINED, len(label.classes), kinds)
            np.add.at(counts, (kinds[there], steps[there]), 1)
        return (*label.classes, "other"), counts

    def figure(self, *, theme: str = "light", view: str = "map", batch: int = 0) -> go.Figure:
        """`view="map"`: exit step over token × iteration; `"text"`; `"histogram"` of exit steps; `"classes"` of tokens."""
        if view in ("text", "classes"):
            from probes.figures import halting_text

            if view == "text":
                return halting_text.draw(self, theme=theme, batch=batch)
            return halting_text.classes(self, theme=theme)
        from probes.figures import halting as figures

        return figures.outcome(self, view=view, batch=batch, theme=theme)


@dataclass(frozen=True, eq=False, kw_only=True)
class HaltingSweep(Result):
    """One rule over thresholds: depth spent against agreement and NLL, with both baselines."""

    title = "Halting: depth against quality"
    formula = EXIT_FORMULA

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"metric": "nll"})

    rule: dict[str, Any]
    thresholds: np.ndarray
    """[n] thresholds, from the deepest to the shallowest exit."""
    mean_steps: np.ndarray
    """[n] iterations per token."""
    mean_steps_scored: np.ndarray
    """[n] iterations per token that has a next one."""
    agreement: np.ndarray
    """[n] share of tokens whose top token at exit is that of full depth."""
    nll: np.ndarray
    """[n] mean NLL at exit, nats."""
    random_agreement: np.ndarray
    """[n] the same exit steps dealt at random: mean ..."""
    random_agreement_sd: np.ndarray
    """[n] ... and standard deviation."""
    random_nll: np.ndarray
    random_nll_sd: np.ndarray
    fixed_agreement: np.ndarray
    """[k] agreement when all tokens exit at k, k = 0…r."""
    fixed_nll: np.ndarray
    """[k] mean NLL when all tokens exit at k."""
    oracle_steps: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[m] mean steps of tokens that have a next one, when each exits where NLL_k + λ k is least, over λ: no rule at all."""
    oracle_nll: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[m] least mean NLL at that depth."""
    flops: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[n] FLOPs a token, the rule's own looks counted, as a share of full depth; empty where none were given."""
    random_flops: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[n] of the same exits dealt without looking."""
    fixed_flops: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[k] of all tokens at one depth."""

    def to_frame(self) -> pd.DataFrame:
        """One row per point of a curve: `series` is "rule", "random" or "fixed depth"."""
        import pandas as pd

        depth = np.arange(len(self.fixed_nll), dtype=float)
        steps = {"mean_steps": self.mean_steps, "mean_steps_scored": self.mean_steps_scored}
        curves = [
            {
                "series": "rule",
                "threshold": self.thresholds,
                **steps,
                "agreement": self.agreement,
                "nll": self.nll,
            },
            {
                "series": "random",
                "threshold": self.thresholds,
                **steps,
                "agreement": self.random_agreement,
                "agreement_sd": self.random_agreement_sd,
                "nll": self.random_nll,
                "nll_sd": self.random_nll_sd,
            },
            {
                "series": "fixed depth",
                "threshold": np.full_like(depth, np.nan),
                "mean_steps": depth,
                "mean_steps_scored": depth,
                "agreement": self.fixed_agreement,
                "nll": self.fixed_nll,
            },
        ]
        if len(self.oracle_nll):
            curves.append(
                {"series": "oracle", "mean_steps_scored": self.oracle_steps, "nll": self.oracle_nll}
            )
        frame = pd.concat([pd.DataFrame(curve) for curve in curves], ignore_index=True)
        if len(self.flops):
            depths = np.arange(len(self.fixed_flops))
            best = np.interp(self.oracle_steps, depths, self.fixed_flops)
            parts = [self.flops, self.random_flops, self.fixed_flops]
            frame["flops"] = np.concatenate([*parts, *([best] if len(self.oracle_nll) else [])])
        frame.insert(0, "rule", self.rule["name"])
        return frame

    def figure(
        self, *, theme: str = "light", metric: str = "agreement", x: str = "steps",
        threshold: float | None = None,
    ) -> go.Figure:  # fmt: skip
        """Quality (`metric` "agreement" or "nll") against `x`, mean "steps" or "flops"; `threshold` marks a point."""
        from probes.figures import halting as figures

        return figures.sweep(self, metric=metric, x=x, threshold=threshold, theme=theme)
