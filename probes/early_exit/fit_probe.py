"""Fitting a linear exit probe: does N(z_k) tell that further iterations won't change the answer?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from abbie_lens.corpus import cut_windows, padded, read_documents, window_size
from abbie_lens.errors import InputError
from abbie_lens.halting import ExitProbe
from probes import decoding, running
from probes.inputs import prepare
from probes.numerics import host
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ITERATIONS = 60
MAX_DOCUMENTS = 64
"""Of a text given as a file: their states are held in memory."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ExitProbeFit(Result):
    """A fitted exit probe, judged on documents it has not seen, beside what needs no state at all."""

    title: ClassVar[str] = "Linear exit probe"
    formula: ClassVar[str] = (
        "σ(w · N(z_k) + b), fitted to: the top token after k is that after every later iteration"
    )

    weight: np.ndarray
    """[d_model]."""
    bias: float
    auroc: np.ndarray
    """[k] on test tokens after k; NaN where all or none are settled."""
    auroc_shuffled: np.ndarray
    """[k] of a probe fitted on shuffled labels."""
    settled: np.ndarray
    """[k] share of the test tokens that are settled after k."""
    n_documents: tuple[int, int]
    """For fitting and for the test."""

    def policy(self, threshold: float = 0.9, **settings: Any) -> ExitProbe:
        """The halting rule."""
        weight = torch.from_numpy(np.array(self.weight, np.float32))
        return ExitProbe(threshold=threshold, weight=weight, bias=self.bias, **settings)

    def sentence(self) -> str:
        """Where it tells most, beside shuffled labels."""
        fitted = self.auroc[1:-1]
        if not np.isfinite(fitted).any():
            return f"{self.title}: all test tokens are settled alike, nothing to tell apart."
        k = 1 + int(np.nanargmax(fitted))
        return (
            f"After {k} of {self.n_iters} iterations the probe tells settled tokens from others with an AUROC of "
            f"{self.auroc[k]:.2f}, one fitted on shuffled labels with {self.auroc_shuffled[k]:.2f}; "
            f"{self.settled[k]:.0%} are settled."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per iteration."""
        import pandas as pd

        return pd.DataFrame(
            {
                "iteration": np.arange(len(self.auroc)), "auroc": self.auroc,
                "auroc_shuffled": self.auroc_shuffled, "settled": self.settled,
            }
        )  # fmt: skip

    def figure(self, *, theme: str = "light") -> go.Figure:
        """AUROC by iteration, with shuffled labels beside, and how many tokens are settled."""
        from probes.figures import halting_risk as figures

        return figures.probe(self, theme=theme)


def some_documents(data: str) -> list[str]:
    """The first MAX_DOCUMENTS documents of a text. Errors: InputError for one that can't be read."""
    return list(islice(read_documents(data), MAX_DOCUMENTS))


def fit_exit_probe(
    model: Any,
    documents: list[str] | tuple[str, ...],
    n_iters: int = 16,
    *,
    penalty: float = 1e-3,
    test_share: float = 0.3,
    max_tokens: int = 512,
    seed: int = 0,
) -> ExitProbeFit:
    """Fit a probe on `documents`, split by document; of each the first `max_tokens` tokens are read, or what the context holds.

    One linear map for all iterations 1…r−1, logistic loss with an L2 penalty on standardised states. Errors: InputError for
    fewer than two documents, or ones in which all tokens, or none, are settled at once.
    """
    if isinstance(documents, str) or len(documents) < 2:
        raise InputError("documents: expected two or more texts, some to fit on and some to test.")
    if n_iters < 2:
        raise InputError(f"n_iters={n_iters}: expected 2 or more, so that something can change.")
    order = np.random.default_rng(seed).permutation(len(documents))
    n_test = min(max(1, round(test_share * len(documents))), len(documents) - 1)
    states: dict[bool, list[np.ndarray]] = {True: [], False: []}
    labels: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for place, number in enumerate(order.tolist()):
        x, y = _read(model, documents[number], n_iters, max_tokens)
        states[place < n_test].append(x)
        labels[place < n_test].append(y)
    x, y = (np.concatenate(parts[False], axis=1) for parts in (states, labels))
    weight, bias = _fit(x[1:-1], y[1:-1], penalty)
    shuffled = np.random.default_rng(seed).permuted(y[1:-1], axis=1)
    blind = _fit(x[1:-1], shuffled, penalty)
    x, y = (np.concatenate(parts[True], axis=1) for parts in (states, labels))
    return ExitProbeFit(
        model=model.info(), tokens=(), n_iters=n_iters, weight=weight, bias=bias,
        auroc=np.array([auroc(a @ weight, b) for a, b in zip(x, y, strict=True)]),
        auroc_shuffled=np.array([auroc(a @ blind[0], b) for a, b in zip(x, y, strict=True)]),
        settled=y.mean(1), n_documents=(len(documents) - n_test, n_test),
    )  # fmt: skip


def _read(model: Any, text: str, n_iters: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Normed states [k, token, d_model] and whether each is settled [k, token]."""
    window = next(cut_windows([text], model.tokenizer, min(most, window_size(model, None))), None)
    if window is None:
        raise InputError("documents: one of them is empty.")
    tokens, _, _ = padded([window], model.tokenizer)
    inputs = prepare(model, tokens.to(model.device), n_iters)
    states, top = [], []
    for state in running.states(model, inputs):
        with torch.no_grad():
            top.append(decoding.top_token(model.readout(state))[0].cpu().numpy())
            states.append(host(running.normed(model, state.z))[0].astype(np.float32))
    x, predicted = np.stack(states), np.stack(top)
    same = predicted == predicted[-1]
    settled = np.logical_and.accumulate(same[::-1], axis=0)[::-1]
    there = np.isfinite(x).all((0, 2)) & (predicted >= 0).all(0)
    return x[:, there], settled[:, there]


def _fit(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Weights of plain states and bias; from states [k, token, d] and labels [k, token]."""
    flat, label = x.reshape(-1, x.shape[-1]), y.ravel()
    if not label.size or label.all() or not label.any():
        raise InputError("documents: all tokens are settled at once, or none; try another depth.")
    mean, scale = flat.mean(0), np.maximum(flat.std(0), 1e-6)
    a, b = torch.from_numpy((flat - mean) / scale), torch.from_numpy(label.astype(np.float32))
    w = torch.zeros(flat.shape[1], requires_grad=True)
    c = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([w, c], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(a @ w + c, b)
        value = value + penalty * (w**2).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]
    weight = w.detach().numpy() / scale
    return weight, float(c.detach() - weight @ mean)


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """P(a positive scores above a negative), ties half; NaN without both."""
    from scipy.stats import rankdata

    n, m = int(label.sum()), int((~label).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(score)[label].sum() - n * (n + 1) / 2) / (n * m))
