"""What a study of halting came to: every rule at its operating points, beside fixed depth, random exits and the oracle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import CheckpointError, InputError, nearest
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ORACLE = "oracle"
METRICS = (
    "depth", "flops", "nll", "agreement", "accuracy", "oracle_error", "random_nll", "random_agreement",
    "against_random", "against_fixed", "spearman_nll", "spearman_entropy", "spearman_frequency",
    "spearman_position",
)  # fmt: skip
CLASS_METRICS = ("depth", "nll", "agreement")
TOLERANCES = (0.0, 0.01)
"""Nats above full depth's NLL that still count as equal perplexity: none, and about 1 % of perplexity."""


@dataclass(frozen=True, eq=False, kw_only=True)
class HaltingStudy(Result):
    """Halting rules over a corpus. Over tokens with a next one in their window; NaN where undefined.

    The first point of a rule is its default threshold, the others are thresholds chosen on a sample for a mean depth.
    Intervals: percentile bootstrap of 95 %, documents drawn with replacement (in at most 128 groups), the same draws for all,
    so differences are paired; NaN with fewer than two. A replay: it assumes kv="full". Source: ANALYSES 24 to 28.
    """

    title: ClassVar[str] = "Halting over a corpus"
    formula: ClassVar[str] = (
        "FLOPs per token = F_head + Σ_{i<k} F_i + F_tail + F_unembed + the rule's own read-outs, k its exit step"
    )

    data: str
    n_tokens: int
    n_undefined: int
    """Tokens left out because some prediction was NaN or infinite."""
    n_documents: int
    rules: tuple[dict[str, Any], ...]
    """Name, title, formula, unit, direction and settings; the last is the oracle, argmin_k NLL_k + τ k."""
    thresholds: np.ndarray
    """[rule, point]."""
    metrics: dict[str, np.ndarray]
    """[rule, point, (value, low, high)] each of METRICS. Differences are of NLL in nats, below 0 where the rule is better:
    against the same exits dealt at random, and against the best one depth for all of at most its FLOPs, its own cost counted."""
    ece: np.ndarray
    """[rule, point] calibration error of the top token's probability at exit, 15 bins."""
    auroc: np.ndarray
    """[rule, point] of that probability for telling wrong next tokens from right ones."""
    auroc_error: np.ndarray
    """[rule, point] the most that its 960 bins may hide."""
    never_right: float
    """Share of tokens whose next token is the top one after no k; the signed oracle error leaves them out."""
    histogram: np.ndarray
    """[rule, point, k] share of tokens that exit after k."""
    classes: tuple[str, ...]
    class_sizes: np.ndarray
    """[class] tokens."""
    by_class: dict[str, np.ndarray]
    """[rule, point, class, (value, low, high)] each of CLASS_METRICS, over documents that hold the class."""
    exits_by_class: np.ndarray
    """[rule, point, class, k] tokens that exit after k."""
    fixed_nll: np.ndarray
    """[k, (value, low, high)] NLL of all tokens at one depth."""
    fixed_agreement: np.ndarray
    """[k]."""
    fixed_flops: np.ndarray
    """[k] FLOPs per token; NaN for a bridged model."""
    saving: np.ndarray
    """[rule, tolerance, (value, low, high)] most FLOPs saved, as a share of full depth, along the rule's frontier at an NLL
    at most that of full depth plus the tolerance; points between two thresholds are mixtures of both."""
    fixed_saving: np.ndarray
    """[tolerance, (value, low, high)] the same with one depth for all, the control."""
    milliseconds: np.ndarray
    """[rule, point] measured, per 1,000 tokens; NaN where nothing was timed."""
    live_nll: np.ndarray
    """[rule, point] mean NLL of the timed runs themselves, which serve fewer keys and read fewer tokens than the study."""
    kv_error: np.ndarray
    """[rule, point] mean KL of those runs from the same exits with all keys, nats (`probes.kv_sharing`)."""
    fixed_milliseconds: np.ndarray
    """[k] milliseconds of all tokens at one depth."""
    live_fixed_nll: np.ndarray
    """[k] mean NLL of the timed tokens at one depth."""

    @property
    def report_views(self) -> tuple[dict[str, Any], ...]:
        """What a report shows; milliseconds where any were measured."""
        timed = ({"x": "milliseconds"},) if np.isfinite(self.milliseconds).any() else ()
        return ({}, *timed, {"view": "against"}, {"view": "classes"}, {"view": "exits"})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules, the oracle last."""
        return tuple(rule["name"] for rule in self.rules)

    def index(self, rule: str) -> int:
        """Its number. Errors: InputError for one that was not studied."""
        if rule not in self.names:
            known = ", ".join(self.names)
            raise InputError(f"rule={rule!r}: studied were {known}.{nearest(rule, self.names)}")
        return self.names.index(rule)

    def point_at(self, rule: str, depth: float) -> int:
        """The point of `rule` whose mean depth is closest."""
        found = np.abs(self.metrics["depth"][self.index(rule), :, 0] - depth)
        return int(np.nanargmin(found))

    def verdict(self, rule: str, point: int) -> str:
        """One sentence: are these the right tokens, or is it only shallower?"""
        i = self.index(rule)
        value, low, high = self.metrics["against_random"][i, point]
        _, fixed_low, fixed_high = self.metrics["against_fixed"][i, point]
        title, depth = self.rules[i]["title"], self.metrics["depth"][i, point, 0]
        if not np.isfinite(low):
            return f"{title}: too few documents, or depths too alike, to tell its choice of tokens from chance."
        which = (
            "puts compute on the right tokens"
            if high < 0
            else "puts compute on the wrong tokens"
            if low > 0
            else "cannot be told from exits dealt at random"
        )
        pays = "; what it costs in FLOPs is not counted for this model"
        if np.isfinite(self.fixed_flops).all():
            pays = ""
        if np.isfinite(fixed_low):
            pays = (
                "; with its own cost it beats one depth for all"
                if fixed_high < 0
                else "; with its own cost one depth for all is better"
                if fixed_low > 0
                else "; with its own cost it is no better and no worse than one depth for all"
            )
        return (
            f"{title} at {depth:.2f} of {self.n_iters} iterations {which} "
            f"({value:+.4f} nats [{low:+.4f}, {high:+.4f}]){pays}."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per rule and point, and one per fixed depth."""
        import pandas as pd

        n_rules, n_points = self.thresholds.shape
        r, p = (x.ravel() for x in np.indices((n_rules, n_points)))
        columns: dict[str, Any] = {
            "rule": np.array(self.names)[r],
            "point": p,
            "threshold": self.thresholds.ravel(),
        }
        for name, found in self.metrics.items():
            for suffix, x in zip(("", "_low", "_high"), np.moveaxis(found, -1, 0), strict=True):
                columns[name + suffix] = x.ravel()
        for name in ("ece", "auroc", "auroc_error", "milliseconds", "live_nll", "kv_error"):
            columns[name] = getattr(self, name).ravel()
        for i, name in enumerate(self.classes):
            for what, found in self.by_class.items():
                for suffix, x in zip(("", "_low", "_high"), np.moveaxis(found, -1, 0), strict=True):
                    columns[f"{what}{suffix} of {name}"] = x[..., i].ravel()
        depth = np.arange(len(self.fixed_nll))
        fixed = pd.DataFrame(
            {
                "rule": "fixed", "point": depth, "depth": depth.astype(float), "flops": self.fixed_flops,
                "nll": self.fixed_nll[:, 0], "nll_low": self.fixed_nll[:, 1],
                "nll_high": self.fixed_nll[:, 2], "agreement": self.fixed_agreement,
                "milliseconds": self.fixed_milliseconds, "live_nll": self.live_fixed_nll,
            }
        )  # fmt: skip
        return pd.concat([pd.DataFrame(columns), fixed], ignore_index=True)

    def figure(self, *, theme: str = "light", view: str = "frontier", **options: Any) -> go.Figure:
        """`view="frontier"` (x="flops", "depth" or "milliseconds"; rules=, mark=(rule, point)), `"saving"`, the iso-FLOPs test
        `"against"`, or the marked point's `"classes"` and `"exits"`."""
        from probes.figures import halting_study as figures

        return figures.draw(self, view=view, theme=theme, **options)

    @classmethod
    def read(cls, folder: str | Path) -> HaltingStudy:
        """The result in a folder that `study` finished. Errors: CheckpointError where there is none."""
        path = Path(folder) / "result.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files if name != "meta"}
                meta = json.loads(str(stored["meta"]))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CheckpointError(f"{path}: holds no finished study ({error}).") from error
        result = cls.from_arrays(arrays, meta)
        assert isinstance(result, cls)
        return result

    def write(self, folder: Path) -> None:
        """result.npz, which `read` reads, and table.parquet."""
        arrays, meta = self.to_arrays()
        with open(folder / "result.npz", "wb") as file:
            np.savez(file, **{**arrays, "meta": np.array(json.dumps(meta))})  # type: ignore[arg-type]
        self.save(folder / "table.parquet", overwrite=True)
