"""Does every block of the Body come to rest at a point of its own? (ANALYSES 13)

A looped stack of blocks goes round a cycle: each writes something else than the next one, and the same again in the
following iteration. Where the limits of all are one point, the blocks do nothing any more: a degenerate way to converge,
and the only one for a stream whose norm grows without end, of which each block's share vanishes (AbbIE-D).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes import numerics
from probes.control import fresh_weights
from probes.inputs import Inputs, prepare
from probes.limits import Limit, dtype_name, find_limit, nothing
from probes.progress import Callback, Progress
from probes.result import Result
from probes.running import body_sites, watched
from probes.tidy import tidy, with_control
from probes.trust import NEVER, Trust

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

METRICS = {
    "raw": "‖bₖ₊₁ − bₖ‖",
    "relative": "‖bₖ₊₁ − bₖ‖ / ‖bₖ‖",
    "direction": "‖u(bₖ₊₁) − u(bₖ)‖",
    "norm": "‖bₖ‖",
    "limit_direction": "‖u(bₖ) − u(b*)‖",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class PerBlock(Result):
    """Distances of every Body block's output b_k; undefined values are NaN.

    b_k is the residual stream after the block in iteration k, the last time where an iteration runs it
    several times. Row k of a step is from b_k to b_{k+1}; `rows` is r for most families.
    """

    title: ClassVar[str] = "Fixed points by block"
    formula: ClassVar[str] = "; ".join(METRICS.values())

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    sites: tuple[str, ...]
    """[block] where the outputs were read."""
    raw: np.ndarray
    """[rows-1, block, batch, pos] ‖b_{k+1} − b_k‖."""
    relative: np.ndarray
    """[rows-1, block, batch, pos] raw step over ‖b_k‖."""
    direction: np.ndarray
    """[rows-1, block, batch, pos] ‖u(b_{k+1}) − u(b_k)‖, 0…2."""
    norm: np.ndarray
    """[rows, block, batch, pos] ‖b_k‖."""
    limit_direction: np.ndarray
    """[rows, block, batch, pos] ‖u(b_k) − u(b*)‖ to the block's own limit."""
    limit_cosine: np.ndarray
    """[block, block, batch, pos] cosine between the limits of two blocks."""
    limit_iters: int
    """Iterations of the run that ends in b*; 0 if there was none."""
    limit_dtype: str
    """Arithmetic of that run (`probes.limits`)."""
    limit_step: np.ndarray
    """[block, batch, pos] last direction step of that run: b* is a limit only where this is small."""
    limit_reason: str
    """Why some token has no limit; empty if every token has one."""
    same: float
    """Cosine from which the limits of all blocks count as one point."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is NaN or infinite; −1 if none."""
    overflow_at: np.ndarray
    """[batch, pos] first iteration whose state is too large to square; −1 if none."""
    control: PerBlock | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    @property
    def least_cosine(self) -> np.ndarray:
        """[batch, pos] least cosine between the limits of two blocks; NaN without a limit or with one block."""
        n = len(self.sites)
        if n < 2:
            return np.full(self.valid.shape, np.nan)
        return self.limit_cosine[~np.eye(n, dtype=bool)].min(0)

    @property
    def share_same(self) -> float:
        """Share of the tokens with limits in which all blocks have the same one; NaN if no token has limits."""
        least = self.least_cosine[self.valid]
        least = least[np.isfinite(least)]
        return float((least >= self.same).mean()) if least.size else float("nan")

    def metric(self, name: str) -> np.ndarray:
        """[iteration, block, batch, pos] of a metric by its name. Errors: InputError."""
        if name not in METRICS:
            raise InputError(f"metric={name!r}: expected one of {', '.join(METRICS)}.")
        return getattr(self, name)

    def per_token(self) -> dict[str, np.ndarray]:
        """[iteration, batch, pos] of every metric and block ("direction body.0"), and least_cosine (1 row)."""
        values = {
            f"{name} {site.rpartition('.')[0]}": self.metric(name)[:, b]
            for name in METRICS
            for b, site in enumerate(self.sites)
        }
        return values | {"least_cosine": self.least_cosine[None]}

    def to_frame(self) -> pd.DataFrame:
        """One row per block, token and iteration; `weights` tells the control apart."""
        import pandas as pd

        frames = []
        for b, site in enumerate(self.sites):
            columns = {name: self.metric(name)[:, b] for name in METRICS}
            columns |= {"limit_step": self.limit_step[b], "least_cosine": self.least_cosine}
            columns |= {"diverged_at": self.diverged_at}
            frame = tidy(self.tokens, columns, valid=self.valid)
            frame.insert(0, "block", site.rpartition(".")[0])
            frames.append(frame)
        return with_control(pd.concat(frames, ignore_index=True), self.control)

    def figure(self, *, theme: str = "light", view: str = "curves", **options: Any) -> go.Figure:
        """`view="curves"`: distances of every block (`metrics=`); `"limits"`: cosines between their limits."""
        from probes.figures import per_block as figures

        return figures.draw(self, view=view, theme=theme, **options)


def per_block(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    limit_times: int = 4,
    same: float = 0.99,
    progress: Callback | None = None,
) -> PerBlock:
    """Distances of each Body block's output between successive iterations and to its own limit.

    The limit is the end of a run `limit_times` (at least 4) times longer. `same` is the cosine from which
    limits count as one; `seed` draws the control's weights; `progress` counts runs.
    Errors: InputError for bad input, or a Body whose rows are not the tokens (SpiralFormer, PonderLM-2).
    """
    if not isinstance(limit_times, int) or limit_times < 4:
        raise InputError(f"limit_times={limit_times!r}: expected an integer >= 4.")
    if not -1 <= same <= 1:
        raise InputError(f"same={same!r}: expected a cosine, -1 to 1.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    sites = body_sites(model, "hook_resid_post")
    steps = Progress(2 + 2 * control, progress)
    beside = None
    if control:
        beside = _run(fresh_weights(model, seed), inputs, sites, limit_times, same, None, steps)
    return _run(model, inputs, sites, limit_times, same, beside, steps)


def _run(
    model: Any,
    inputs: Inputs,
    sites: tuple[str, ...],
    limit_times: int,
    same: float,
    control: PerBlock | None,
    steps: Progress,
) -> PerBlock:
    limit = find_limit(model, inputs, limit_times, partial(_end, sites))
    steps.step()
    rows: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    trust, before = Trust(model, inputs), None
    heading_before = np.empty(0)
    for state, fired in watched(model, inputs, sites):
        trusted = trust.see(state.k, numerics.norm(numerics.host(state.h)))
        if not fired:
            continue
        now = _outputs(fired, sites, inputs, trusted)
        rows["norm"].append(numerics.norm(now))
        heading = numerics.unit(now)
        rows["limit_direction"].append(numerics.norm(heading - limit.unit))
        if before is not None:
            raw = numerics.norm(now - before)
            rows["raw"].append(raw)
            rows["relative"].append(numerics.ratio(raw, rows["norm"][-2]))
            rows["direction"].append(numerics.norm(heading - heading_before))
        before, heading_before = now, heading
    steps.step()
    shape = (len(sites), *inputs.valid.shape)
    stacked = {name: np.array(found).reshape(-1, *shape) for name, found in rows.items()}
    ends = np.broadcast_to(limit.unit, (*shape, limit.unit.shape[-1]))
    return PerBlock(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        sites=sites,
        limit_cosine=np.einsum("abpd,cbpd->acbp", ends, ends).clip(-1, 1),
        limit_iters=limit.iters,
        limit_dtype=limit.dtype,
        limit_step=np.broadcast_to(limit.step, shape),
        limit_reason=limit.reason,
        same=float(same),
        diverged_at=trust.diverged_at,
        overflow_at=trust.overflow_at,
        control=control,
        **stacked,
    )


def _end(sites: tuple[str, ...], model: Any, inputs: Inputs, depth: int) -> Limit:
    """Where each block's output is at the end of a long run."""
    trust, unit, before, why = Trust(model, inputs), None, None, ""
    for state, fired in watched(model, inputs, sites, depth):
        trusted = trust.see(state.k, numerics.norm(numerics.host(state.h)))
        if not trusted.any():
            break
        if fired:
            before, unit = unit, numerics.unit(_outputs(fired, sites, inputs, trusted))
    lost = (trust.diverged_at != NEVER) | (trust.overflow_at != NEVER)
    if lost.any():
        at = np.where(trust.diverged_at != NEVER, trust.diverged_at, trust.overflow_at)[lost].min()
        why = f"a state is lost from iteration {at} of {depth} in {dtype_name(model.dtype)}"
    if unit is None or before is None or (lost | ~inputs.valid).all():
        return nothing(inputs, why)
    step = numerics.norm(unit - before)
    return Limit(unit, np.full_like(unit, np.nan), step, depth, dtype_name(model.dtype), why)


def _outputs(
    fired: dict[str, Any], sites: tuple[str, ...], inputs: Inputs, trusted: np.ndarray
) -> np.ndarray:
    """[block, batch, pos, d] in float64; NaN where not to be trusted. Errors: InputError for other rows."""
    for site in sites:
        shape = tuple(fired[site].shape)
        if shape[:-1] != inputs.valid.shape:
            raise InputError(
                f"model: {site} has shape {shape}, not [batch, pos, d_model]: the Body reads other"
                " rows than the tokens, so a token has no output of a block."
            )
    outputs = np.stack([numerics.host(fired[site]) for site in sites])
    return np.where(trusted[..., None], outputs, np.nan)
