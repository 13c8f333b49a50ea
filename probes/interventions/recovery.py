"""Noise at one iteration, and whether later ones bring the state back to where it would have been. (ANALYSES 21)

    h_k ← h_k + σ ‖h_k‖ u,  u a random direction of each token's own

Distances to the undisturbed run: ‖u(h') − u(h)‖ and ‖N(z') − N(z)‖/√d. Random weights stand beside: a doubling carry alone
brings a direction back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes import numerics
from probes.control import fresh_weights
from probes.inputs import Inputs, prepare
from probes.interventions.effects import Effects
from probes.interventions.reruns import Reruns
from probes.numerics import host
from probes.progress import Callback, Progress
from probes.result import Result
from probes.running import scaled_readout
from probes.tidy import with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SITE = "loop.hook_state"
DISTANCES = ("direction", "readout")


@dataclass(frozen=True, eq=False, kw_only=True)
class Recovery(Result):
    """Distances to the undisturbed run after noise at one iteration."""

    title: ClassVar[str] = "Recovery from noise"
    formula: ClassVar[str] = (
        "h_k ← h_k + σ ‖h_k‖ u; direction: ‖u(h′) − u(h)‖; read-out: ‖N(z′) − N(z)‖/√d; "
        "median of all tokens and draws, band: 10 to 90 %"
    )

    at: int
    """k, the iteration that is disturbed."""
    sizes: np.ndarray
    """[size] σ."""
    distance: np.ndarray
    """[distance, size, iteration, level] from k to r; levels 10 %, median, 90 % over tokens and draws."""
    kl: np.ndarray
    """[size] mean KL(p_plain ‖ p_disturbed) at the end, nats."""
    n_draws: int
    control: Recovery | None
    """The same for fresh weights; None if not asked for."""

    def to_frame(self) -> pd.DataFrame:
        """One row per distance, size and iteration; `weights` tells the control apart."""
        import pandas as pd

        d, s, k = (x.reshape(-1) for x in np.indices(self.distance.shape[:3]))
        frame = pd.DataFrame(
            {
                "distance": [DISTANCES[i] for i in d],
                "size": self.sizes[s],
                "iteration": k + self.at,
                **{
                    name: self.distance[..., i].reshape(-1)
                    for i, name in enumerate(("low", "median", "high"))
                },
                "kl": self.kl[s],
            }
        )
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Each distance against the iteration, a line a size, random weights dashed."""
        from probes.figures import recovery as figures

        return figures.draw(self, theme=theme)


def recovery(
    model: Any,
    text: Any,
    n_iters: int | None = None,
    *,
    at: int = 1,
    sizes: Sequence[float] = (0.01, 0.1, 0.5),
    n_draws: int = 4,
    control: bool = True,
    seed: int = 0,
    progress: Callback | None = None,
) -> Recovery:
    """Disturb h_k of every token of `text` at k = `at` by noise of `sizes` times its norm.

    `seed` draws the noise and the control's weights. `progress` counts runs. Errors: InputError for bad input.
    """
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    inputs = prepare(model, text, depth)
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at <= depth:
        raise InputError(f"at={at!r}: expected an iteration from 0 to {depth}.")
    sigma = np.asarray(sizes, dtype=np.float64)
    if sigma.ndim != 1 or not len(sigma) or not (np.isfinite(sigma).all() and (sigma > 0).all()):
        raise InputError(f"sizes={sizes!r}: expected numbers above 0.")
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or n_draws < 1:
        raise InputError(f"n_draws={n_draws!r}: expected an integer >= 1.")
    steps = Progress((1 + control) * len(sigma) * n_draws, progress)

    def run(model: Any, beside: Recovery | None) -> Recovery:
        return _disturbed(model, inputs, at, sigma, n_draws, seed, steps, beside)

    return run(model, run(fresh_weights(model, seed), None) if control else None)


def _disturbed(
    model: Any,
    inputs: Inputs,
    at: int,
    sigma: np.ndarray,
    n_draws: int,
    seed: int,
    steps: Progress,
    beside: Recovery | None,
) -> Recovery:
    run = Reruns(model, inputs, [SITE])
    effects, batch = Effects(run), len(inputs.tokens)
    generator = torch.Generator().manual_seed(seed)
    shape = (n_draws, *inputs.tokens.shape, model.cfg.d_model)
    noise = torch.randn(shape, generator=generator)
    noise = noise / noise.norm(dim=-1, keepdim=True)
    n_states = inputs.n_iters + 1 - at
    plain = [(numerics.unit(host(s.h)), scaled_readout(model, s)) for s in run.states[at:]]
    levels = np.empty((len(DISTANCES), len(sigma), n_states, 3))
    kl = np.empty(len(sigma))
    index = torch.arange(batch, device=run.at.device)
    for i, size in enumerate(sigma):
        found = np.empty((len(DISTANCES), n_draws, n_states, batch, inputs.tokens.shape[1]))
        ends = []
        for draw in range(n_draws):
            push = size * noise[draw]

            def disturb(x: Tensor, hook: Any, push: Tensor = push) -> Tensor:
                return x + torch.linalg.vector_norm(x, dim=-1, keepdim=True) * push.to(x)

            state = run.moved(run.moves[SITE, at], index.tolist(), [(f"{SITE}@{at}", disturb)])
            for step, (direction, readout) in enumerate(plain):
                if step:
                    with torch.no_grad():
                        state = model.step(state)
                found[0, draw, step] = numerics.norm(numerics.unit(host(state.h)) - direction)
                found[1, draw, step] = numerics.norm(scaled_readout(model, state) - readout)
            ends.append(effects.of(state, index)[0][0].mean())
            steps.step()
        shown = found[..., inputs.valid].transpose(0, 2, 1, 3).reshape(len(DISTANCES), n_states, -1)
        levels[:, i] = np.moveaxis(np.nanquantile(shown, (0.1, 0.5, 0.9), axis=-1), 0, -1)
        kl[i] = np.mean(ends)
    return Recovery(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        at=at,
        sizes=sigma,
        distance=levels,
        kl=kl,
        n_draws=n_draws,
        control=beside,
    )
