"""Does one iteration shrink what differs? Local contraction, and the spectral radius of its derivative (ANALYSES 16).

c_k is measured along the path; ρ bounds, near a fixed point and after long enough, every other direction too. Of the step,
ρ < 1 is a fixed point that attracts. A doubling family has ρ = 2 of the step; whether its direction settles, the direction
map says: there ρ = 1 means that an early difference stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes import numerics
from probes.control import fresh_weights
from probes.dynamics.jacobian import MAPS, Map, StepJacobian
from probes.dynamics.radii import Method, Solver, sequence_radius, token_radii
from probes.dynamics.walk import Walk, first_lost, iterations, usable, whole_number
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.tidy import tidy, with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum(Result):
    """Contraction of every token at every iteration; multipliers where they were asked for. Undefined is NaN.

    Row k is J_k, from h_k to h_{k+1}. `multipliers`, `radius`, `radius_error`, `radius_spread`, `sequence_radius` and
    `sequence_error` are dicts by map, "step" and "direction". All in float64.
    """

    title: ClassVar[str] = "Local contraction and spectral radius"
    formula: ClassVar[str] = (
        "cₖ = ‖hₖ₊₁ − hₖ‖ / ‖hₖ − hₖ₋₁‖, of h or of u(h); ρ = max |λ|, λ the eigenvalues of "
        "∂hₖ₊₁,ₜ/∂hₖ,ₜ of one token t, other positions frozen; direction: of x ↦ u(step(‖hₖ‖ u(x)))"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    at: tuple[int, ...]
    """Iterations whose multipliers were computed."""
    contraction: np.ndarray
    """[r, batch, pos] c_k of h; the first is NaN."""
    contraction_direction: np.ndarray
    """[r, batch, pos] c_k of u(h)."""
    multipliers: dict[str, np.ndarray]
    """[r, batch, pos, n, 2] real and imaginary part of the leading eigenvalues, largest modulus first."""
    radius: dict[str, np.ndarray]
    """[r, batch, pos] ρ."""
    radius_error: dict[str, np.ndarray]
    """[r, batch, pos] how far ρ may be from an eigenvalue's modulus, to first order."""
    radius_spread: dict[str, np.ndarray]
    """[r, batch, pos] range of ρ over the starts, each taken alone; NaN with one start and for `dense`."""
    sequence_radius: dict[str, np.ndarray]
    """[r, batch] ρ of the whole sequence's Jacobian; NaN unless asked for."""
    sequence_error: dict[str, np.ndarray]
    """[r, batch] the same as `radius_error`."""
    method: str
    """"arnoldi" or "dense"."""
    n_krylov: int
    """m, products from each start."""
    n_starts: int
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is not finite, or too large to norm; −1 if none."""
    control: Spectrum | None
    """The same for freshly initialised weights; None if not asked for."""

    def complex_multipliers(self, of: Map = "step") -> np.ndarray:
        """[r, batch, pos, n] the leading eigenvalues as complex numbers."""
        parts = self.multipliers[of]
        return parts[..., 0] + 1j * parts[..., 1]

    def per_token(self) -> dict[str, np.ndarray]:
        """Values by name, each [iteration, batch, pos]."""
        named = {
            "contraction": self.contraction,
            "contraction_direction": self.contraction_direction,
        }
        for of in self.radius:
            named |= {
                f"radius_{of}": self.radius[of],
                f"radius_error_{of}": self.radius_error[of],
                f"radius_spread_{of}": self.radius_spread[of],
            }
        return named

    def to_frame(self) -> pd.DataFrame:
        """One row per token and iteration; `weights` tells the control apart."""

        columns = self.per_token() | {"diverged_at": self.diverged_at}
        for of, parts in self.multipliers.items():
            columns |= {
                f"multiplier_{of}_re": parts[..., 0, 0],
                f"multiplier_{of}_im": parts[..., 0, 1],
            }
        for of, values in self.sequence_radius.items():
            columns[f"sequence_radius_{of}"] = np.repeat(values[..., None], self.valid.shape[1], -1)
        frame = tidy(self.tokens, columns, valid=self.valid)
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light", **options: Any) -> go.Figure:
        """Leading multipliers on the unit circle; `of` the map, `batch` the sequence, `at` the iteration."""
        from probes.figures import multipliers as figures

        return figures.draw(self, theme=theme, **options)


def spectrum(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 8,
    *,
    at: Sequence[int] | Literal["all"] | None = None,
    maps: Sequence[Map] = MAPS,
    method: Method = "arnoldi",
    n_krylov: int = 30,
    n_starts: int = 2,
    n_multipliers: int = 6,
    sequence: bool = False,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    control_seed: int = 0,
    progress: Callback | None = None,
) -> Spectrum:
    """c_k of r iterations, and ρ of every token's diagonal block at iterations `at` (the last if None, or "all").

    `seed` is of the starts, `control_seed` of the fresh weights. `sequence` adds ρ of the whole sequence. A model that is
    not in float64 is copied to it. Errors: InputError for bad input, Cancelled. Divergence is reported, never raised.
    Source: ARCHITECTURES 1.3; `probes.dynamics.krylov`.
    """
    solver = Solver(method, n_krylov, n_starts, seed)
    unknown = [of for of in maps if of not in MAPS]
    if unknown or not maps:
        raise InputError(f"maps={maps!r}: expected some of {', '.join(MAPS)}.")
    whole_number("n_multipliers", n_multipliers)
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    asked = iterations(at, n_iters)
    counting = Progress((n_iters + len(asked) * len(maps)) * (1 + bool(control)), progress)
    settings = _Settings(tuple(asked), tuple(maps), solver, n_multipliers, sequence)
    beside = None
    if control:
        beside = _run(fresh_weights(model, control_seed), inputs, settings, counting, None)
    return _run(model, inputs, settings, counting, beside)


@dataclass(frozen=True)
class _Settings:
    at: tuple[int, ...]
    maps: tuple[Map, ...]
    solver: Solver
    n_multipliers: int
    sequence: bool


def _run(
    model: Any, inputs: Inputs, settings: _Settings, counting: Progress, beside: Spectrum | None
) -> Spectrum:
    walk, shape, r = Walk.of(model, inputs), inputs.valid.shape, inputs.n_iters
    nan = lambda *more: np.full((r, *more), np.nan)  # noqa: E731
    by_map = lambda *more: {of: nan(*more) for of in settings.maps}  # noqa: E731
    n = settings.n_multipliers
    out: dict[str, Any] = {
        "multipliers": by_map(*shape, n, 2),
        "sequence_radius": by_map(shape[0]),
        "sequence_error": by_map(shape[0]),
    }
    out |= {name: by_map(*shape) for name in ("radius", "radius_error", "radius_spread")}
    good, lengths = np.zeros((r + 1, *shape), bool), {"raw": nan(*shape), "unit": nan(*shape)}
    before = None
    for state in walk.states():
        k, h = state.k, numerics.host(state.h)
        now = {"raw": h, "unit": numerics.unit(h)}
        good[k] = usable(state) & (good[k - 1] if k else True)
        if before is not None:
            for name, values in lengths.items():
                with np.errstate(invalid="ignore"):  # infinity less infinity, which is not kept
                    step = numerics.norm(now[name] - before[name])
                values[k - 1] = np.where(good[k], step, np.nan)
            counting.step()
        before = now
        if k in settings.at:
            for of in settings.maps:
                _linearise(walk, state, of, settings, out)
                counting.step()
    # A derivative counts where the state that it leads to is one, too.
    counted = good[1:] & inputs.valid
    for name in ("multipliers", "radius", "radius_error", "radius_spread"):
        for values in out[name].values():
            values[~counted] = np.nan
    for name, values in lengths.items():
        ratio = nan(*shape)
        ratio[1:] = numerics.ratio(values[1:], values[:-1])
        out["contraction" if name == "raw" else "contraction_direction"] = np.where(
            inputs.valid, ratio, np.nan
        )
    return Spectrum(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=r,
        valid=inputs.valid,
        at=settings.at,
        method=settings.solver.method,
        n_krylov=settings.solver.n_krylov,
        n_starts=settings.solver.n_starts,
        diverged_at=first_lost(good, inputs.valid),
        control=beside,
        **out,
    )


def _linearise(walk: Walk, state: Any, of: Map, settings: _Settings, out: dict[str, Any]) -> None:
    """Write iteration k's rows of one map."""
    jacobian, k = StepJacobian(walk.model, state, of), state.k
    found = token_radii(jacobian, settings.solver)
    n = min(settings.n_multipliers, found.values.shape[-1])
    out["multipliers"][of][k, ..., :n, :] = torch.view_as_real(found.values[..., :n]).numpy()
    out["radius"][of][k] = found.radius.numpy()
    out["radius_error"][of][k] = found.error[..., 0].numpy()
    if found.by_start.shape[0] > 1:
        out["radius_spread"][of][k] = np.ptp(found.by_start.numpy(), axis=0)
    if settings.sequence:
        whole = sequence_radius(jacobian, walk.inputs.valid, settings.solver)
        out["sequence_radius"][of][k] = whole.radius.numpy()
        out["sequence_error"][of][k] = whole.error[..., 0].numpy()
