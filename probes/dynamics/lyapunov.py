"""At what rate do nearby states part? Finite-time Lyapunov exponents of the loop (ANALYSES 17).

    Q_{k+1} R_{k+1} = J_k Q_k,   λ_i = mean over the counted k of log |R_{k+1,ii}|

per token with the diagonal blocks, which for a causal model is the derivative of h_{k,t} by h_{0,t} exactly, and for the
whole sequence. They are of this run and of so many iterations, not limits: the first `transient` ones, in which Q turns
towards the leading directions, are not counted. A map with Jordan blocks of size p grows like k^(p−1) ρ^k, so that after n
iterations, t of them transient, an exponent is up to (p − 1) log(n/t) / (n − t) off its limit log ρ. Source: Benettin et al., Meccanica 15 (1980).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes import numerics
from probes.control import fresh_weights
from probes.dynamics.jacobian import MAPS, Map, StepJacobian
from probes.dynamics.walk import Walk, drawn, first_lost, usable, whole_number
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.tidy import tidy, with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Lyapunov(Result):
    """Finite-time exponents in nats an iteration, largest first; −inf where the derivative is 0. Undefined is NaN."""

    title: ClassVar[str] = "Finite-time Lyapunov exponents"
    formula: ClassVar[str] = (
        "Qₖ₊₁ Rₖ₊₁ = Jₖ Qₖ,  λᵢ = mean of log |Rᵢᵢ| over the counted iterations; Jₖ one token's "
        "∂hₖ₊₁,ₜ/∂hₖ,ₜ, or the whole sequence's; finite-time: of this run, not a limit"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    map: str
    """"step", or "direction": of x ↦ u(step(‖h_k‖ u(x)))."""
    transient: int
    """First iterations that are not counted."""
    growth: np.ndarray
    """[r, batch, pos, m] log |R_ii| of every iteration, in the order of the columns of Q."""
    exponents: np.ndarray
    """[batch, pos, m] means over the counted iterations."""
    error: np.ndarray
    """[batch, pos, m] how far the means of the two halves of the counted iterations lie apart; NaN below two.

    Of a defective map growth nears its limit like 1/k, and the mean over the last half is about three times this off.
    """
    sequence_exponents: np.ndarray
    """[batch, m] of the whole sequence."""
    sequence_error: np.ndarray
    """[batch, m] the same for them."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is not finite, or too large to norm; −1 if none."""
    control: Lyapunov | None
    """The same for freshly initialised weights; None if not asked for."""

    def per_token(self) -> dict[str, np.ndarray]:
        """Values by name, each [1, batch, pos]."""
        n = self.exponents.shape[-1]
        named = {f"exponent_{i + 1}": self.exponents[None, ..., i] for i in range(n)}
        return named | {"exponent_1_error": self.error[None, ..., 0]}

    def to_frame(self) -> pd.DataFrame:
        """One row per token and iteration: growth of the leading direction, all exponents."""

        columns = {"growth_1": self.growth[..., 0]}
        columns |= {name: values[0] for name, values in self.per_token().items()}
        columns |= {
            f"sequence_exponent_{i + 1}": np.repeat(
                self.sequence_exponents[:, None, i], self.valid.shape[1], 1
            )
            for i in range(self.sequence_exponents.shape[-1])
        }
        frame = tidy(self.tokens, columns | {"diverged_at": self.diverged_at}, valid=self.valid)
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light", **options: Any) -> go.Figure:
        """Exponents by rank, trained and random, and the leading one of every token; `batch` the sequence."""
        from probes.figures import exponents as figures

        return figures.draw(self, theme=theme, **options)


def lyapunov(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    n_exponents: int = 4,
    map: Map = "step",
    transient: int | None = None,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    control_seed: int = 0,
    progress: Callback | None = None,
) -> Lyapunov:
    """The leading `n_exponents` of every token and of every whole sequence over r iterations, in float64.

    `transient` iterations are not counted (half of r if None); `seed` draws Q_0, `control_seed` the fresh weights.
    Errors: InputError for bad input, Cancelled. Divergence is reported: exponents are of the iterations before it.
    """
    whole_number("n_exponents", n_exponents)
    if map not in MAPS:
        raise InputError(f"map={map!r}: expected one of {', '.join(MAPS)}.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    transient = n_iters // 2 if transient is None else transient
    whole_number("transient", transient, least=0)
    if transient >= n_iters:
        raise InputError(f"transient={transient}: expected fewer than n_iters={n_iters}.")
    counting = Progress(n_iters * (1 + bool(control)), progress)
    given = (n_exponents, map, transient, seed, counting)
    beside = None
    if control:
        beside = _run(fresh_weights(model, control_seed), inputs, *given, None)
    return _run(model, inputs, *given, beside)


def _run(
    model: Any,
    inputs: Inputs,
    n: int,
    of: Map,
    transient: int,
    seed: int,
    counting: Progress,
    beside: Lyapunov | None,
) -> Lyapunov:
    walk, r = Walk.of(model, inputs), inputs.n_iters
    (batch, pos), good = inputs.valid.shape, np.zeros((r + 1, *inputs.valid.shape), bool)
    tokens = whole = real = None
    growth, grown = np.full((r, batch, pos, n), np.nan), np.full((r, batch, n), np.nan)
    for state in walk.states():
        k, h = state.k, state.h
        good[k] = usable(state) & (good[k - 1] if k else True)
        if k == r or not (good[k] & inputs.valid).any():
            continue
        if tokens is None or whole is None or real is None:
            real = torch.as_tensor(inputs.valid, device=h.device)[..., None].to(h)
            tokens = _first(drawn(seed, n, h))
            whole = _first((drawn(seed, n, h) * real).flatten(2)).view(-1, *h.shape)
        jacobian = StepJacobian(walk.model, state, of)
        tokens, growth[k, ..., : len(tokens)] = _advance(jacobian.blocks(tokens))
        columns, grown[k, :, : len(whole)] = _advance((jacobian.apply(whole) * real).flatten(2))
        whole = columns.view(-1, *h.shape)
        counting.step()
    growth[~(good[1:] & inputs.valid)] = np.nan
    grown[~(good[1:] | ~inputs.valid).all(-1)] = np.nan
    exponents, error = _means(growth, transient)
    sequence, sequence_error = _means(grown, transient)
    return Lyapunov(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=r,
        valid=inputs.valid,
        map=of,
        transient=transient,
        growth=growth,
        exponents=exponents,
        error=error,
        sequence_exponents=sequence,
        sequence_error=sequence_error,
        diverged_at=first_lost(good, inputs.valid),
        control=beside,
    )


def _first(columns: Tensor) -> Tensor:
    """As many orthonormal columns [n, ..., d] as there is room for."""
    return _advance(columns[: columns.shape[-1]])[0]


def _advance(columns: Tensor) -> tuple[Tensor, np.ndarray]:
    """Orthonormal columns [n, ..., d] of what J made of them, and log |R_ii| [..., n]."""
    q, r = torch.linalg.qr(columns.movedim(0, -1))
    size = r.diagonal(dim1=-2, dim2=-1).abs().log()
    return q.movedim(-1, 0), size.cpu().numpy()


def _means(growth: np.ndarray, transient: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [...] over the counted iterations that are defined, and how far their two halves lie apart."""
    counted = growth[transient:]
    middle = len(counted) // 2
    halves = np.stack([numerics.mean(counted[:middle]), numerics.mean(counted[middle:])])
    mean = numerics.mean(counted)
    order = np.argsort(-np.where(np.isnan(mean), -np.inf, mean), -1, kind="stable")
    with np.errstate(invalid="ignore"):  # both −inf: the derivative is 0
        error = np.abs(halves[1] - halves[0])
    return np.take_along_axis(mean, order, -1), np.take_along_axis(error, order, -1)
