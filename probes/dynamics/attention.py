"""What attention does over the iterations: every block and head of the Body, one iteration at a time (ANALYSES 14).

A token at position t sees t + 1 keys, so its entropy can be at most log(t + 1): undivided, it would grow along
every text. Patterns of one iteration (and of the one before, for the overlap) are all that is ever held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes import numerics
from probes.control import fresh_weights
from probes.dynamics.patterns import BY_QUERY, Layout, by_query, concentration
from probes.dynamics.walk import whole_number
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.running import body_sites, watched
from probes.tidy import tidy, with_control
from probes.trust import Trust

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEASURES = {
    "entropy": "−Σⱼ Aₜⱼ log Aₜⱼ / log(t+1)",
    "sink": "Aₜ₀, mass on the first token",
    "local": "Σ Aₜⱼ over the last w keys",
    "overlap": "Σⱼ min(Aₜⱼ, A′ₜⱼ), A′ the iteration before",
    "concentration": "1 − H(c)/log n, c the mass that keys receive",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Attention(Result):
    """Numbers of every pattern A [query, key] of the Body; undefined values are NaN.

    Means are over the tokens that have a choice: t ≥ 1, and t ≥ w for the local mass. A token that an
    iteration leaves out (Mixture-of-Recursions; halted in AdaPonderLM) is not counted there; where its
    keys are left out with it, a token sees fewer than t + 1, and its entropy stays below 1. Row k belongs to iteration k, its last firing where a block runs
    several times in one (HRM).
    """

    title: ClassVar[str] = "Attention over the iterations"
    formula: ClassVar[str] = "; ".join(f"{name}: {text}" for name, text in MEASURES.items())

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "heads"})

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    sites: tuple[str, ...]
    """[block] where the patterns were read."""
    window: int
    """w of the local mass, the token itself included."""
    sink_from: float
    """Mean mass on the first token from which a head counts as a sink head."""
    entropy: np.ndarray
    """[row, block, head] 0…1."""
    sink: np.ndarray
    """[row, block, head] 0…1."""
    local: np.ndarray
    """[row, block, head] 0…1."""
    overlap: np.ndarray
    """[row, block, head] with the row before, 0…1: 1 less the total variation; the first row is NaN."""
    concentration: np.ndarray
    """[row, block, head] 0…1."""
    token_entropy: np.ndarray
    """[row, batch, pos] mean over blocks and heads, by querying token."""
    token_sink: np.ndarray
    """[row, batch, pos]"""
    token_local: np.ndarray
    """[row, batch, pos]"""
    token_overlap: np.ndarray
    """[row, batch, pos]"""
    pattern: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0, 0, 0), np.float32))
    """[row, block, head, query, key] of the first sequence, padding included; no rows if not asked for."""
    diverged_at: np.ndarray
    """[batch, pos] first iteration whose state is NaN or infinite; −1 if none."""
    control: Attention | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    def measure(self, name: str) -> np.ndarray:
        """[row, block, head] of a measure by its name. Errors: InputError."""
        if name not in MEASURES:
            raise InputError(f"measure={name!r}: expected one of {', '.join(MEASURES)}.")
        return getattr(self, name)

    @property
    def sink_rate(self) -> np.ndarray:
        """[row] share of the Body's heads whose mean mass on the first token is at least `sink_from`."""
        heads = self.sink.reshape(len(self.sink), -1)
        there = np.isfinite(heads).any(1)
        return np.where(there, (heads >= self.sink_from).mean(1), np.nan)

    def quantiles(self, name: str, levels: tuple[float, ...] = (0.1, 0.5, 0.9)) -> np.ndarray:
        """[level, row] quantiles of a measure over blocks and heads, or the sink rate at every level; NaN if undefined."""
        if name == "sink_rate":
            return np.tile(self.sink_rate, (len(levels), 1))
        values = self.measure(name).reshape(len(self.entropy), -1)
        out = np.full((len(levels), len(values)), np.nan)
        for k in np.flatnonzero(np.isfinite(values).any(1)):
            out[:, k] = np.nanquantile(values[k], levels)
        return out

    def per_token(self) -> dict[str, np.ndarray]:
        """[row, batch, pos] of entropy, sink, local and overlap, means over blocks and heads."""
        return {name: getattr(self, f"token_{name}") for name in BY_QUERY}

    def to_frame(self) -> pd.DataFrame:
        """One row per iteration, block and head; `weights` tells the control apart."""
        import pandas as pd

        k, b, h = np.indices(self.entropy.shape).reshape(3, -1)
        columns = {name: self.measure(name).reshape(-1) for name in MEASURES}
        blocks = np.array([s.removesuffix(".attn.hook_pattern") for s in self.sites])
        index = {"iteration": k, "block": blocks[b], "head": h}
        frame = pd.DataFrame({**index, **columns})
        return with_control(frame, self.control)

    def token_frame(self) -> pd.DataFrame:
        """One row per token and iteration: the numbers of `per_token`."""
        return tidy(self.tokens, self.per_token(), valid=self.valid)

    def figure(self, *, theme: str = "light", view: str = "measures", **options: Any) -> go.Figure:
        """`view="measures"` against iteration, `"heads"` (`measure=`), `"patterns"` (`block=`), `"pattern"`."""
        from probes.figures import attention as figures

        return figures.draw(self, view=view, theme=theme, **options)


def attention(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    window: int = 8,
    sink_from: float = 0.3,
    patterns: bool = False,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> Attention:
    """Entropy, sink, local mass, overlap and concentration of every Body pattern in every iteration.

    `window`: keys that count as local, the token itself included. `patterns` keeps the first sequence's
    patterns, all iterations of them. `seed` draws the control's weights; `progress` counts iterations.
    Errors: InputError for bad input, and for a Body whose rows are not the tokens (SpiralFormer,
    PonderLM-2). Source of sinks as a share of heads: arXiv 2410.10781.
    """
    whole_number("window", window)
    if not 0 <= sink_from <= 1:
        raise InputError(f"sink_from={sink_from!r}: expected a share, 0 to 1.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    sites = body_sites(model, "attn.hook_pattern")
    steps = Progress((1 + control) * (n_iters + 1), progress)
    beside = None
    if control:
        fresh = fresh_weights(model, seed)
        beside = _run(fresh, inputs, sites, window, sink_from, patterns, None, steps)
    return _run(model, inputs, sites, window, sink_from, patterns, beside, steps)


def _run(
    model: Any,
    inputs: Inputs,
    sites: tuple[str, ...],
    window: int,
    sink_from: float,
    patterns: bool,
    control: Attention | None,
    steps: Progress,
) -> Attention:
    layout, trust = (
        Layout.of(torch.as_tensor(inputs.valid, device=model.device)),
        Trust(model, inputs),
    )
    chosen = [site for site in ("loop.hook_mask",) if site in model.hook_dict]
    rows: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    tokens: dict[str, list[np.ndarray]] = {name: [] for name in BY_QUERY}
    kept: list[np.ndarray] = []
    before: dict[str, Tensor] = {}
    for state, fired in watched(model, inputs, [*sites, *chosen]):
        # Where the state is lost the norms give 0, and attention to it means nothing.
        trusted = torch.as_tensor(
            trust.see(state.k, numerics.norm(numerics.host(state.h))), device=layout.valid.device
        )
        steps.step()
        taken = [fired.pop(site)[..., 0] > 0 for site in chosen if site in fired]
        if not fired:
            continue
        asked = trusted & taken[0] if taken else trusted
        _check(fired, sites, inputs)
        found = [by_query(fired[s], before.get(s), layout, asked, window) for s in sites]
        for name in BY_QUERY:
            # [block, batch, head, query]
            values = numerics.host(torch.stack([block[name] for block in found]))
            rows[name].append(numerics.mean(values, (1, 3)))
            tokens[name].append(numerics.mean(values, (0, 2)))
        by_head = torch.stack([concentration(fired[s], layout, asked) for s in sites])
        rows["concentration"].append(numerics.mean(numerics.host(by_head), (1,)))
        if patterns:
            kept.append(torch.stack([fired[s][0] for s in sites]).float().cpu().numpy())
        before = fired
    return Attention(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        sites=sites,
        window=window,
        sink_from=float(sink_from),
        diverged_at=trust.diverged_at,
        control=control,
        **{name: np.stack(found) for name, found in rows.items()},
        **{f"token_{name}": np.stack(found) for name, found in tokens.items()},
        **({"pattern": np.stack(kept)} if patterns else {}),
    )


def _check(fired: dict[str, Tensor], sites: tuple[str, ...], inputs: Inputs) -> None:
    """Errors: InputError for a pattern whose rows and columns are not the tokens."""
    n = inputs.valid.shape[1]
    for site in sites:
        if site not in fired:
            raise InputError(f"model: {site} did not fire; there is no pattern to read.")
        if fired[site].shape[-2:] != (n, n):
            shape = tuple(fired[site].shape)
            raise InputError(
                f"model: {site} has shape {shape} for {n} tokens: the Body reads other rows than the"
                " tokens, so a token has no attention of its own."
            )
