"""How alike the states of any two iterations are: debiased linear CKA, and the cosine (ANALYSES 19).

CKA asks whether the same tokens are near each other, whatever the state's scale and rotation; the cosine asks
whether the states themselves point the same way. Plain CKA of few tokens in many dimensions is near 1 for
unrelated states; the unbiased HSIC (Song et al. 2012) has expectation 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes import numerics
from probes.control import fresh_weights
from probes.dynamics.walk import whole_number
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.running import states
from probes.tidy import with_control
from probes.trust import Trust

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LEAST = 4
"""Tokens below which the unbiased HSIC is undefined."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Similarity(Result):
    """[r+1, r+1] similarities of h_j and h_k over the tokens that are defined in both; NaN where undefined."""

    title: ClassVar[str] = "Similarity of the iterations"
    formula: ClassVar[str] = (
        "CKA(j, k) = HSIC(hⱼ, hₖ) / √(HSIC(hⱼ, hⱼ) HSIC(hₖ, hₖ)), linear kernel, unbiased HSIC; "
        "cosine: mean over tokens of cos(hⱼ, hₖ)"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    cka: np.ndarray
    """[r+1, r+1] debiased linear CKA, at most 1, around 0 for unrelated states."""
    hsic: np.ndarray
    """[r+1, r+1] unbiased HSIC: batches of a corpus average this, not the CKA. Of unit vectors if `unit`."""
    cosine: np.ndarray
    """[r+1, r+1] mean cosine."""
    token_cosine: np.ndarray
    """[r+1, r+1, batch, pos] cos(h_j, h_k) of every token."""
    unit: bool
    """Whether states were scaled to length 1 before the CKA."""
    n_samples: np.ndarray
    """[r+1] tokens that the row's states have; a pair uses those of its later one."""
    max_tokens: int
    """Most tokens that enter the CKA, evenly chosen."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is NaN or infinite; −1 if none."""
    overflow_at: np.ndarray
    """[batch, pos] first iteration whose state is too large to square; −1 if none."""
    control: Similarity | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    def matrix(self, name: str) -> np.ndarray:
        """[r+1, r+1] "cka" or "cosine". Errors: InputError."""
        if name not in ("cka", "cosine"):
            raise InputError(f"measure={name!r}: expected 'cka' or 'cosine'.")
        return getattr(self, name)

    def per_token(self) -> dict[str, np.ndarray]:
        """[iteration, batch, pos] cosine of h_k with the next state, with h_0 and with h_r."""
        k = np.arange(self.n_iters)
        return {
            "cosine_next": self.token_cosine[k, k + 1],
            "cosine_first": self.token_cosine[0],
            "cosine_last": self.token_cosine[-1],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per pair of iterations; `weights` tells the control apart."""
        import pandas as pd

        j, k = np.indices(self.cka.shape).reshape(2, -1)
        values = {name: getattr(self, name).reshape(-1) for name in ("cka", "hsic", "cosine")}
        frame = pd.DataFrame({"iteration": j, "other": k, **values})
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """CKA and mean cosine as iteration × iteration, trained above random weights."""
        from probes.figures import similarity as figures

        return figures.draw(self, theme=theme)


def similarity(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    unit: bool = False,
    max_tokens: int = 1024,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> Similarity:
    """Debiased linear CKA and mean cosine of h_j and h_k for all iterations j, k, tokens as samples.

    `unit` takes directions, so that a few states of great norm don't decide; `max_tokens` bounds the
    kernels, [max_tokens, max_tokens] an iteration; `seed` draws the control's weights; `progress` counts
    iterations. Errors: InputError for bad input. Fewer than 4 tokens: CKA is NaN.
    Source: Kornblith et al. 2019 (arXiv 1905.00414); Song et al. 2012; Nguyen et al. 2021 (2010.15327).
    """
    whole_number("max_tokens", max_tokens, least=LEAST)
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    steps = Progress((1 + control) * (n_iters + 1), progress)
    beside = None
    if control:
        beside = _run(fresh_weights(model, seed), inputs, unit, max_tokens, None, steps)
    return _run(model, inputs, unit, max_tokens, beside, steps)


def _run(
    model: Any,
    inputs: Inputs,
    unit: bool,
    max_tokens: int,
    control: Similarity | None,
    steps: Progress,
) -> Similarity:
    trust, points, units, there = Trust(model, inputs), [], [], []
    for state in states(model, inputs):
        h = numerics.host(state.h)
        there.append(trust.see(state.k, numerics.norm(h)))
        units.append(np.where(there[-1][..., None], numerics.unit(h), np.nan))
        points.append(units[-1] if unit else h)
        steps.step()
    cosine = np.einsum("jbpd,kbpd->jkbp", np.stack(units), np.stack(units), optimize=True)
    hsic, cka = _matrices(points, there, max_tokens)
    return Similarity(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        cka=cka,
        hsic=hsic,
        cosine=numerics.mean(cosine, (2, 3)),
        token_cosine=cosine.clip(-1, 1),
        unit=bool(unit),
        n_samples=np.array([t.sum() for t in there]),
        max_tokens=max_tokens,
        diverged_at=trust.diverged_at,
        overflow_at=trust.overflow_at,
        control=control,
    )


def _matrices(
    points: list[np.ndarray], there: list[np.ndarray], max_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """HSIC and CKA [r+1, r+1]; a pair uses the tokens of its later state, of which only fewer are left."""
    n = len(points)
    hsic, cka = np.full((2, n, n), np.nan)
    kernels: list[tuple[np.ndarray, float]] = []
    own: list[float] = []
    samples = np.zeros(0, int)
    for k in range(n):
        chosen = np.flatnonzero(there[k])
        if len(chosen) < LEAST:
            break
        if len(chosen) > max_tokens:
            chosen = chosen[np.linspace(0, len(chosen) - 1, max_tokens).round().astype(int)]
        first = k
        if not np.array_equal(chosen, samples):
            samples, kernels, own, first = chosen, [], [], 0
        kernels += [centred_kernel(points[j].reshape(-1, points[j].shape[-1])[samples]) for j in range(first, k + 1)]  # fmt: skip
        own += [_product(kernel, kernel) for kernel, _ in kernels[first:]]
        for j in range(k + 1):
            found = _product(kernels[j][0], kernels[k][0])
            scaled = found * kernels[j][1] * kernels[k][1]
            hsic[j, k] = hsic[k, j] = scaled if np.isfinite(scaled) else np.nan
            size = own[j] * own[k]
            cka[j, k] = cka[k, j] = found / np.sqrt(size) if size > 0 else np.nan
    return hsic, cka


def centred_kernel(x: np.ndarray) -> tuple[np.ndarray, float]:
    """U-centred linear kernel [n, n] of samples [n, d] of which the largest entry is 1, and what scales it back.

    The product of two such, summed over n (n − 3), is the unbiased HSIC (Székely and Rizzo 2014).
    """
    n, largest = len(x), float(np.abs(x).max())
    # Squares of a doubling family's states would overflow; CKA has no scale.
    scaled = x / (largest or 1.0)
    scaled = scaled - scaled.mean(0)
    kernel = scaled @ scaled.T
    np.fill_diagonal(kernel, 0.0)
    rows = kernel.sum(0) / (n - 2)
    kernel -= rows[:, None] + rows[None, :] - rows.sum() / (n - 1)
    np.fill_diagonal(kernel, 0.0)
    return kernel, largest**2


def _product(a: np.ndarray, b: np.ndarray) -> float:
    n = len(a)
    return float((a * b).sum() / (n * (n - 3)))
