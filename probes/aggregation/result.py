"""What an analysis over a corpus came to: means with intervals, and quantiles, by metric, iteration and class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import CheckpointError, InputError, nearest
from probes.aggregation.config import AggregateConfig
from probes.aggregation.part import Part
from probes.labels.text import get_label
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from abbie_lens.info import ModelInfo

LEVELS = (0.1, 0.5, 0.9)
ALL, OTHER = "all tokens", "other"
N_BOOTSTRAP = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class CorpusAnalysis(Result):
    """Means, intervals and quantiles over a corpus; NaN where nothing is defined.

    Intervals are percentile bootstrap intervals of 95 %, whole documents drawn with replacement, for texts like these;
    NaN with fewer than two documents. Quantiles are of a uniform sample of each class's tokens, weighted by class for all.
    """

    title: ClassVar[str] = "Over a corpus"
    formula: ClassVar[str] = (
        "mean over tokens; 95 % interval by bootstrap over documents; quantiles of a sample of tokens"
    )

    analysis: str
    """What was run on every window."""
    data: str
    """The text."""
    n_tokens: int
    n_documents: int
    variants: tuple[str, ...]
    """Trained, random weights, shuffled text."""
    classes: tuple[str, ...]
    """All tokens first, then the label's classes, then those without one."""
    mean: dict[str, np.ndarray]
    """By metric [variant, class, iteration]."""
    low: dict[str, np.ndarray]
    """By metric [variant, iteration], of all tokens."""
    high: dict[str, np.ndarray]
    """By metric [variant, iteration], of all tokens."""
    quantile: dict[str, np.ndarray]
    """By metric [level, variant, class, iteration], levels 0.1, 0.5, 0.9."""
    count: dict[str, np.ndarray]
    """By metric [variant, class, iteration] tokens at which it is defined."""

    def to_frame(self) -> pd.DataFrame:
        """One row per metric, iteration, variant and class."""
        import pandas as pd

        frames = []
        for metric, mean in self.mean.items():
            v, c, k = (x.ravel() for x in np.indices(mean.shape))
            frame = pd.DataFrame(
                {
                    "metric": metric,
                    "iteration": k,
                    "variant": np.array(self.variants)[v],
                    "class": np.array(self.classes)[c],
                    "n_tokens": self.count[metric].ravel(),
                    "mean": mean.ravel(),
                    "low": np.where(c == 0, self.low[metric][v, k], np.nan),
                    "high": np.where(c == 0, self.high[metric][v, k], np.nan),
                }
            )
            for level, values in zip(LEVELS, self.quantile[metric], strict=True):
                frame[f"q{round(100 * level)}"] = values.ravel()
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def require(self, metric: str) -> str:
        """The metric's name. Errors: InputError for an unknown one."""
        if metric not in self.mean:
            known = ", ".join(self.mean)
            raise InputError(f"metric={metric!r}: known are {known}.{nearest(metric, self.mean)}")
        return metric

    def figure(self, *, theme: str = "light", **options: Any) -> go.Figure:
        """Small multiples by metric (`metrics=`); `by="variant"`, or `by="class"` for the trained model's classes."""
        from probes.figures import aggregation as figures

        return figures.draw(self, theme=theme, **options)

    @classmethod
    def read(cls, folder: str | Path) -> CorpusAnalysis:
        """The result in a folder that `aggregate` finished. Errors: CheckpointError where there is none."""
        path = Path(folder) / "result.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files if name != "meta"}
                meta = json.loads(str(stored["meta"]))
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CheckpointError(f"{path}: holds no finished analysis ({error}).") from error
        result = cls.from_arrays(arrays, meta)
        assert isinstance(result, cls)
        return result

    def write(self, folder: Path) -> None:
        """result.npz, which `read` reads, and table.parquet."""
        arrays, meta = self.to_arrays()
        with open(folder / "result.npz", "wb") as file:
            np.savez(file, **{**arrays, "meta": np.array(json.dumps(meta))})  # type: ignore[arg-type]
        self.save(folder / "table.parquet", overwrite=True)


def conclude(
    total: Part, rows: dict[str, int], info: ModelInfo, analysis: str, config: AggregateConfig
) -> CorpusAnalysis:
    """The result from everything folded; `rows` are iterations by metric, in the order of the columns."""
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = np.concatenate([total.sums.sum(1, keepdims=True), total.sums], axis=1)
        counts = np.concatenate([total.counts.sum(1, keepdims=True), total.counts], axis=1)
        mean = sums / np.where(counts > 0, counts, np.nan)
        low, high = _intervals(total, config.seed)
    quantile = _quantiles(total)
    ends = np.cumsum([0, *rows.values()])
    part = lambda x: {m: x[..., a:b] for m, a, b in zip(rows, ends, ends[1:], strict=False)}  # noqa: E731
    tokens_by_class = total.counts.max(axis=(0, 2))
    return CorpusAnalysis(
        model=info,
        tokens=(),
        n_iters=config.n_iters,
        analysis=analysis,
        data=config.data,
        n_tokens=int(tokens_by_class.sum()),
        n_documents=len(total.documents),
        variants=config.variants,
        classes=(ALL, *get_label(config.label).classes, OTHER),
        mean=part(mean),
        low=part(low),
        high=part(high),
        quantile=part(quantile),
        count=part(counts.astype(np.int64)),
    )


def _intervals(total: Part, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[variant, column] bounds of the mean over all tokens."""
    n, shape = len(total.documents), total.document_sums.shape[1:]
    if n < 2:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_BOOTSTRAP)
    sums, counts = (
        (weights @ x.reshape(n, -1)).reshape(-1, *shape)
        for x in (total.document_sums, total.document_counts)
    )
    means = np.where(counts > 0, sums / np.where(counts > 0, counts, 1), np.nan)
    undefined = np.isnan(means).all(0)
    low, high = np.nanquantile(np.where(undefined, 0.0, means), [0.025, 0.975], axis=0)
    return np.where(undefined, np.nan, low), np.where(undefined, np.nan, high)


def _quantiles(total: Part) -> np.ndarray:
    """[level, variant, all and class, column] of the sample; a class weighs what it counts."""
    sample = total.sample.astype(np.float64)
    n_classes, _, n_variants, n_columns = sample.shape
    out = np.full((len(LEVELS), n_variants, n_classes + 1, n_columns), np.nan)
    for v in range(n_variants):
        for column in range(n_columns):
            values = sample[:, :, v, column]
            there = np.isfinite(values)
            held = there.sum(1)
            weight = total.counts[v, :, column] / np.maximum(held, 1)
            for c in np.flatnonzero(held):
                out[:, v, c + 1, column] = np.quantile(values[c, there[c]], LEVELS)
            if held.any():
                weights = np.broadcast_to(weight[:, None], values.shape)[there]
                out[:, v, 0, column] = weighted_quantiles(values[there], weights, LEVELS)
    return out


def weighted_quantiles(
    values: np.ndarray, weights: np.ndarray, levels: tuple[float, ...]
) -> np.ndarray:
    """[level] smallest value up to which at least that share of the weight lies."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    at = np.minimum(np.searchsorted(share, levels), len(values) - 1)
    return values[order][at]
