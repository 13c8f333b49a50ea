"""Risk control of a halting threshold: Learn then Test, with p-values of Hoeffding and Bentkus, by document.

The loss of a document is the share of its tokens whose top token at exit is not that of full depth. Documents are taken to be
independent and alike; tokens need not be. Thresholds are tested from the safest on, and testing stops at the first that cannot be
shown to hold; then with probability at least 1 − δ over the documents, the chosen one's expected loss is at most the target.

Sources: Angelopoulos et al. 2021 (arXiv 2110.01052); Bates et al. 2021 (arXiv 2101.02703), the p-value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes.early_exit import thresholds as levels
from probes.early_exit.shards import Tokens
from probes.early_exit.study import tokens_of
from probes.early_exit.study_config import StudyConfig
from probes.early_exit.study_result import HaltingStudy
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

N_THRESHOLDS = 32
N_BOOTSTRAP = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class RiskControl(Result):
    """A threshold that was certified on some documents, and what it does on the others."""

    title: ClassVar[str] = "Risk control of a halting threshold"
    formula: ClassVar[str] = (
        "risk = mean over documents of the share of tokens whose top token at exit is not that of full depth; "
        "p = min(exp(−n h(risk, target)), e P(Bin(n, target) ≤ ⌈n risk⌉)), tested from the safest threshold on"
    )

    rule: dict[str, Any]
    """Name, title, formula, unit, direction and settings."""
    target: float
    """Greatest share of tokens that may differ from full depth."""
    delta: float
    """Probability that the target may be missed."""
    thresholds: np.ndarray
    """[threshold] in the order tested, the safest first."""
    risk: np.ndarray
    """[threshold] on the calibration documents."""
    p_value: np.ndarray
    """[threshold] that the risk is above the target."""
    depth: np.ndarray
    """[threshold] mean exit step on the calibration documents."""
    chosen: int
    """Number of the last threshold that held; -1 where none did, and all tokens run to full depth."""
    test_risk: np.ndarray
    """[threshold, (value, low, high)] on the test documents, with a 95 % bootstrap interval."""
    test_depth: np.ndarray
    """[threshold] mean exit step on the test documents."""
    n_documents: tuple[int, int]
    """For calibration and for the test."""

    @property
    def threshold(self) -> float:
        """The certified one; NaN where none is."""
        return float(self.thresholds[self.chosen]) if self.chosen >= 0 else float("nan")

    def sentence(self) -> str:
        """What was certified, and whether the test bears it out."""
        title, (n, _) = self.rule["title"], self.n_documents
        if self.chosen < 0:
            return (
                f"{title}: {n} documents certify no threshold for a share of {self.target:g} at δ = {self.delta:g}; "
                "all tokens run to full depth."
            )
        value, low, high = self.test_risk[self.chosen]
        return (
            f"{title} at τ = {self.threshold:.3g}: certified that at most {self.target:g} of the tokens differ from full depth "
            f"(δ = {self.delta:g}); on other documents {value:.4f} [{low:.4f}, {high:.4f}] do, at "
            f"{self.test_depth[self.chosen]:.2f} of {self.n_iters} iterations."
        )

    def row(self) -> dict[str, Any]:
        """The certified threshold and its test in plain JSON types; null where none was certified."""
        held = self.chosen >= 0
        test = self.test_risk[self.chosen].tolist() if held else [None] * 3
        return {
            "rule": self.rule["name"], "target": self.target, "delta": self.delta,
            "threshold": self.threshold if held else None,
            "depth": float(self.test_depth[self.chosen]) if held else float(self.n_iters),
            **dict(zip(("test_risk", "test_low", "test_high"), (x if x == x else None for x in test), strict=True)),
            "n_documents": list(self.n_documents),
        }  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """One row per threshold, in the order tested."""
        import pandas as pd

        columns = {
            "threshold": self.thresholds,
            "risk": self.risk,
            "p_value": self.p_value,
            "depth": self.depth,
        }
        test = dict(zip(("test_risk", "test_low", "test_high"), self.test_risk.T, strict=True))
        held = np.arange(len(self.thresholds)) <= self.chosen
        return pd.DataFrame({**columns, **test, "test_depth": self.test_depth, "holds": held})

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Risk against mean depth on both halves, the target and the chosen threshold."""
        from probes.figures import halting_risk as figures

        return figures.draw(self, theme=theme)


def check_target(target: float, delta: float = 0.1) -> None:
    """Errors: InputError for a target share or a δ outside 0…1."""
    for name, value in (("target", target), ("delta", delta)):
        if not 0 < value < 1:
            raise InputError(f"{name}={value!r}: expected above 0, below 1.")


def p_values(risk: np.ndarray, n: int, target: float) -> np.ndarray:
    """[threshold] Hoeffding-Bentkus p-values of "the expected loss is above `target`", losses in 0…1 of n documents.

    Errors: InputError for a target outside 0…1 or no documents.
    """
    from scipy.stats import binom

    check_target(target)
    if n < 1:
        raise InputError(f"n={n!r}: expected at least one document.")
    risk = np.asarray(risk, float)
    a = np.minimum(risk, target)
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = np.where(a > 0, a * np.log(a / target), 0.0) + np.where(
            a < 1, (1 - a) * np.log((1 - a) / (1 - target)), 0.0
        )
    hoeffding = np.exp(-n * divergence)
    # a sum of shares may miss its whole number by rounding
    bentkus = np.e * binom.cdf(np.ceil(n * risk - 1e-9), n, target)
    return np.where(np.isnan(risk), 1.0, np.minimum(1.0, np.minimum(hoeffding, bentkus)))


def certify(losses: np.ndarray, target: float, delta: float) -> tuple[int, np.ndarray]:
    """Number of the last threshold that holds (-1 if none), and all p-values; losses [document, threshold], safest first.

    Fixed-sequence testing: each hypothesis at level δ, until the first that is not rejected. Errors: InputError.
    """
    check_target(target, delta)
    losses = np.asarray(losses, float)
    if losses.ndim != 2 or not losses.size:
        raise InputError(f"losses: shape {losses.shape}, expected [document, threshold].")
    if losses.min() < 0 or losses.max() > 1 or np.isnan(losses).any():
        raise InputError("losses: expected shares from 0 to 1.")
    p = p_values(losses.mean(0), len(losses), target)
    failed = p > delta
    return int(failed.argmax()) - 1 if failed.any() else len(p) - 1, p


def control_risk(
    folder: Any, rule: str, *, target: float = 0.05, delta: float = 0.1, seed: int = 0,
    n_thresholds: int = N_THRESHOLDS,
) -> RiskControl:  # fmt: skip
    """Certify a threshold of `rule` on half of a finished study's documents and test it on the other half.

    folder: of `study`. The thresholds tested are those of evenly spaced mean depths on the other half, by the rule's values:
    chosen without a look at the calibration documents. Errors: InputError for an unknown rule, target or δ, or fewer than
    two documents; CheckpointError.
    """
    config = StudyConfig(data="", out=str(folder))
    result = HaltingStudy.read(config.folder)
    i = result.index(rule)
    if i == len(result.rules) - 1:
        raise InputError(f"rule={rule!r}: no rule that could be used.")
    about = result.rules[i]
    documents = np.unique(np.concatenate([np.unique(t.document) for t in tokens_of(config.folder)]))
    if len(documents) < 2:
        raise InputError(
            f"folder={str(folder)!r}: {len(documents)} document; expected two at least."
        )
    order = np.random.default_rng(seed).permutation(documents)
    half = np.sort(order[: (len(order) + 1) // 2])
    grid = _grid(
        about,
        i,
        tokens_of(config.folder),
        np.setdiff1d(documents, half),
        n_thresholds,
        result.n_iters,
    )
    risk, depth = _by_document(about, i, tokens_of(config.folder), documents, grid)
    own = np.isin(documents, half)
    chosen, p = certify(risk[own], target, delta)
    return RiskControl(
        model=result.model, tokens=(), n_iters=result.n_iters, rule=about, target=target, delta=delta,
        thresholds=grid, risk=risk[own].mean(0), p_value=p, depth=depth[own].mean(0), chosen=chosen,
        test_risk=_with_interval(risk[~own], seed), test_depth=depth[~own].mean(0),
        n_documents=(int(own.sum()), int((~own).sum())),
    )  # fmt: skip


def _grid(
    rule: dict[str, Any], i: int, shards: Iterable[Tokens], of: np.ndarray, n: int, r: int
) -> np.ndarray:
    """[threshold] safest first; from the values of a bounded sample of the tokens of documents `of`."""
    held = np.zeros((r + 1, 0), np.float32)
    draws = np.zeros(0, np.uint64)
    for tokens in shards:
        mine = np.isin(tokens.document, of)
        held = np.concatenate([held, tokens.values[i][:, mine]], 1)
        draws = np.concatenate([draws, tokens.draws[mine]])
        first = np.argsort(draws, kind="stable")[:4096]
        held, draws = held[:, first], draws[first]
    targets = np.linspace(r, min(rule["min_iters"], r), n)
    found = np.unique([levels.at_depth(rule, held, t) for t in targets])
    return found[::-1] if rule["stops"] == "at_least" else found


def _by_document(
    rule: dict[str, Any], i: int, shards: Iterable[Tokens], documents: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[document, threshold] share that differs, and mean exit step."""
    sums = np.zeros((2, len(documents), len(grid)))
    n = np.zeros(len(documents))
    for tokens in shards:
        at = np.searchsorted(documents, tokens.document)
        n += np.bincount(at, minlength=len(documents))
        for j, threshold in enumerate(grid):
            steps = levels.exit_steps(rule, tokens.values[i], float(threshold))
            differs = ~tokens.agrees[steps, np.arange(len(tokens))]
            for row, x in zip(sums, (differs, steps), strict=True):
                row[:, j] += np.bincount(at, x, len(documents))
    return sums[0] / n[:, None], sums[1] / n[:, None]


def _with_interval(losses: np.ndarray, seed: int) -> np.ndarray:
    """[threshold, 3] mean over documents, and its bootstrap interval."""
    value = losses.mean(0)
    if len(losses) < 2:
        return np.stack([value, np.full_like(value, np.nan), np.full_like(value, np.nan)], -1)
    drawn = np.random.default_rng(seed).integers(len(losses), size=(N_BOOTSTRAP, len(losses)))
    low, high = np.quantile(losses[drawn].mean(1), [0.025, 0.975], axis=0)
    return np.stack([value, low, high], -1)
