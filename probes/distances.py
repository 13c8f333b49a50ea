"""The four distances of one run, collected state by state: only the last states are ever held.

In float64 on the model's device, a piece of the tokens at a time: what is made on the way from two states to their
distances then stays in the processor's cache, where a whole batch of it would go to memory and back at every operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes import numerics, vectors
from probes.inputs import Inputs
from probes.limits import Limit
from probes.running import normed, states
from probes.trust import NEVER

PIECE, ON_A_DEVICE = 2**15, 2**22
"""Numbers of a state that are measured at once: 256 KiB in float64 on the host, which one thread then works on, or 32 MiB."""


@dataclass(frozen=True)
class Metric:
    """What a number is called and how it is computed."""

    title: str
    formula: str
    middle: float | None = None
    """Value that means "no difference", for signed quantities; None for distances."""


METRICS: dict[str, Metric] = {
    "raw": Metric("raw step", "‖hₖ₊₁ − hₖ‖"),
    "raw_largest": Metric("raw step, largest entry", "‖hₖ₊₁ − hₖ‖∞"),
    "relative": Metric("relative step", "‖hₖ₊₁ − hₖ‖ / ‖hₖ‖"),
    "direction": Metric("direction step", "‖u(hₖ₊₁) − u(hₖ)‖,  u(x) = x/‖x‖"),
    "one_minus_cos": Metric("direction step, 1 − cos", "1 − cos(hₖ₊₁, hₖ)"),
    "readout": Metric("read-out step", "‖N(zₖ₊₁) − N(zₖ)‖ / √d,  N the final norm"),
    "angle": Metric("step angle", "cos(hₖ₊₁ − hₖ, hₖ − hₖ₋₁)", middle=0.0),
    "second_order": Metric("second-order step", "‖dₖ₊₁ − dₖ‖,  dₖ₊₁ = hₖ₊₁ − hₖ"),
    "norm": Metric("norm", "‖hₖ‖"),
    "norm_ratio": Metric("norm ratio", "‖hₖ‖ / ‖hₖ₋₁‖", middle=1.0),
    "limit_direction": Metric("direction to the limit", "‖u(hₖ) − u(h*)‖"),
    "limit_readout": Metric("read-out to the limit", "‖N(zₖ) − N(z*)‖ / √d"),
}

NORMALISERS = {
    "state": "‖dₖ₊₁ − dₖ‖ / ‖hₖ‖,  dₖ₊₁ = hₖ₊₁ − hₖ",
    "steps": "‖dₖ₊₁ − dₖ‖ / (‖dₖ₊₁‖ + ‖dₖ‖),  dₖ₊₁ = hₖ₊₁ − hₖ",
    "none": METRICS["second_order"].formula,
}
"""Formula of the second-order step by what divides it; a straight step of the same length gives 0."""


def measure(
    model: Any, inputs: Inputs, limit: Limit, denominator: str, normaliser: str
) -> dict[str, np.ndarray]:
    """Run the model for r iterations; arrays by the field names of `FixedPoint`, plus `closure`.

    Steps are [r, batch, pos], levels [r+1, batch, pos], per-token numbers [batch, pos]. What touches a
    state that is not finite, or too large for the model's own norms, is NaN, as is padding.
    """
    where, r, shape = vectors.place(model.device), inputs.n_iters, inputs.valid.shape
    rows = _empty(r, inputs.valid.size, where)
    valid = torch.from_numpy(inputs.valid).to(where).flatten()
    star = [torch.from_numpy(x).to(where).flatten(0, 1) for x in (limit.unit, limit.readout)]
    pieces: list[_Piece] = []
    for state in states(model, inputs):
        h, n = (x.detach().flatten(0, 1).to(where) for x in (state.h, normed(model, state.z)))
        if not pieces:
            on_host = where.type == "cpu"
            at_once = PIECE if on_host else ON_A_DEVICE
            size = max(1, at_once // h.shape[-1])
            largest = numerics.largest_norm(model.dtype)
            for start in range(0, len(h), size):
                part = slice(start, start + size)
                given = [x[part] for x in star] if limit.iters else None
                mine = {name: x[..., part] for name, x in rows.items()}
                pieces.append(_Piece(mine, part, valid[part], given, largest, r // 2))
        for piece in pieces:
            piece.see(state.k, h[piece.part], n[piece.part])
    norm, raw = rows["norm"], rows["raw"]
    rows["norm_ratio"][1:] = vectors.ratio(norm[1:], norm[:-1])
    rows["relative"] = vectors.ratio(raw, norm[:-1] if denominator == "previous" else norm[1:])
    if normaliser != "none":
        base = norm[1:-1] if normaliser == "state" else raw[1:] + raw[:-1]
        rows["second_order"][1:] = vectors.ratio(rows["second_order"][1:], base)
    rows["closure"] = torch.cat([piece.closing.value for piece in pieces])
    return {name: x.cpu().numpy().reshape(*x.shape[:-1], *shape) for name, x in rows.items()}


def _empty(r: int, n: int, where: torch.device) -> dict[str, Tensor]:
    steps = ("raw", "raw_largest", "relative", "direction", "readout", "angle", "second_order")
    levels = ("norm", "norm_ratio", "limit_direction", "limit_readout")
    nan = lambda rows: torch.full((rows, n), torch.nan, dtype=torch.float64, device=where)  # noqa: E731
    rows = {name: nan(r) for name in steps} | {name: nan(r + 1) for name in levels}
    return rows | {
        name: torch.full((n,), NEVER, device=where) for name in ("diverged_at", "overflow_at")
    }


class _Piece:
    """Some of the tokens, [token, d], and what the next step needs of their last two states."""

    def __init__(
        self,
        rows: dict[str, Tensor],
        part: slice,
        valid: Tensor,
        limit: list[Tensor] | None,
        largest: float,
        start: int,
    ) -> None:
        self.rows, self.part, self.valid = rows, part, valid
        self.limit, self.largest = limit, largest
        self.lost = ~valid
        self.closing = Closure(start)
        self.before: tuple[Tensor, Tensor, Tensor] | None = None
        self.step: tuple[Tensor, Tensor] | None = None

    def see(self, k: int, h: Tensor, readout: Tensor) -> None:
        """h_k and N(z_k): fill their rows."""
        rows, i, width = self.rows, k - 1, readout.shape[-1] ** 0.5
        h, readout = h.double(), readout.double()
        norm = vectors.norm(h)
        if self.before is None:
            moved, finite = None, readout.isfinite().all(-1)
        else:
            # Where the read-out before was finite, this one is exactly where their difference is.
            moved = vectors.norm(readout - self.before[2])
            finite = moved.isfinite()
        finite &= norm.isfinite()
        for name, where in (("diverged_at", ~finite), ("overflow_at", norm >= self.largest)):
            rows[name][where & self.valid & (rows[name] == NEVER)] = k
            self.lost |= where
        # The norm itself stays true in float64 when the model's own has overflowed.
        rows["norm"][k] = norm.masked_fill(~(self.valid & finite), torch.nan)
        unit = vectors.ratio(h, norm[:, None])
        if bool(self.lost.any()):
            h, unit = (x.masked_fill(self.lost[:, None], torch.nan) for x in (h, unit))
        if self.limit is not None:
            rows["limit_direction"][k] = vectors.norm(unit - self.limit[0])
            away = vectors.norm(readout / width - self.limit[1])
            rows["limit_readout"][k] = away.masked_fill(self.lost, torch.nan)
        self.closing.add(k, unit)
        if self.before is not None and moved is not None:
            step = h - self.before[0]
            raw = vectors.norm(step)
            rows["raw"][i], rows["raw_largest"][i] = raw, step.abs().amax(-1)
            rows["direction"][i] = vectors.norm(unit - self.before[1])
            rows["readout"][i] = (moved / width).masked_fill(self.lost, torch.nan)
            if self.step is not None:
                heading = vectors.ratio(step, raw[:, None])
                turn = vectors.ratio((heading * self.step[0]).sum(-1), self.step[1])
                rows["angle"][i] = turn.clamp(-1, 1)
                rows["second_order"][i] = vectors.norm(step - self.step[0])
            self.step = step, raw
        self.before = h, unit, readout


class Closure:
    """How near the direction comes back to where it was at `start`, as a share of how far it had gone."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.origin: Tensor | None = None
        self.farthest = self.value = torch.empty(0)

    def add(self, k: int, unit: Tensor) -> None:
        """u(h_k) [..., d], NaN where it does not count."""
        if k < self.start:
            return
        if self.origin is None:
            self.origin = unit
            self.farthest = torch.zeros_like(unit[..., 0])
            self.value = torch.full_like(self.farthest, torch.nan)
            return
        away = vectors.norm(unit - self.origin)
        self.farthest = torch.fmax(self.farthest, away)
        if k >= self.start + 2:
            self.value = torch.fmin(self.value, vectors.ratio(away, self.farthest))
