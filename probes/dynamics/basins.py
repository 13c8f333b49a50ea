"""What does the end depend on? Path independence and its basin, beside input dependence (ANALYSES 15).

Path independence asks whether the end stays when the run begins elsewhere: at the end of another input, at noise, at its
own start pushed further and further. It says something only where the input comes in again: other loops forget it with the
state. And it is worth something only beside input dependence: a loop that ends in one point for every input is
independent of everything. Source: arXiv 2211.09961 (asymptotic alignment).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import unit
from probes import numerics
from probes.control import fresh_weights
from probes.dynamics.restarts import AFTER, reinjects, restarted, run_on, start_of
from probes.dynamics.walk import Walk, drawn, usable, whole_number
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.tidy import tidy, with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SIZES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
NO_INJECTION = "{}: the input does not come in again, so a restart removes it."
ONE_INPUT = "one input: there is no other to start from or to compare with."


@dataclass(frozen=True, eq=False, kw_only=True)
class PathIndependence(Result):
    """Per token, how alike ends are; h* is the end of the undisturbed run. Undefined values are NaN, with the reason."""

    title: ClassVar[str] = "Path independence and input dependence"
    formula: ClassVar[str] = (
        f"cos(h*, h′): both after r iterations of the same input, h′ restarted after iteration {AFTER} from another state; "
        "basin: largest ε up to which h + ε‖h‖n, n a random direction, ends with ‖u(h′) − u(h*)‖ below the "
        "tolerance; input dependence: 1 − cos between the ends of different inputs"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    reason: str
    """Why path independence is undefined; empty where it is not."""
    reason_inputs: str
    """Why what needs several inputs is undefined; empty where it is not."""
    from_inputs: np.ndarray
    """[batch, pos] mean cos(h*, h′) over starts at the ends of the other inputs."""
    from_noise: np.ndarray
    """[batch, pos] the same over starts at noise as long as the state that it replaces."""
    moved: np.ndarray
    """[size, batch, pos] mean ‖u(h′) − u(h*)‖ after a push of that size."""
    sizes: np.ndarray
    """[size] ε, in lengths of the state that is pushed."""
    basin: np.ndarray
    """[batch, pos] the largest ε of which it and all smaller ones move the end by less than `tolerance`; 0 if none."""
    tolerance: float
    input_dependence: np.ndarray
    """[batch, pos] mean 1 − cos(h*, h*_j) over the other inputs j, at the same position."""
    still: np.ndarray
    """[batch, pos] last direction step of the undisturbed run: h* is an end only where this is small."""
    n_draws: int
    """Draws of noise, and of directions."""
    control: PathIndependence | None
    """The same for freshly initialised weights; None if not asked for."""

    def per_token(self) -> dict[str, np.ndarray]:
        """Values by name, each [1, batch, pos]."""
        names = ("from_inputs", "from_noise", "basin", "input_dependence", "still")
        return {name: getattr(self, name)[None] for name in names}

    def to_frame(self) -> pd.DataFrame:
        """One row per token and size of the push; `weights` tells the control apart."""

        columns = {"moved": self.moved}
        columns |= {name: values[0] for name, values in self.per_token().items()}
        frame = tidy(self.tokens, columns, valid=self.valid)
        frame = frame.rename(columns={"iteration": "size"})
        frame["size"] = self.sizes[frame["size"].to_numpy()]
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light", **options: Any) -> go.Figure:
        """How far pushes of growing size move the end, trained and random, with the cosines beside."""
        from probes.figures import basin as figures

        return figures.draw(self, theme=theme, **options)


def path_independence(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 32,
    *,
    sizes: Sequence[float] = SIZES,
    tolerance: float = 0.01,
    n_draws: int = 2,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    control_seed: int = 0,
    progress: Callback | None = None,
) -> PathIndependence:
    """Where runs of the same inputs end from other states, and where different inputs end, after r iterations in float64.

    `sizes` of the pushes rise. `seed` draws noise and directions, `control_seed` the fresh weights.
    Errors: InputError for bad input, Cancelled. A family without injection gets NaN with the reason, and input dependence.
    """
    grid = np.asarray(sizes, float)
    if grid.ndim != 1 or not len(grid) or not (np.diff(grid, prepend=0) > 0).all():
        raise InputError(f"sizes={tuple(sizes)!r}: expected rising numbers above 0.")
    if not tolerance > 0:
        raise InputError(f"tolerance={tolerance!r}: expected a number above 0.")
    whole_number("n_draws", n_draws)
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=AFTER + 1)
    runs = 1 + (len(inputs.valid) - 1 + n_draws * (1 + len(grid))) * reinjects(model)
    counting = Progress(runs * (1 + bool(control)), progress)
    given = (grid, float(tolerance), n_draws, seed, counting)
    beside = _run(fresh_weights(model, control_seed), inputs, *given, None) if control else None
    return _run(model, inputs, *given, beside)


def _run(
    model: Any,
    inputs: Inputs,
    sizes: np.ndarray,
    tolerance: float,
    n_draws: int,
    seed: int,
    counting: Progress,
    beside: PathIndependence | None,
) -> PathIndependence:
    walk, valid = Walk.of(model, inputs), inputs.valid
    begun = start_of(walk)
    end, still = _undisturbed(walk, begun)
    counting.step()
    loop = getattr(getattr(model, "cfg", None), "loop", None)
    reason = "" if reinjects(model) else NO_INJECTION.format(getattr(loop, "family", "this model"))
    several = len(valid) > 1
    goal = np.where(valid[..., None], numerics.host(end.h), np.nan)
    from_inputs, from_noise = np.full(valid.shape, np.nan), np.full(valid.shape, np.nan)
    moved = np.full((len(sizes), *valid.shape), np.nan)

    def ends_from(h: torch.Tensor) -> np.ndarray:
        """[batch, pos, d] where the run ends that goes on from h."""
        after = run_on(walk, restarted(walk.model, begun, h))
        counting.step()
        return np.where(usable(after)[..., None], numerics.host(after.h), np.nan)

    if not reason:
        if several:
            from_inputs = _over_others(end.h, begun.h, goal, valid, ends_from)
        length = begun.h.norm(dim=-1, keepdim=True)
        noise = [_as_long(n, length) for n in drawn(seed, n_draws, begun.h)]
        push = [_as_long(n, length) for n in drawn(seed + 1, n_draws, begun.h)]
        from_noise = numerics.mean(np.stack([numerics.cosine(goal, ends_from(n)) for n in noise]))
        for i, size in enumerate(sizes):
            ends = [ends_from(begun.h + float(size) * n) for n in push]
            moved[i] = numerics.mean(
                np.stack([numerics.norm(numerics.unit(e) - numerics.unit(goal)) for e in ends])
            )
    return PathIndependence(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=valid,
        reason=reason,
        reason_inputs="" if several else ONE_INPUT,
        from_inputs=from_inputs,
        from_noise=from_noise,
        moved=moved,
        sizes=sizes,
        basin=_basin(moved, sizes, tolerance),
        tolerance=tolerance,
        input_dependence=_between(goal),
        still=np.where(valid, still, np.nan),
        n_draws=n_draws,
        control=beside,
    )


def _undisturbed(walk: Walk, state: Any) -> tuple[Any, np.ndarray]:
    """The end of the run, and its last direction step [batch, pos]."""
    before = state
    while state.k < walk.inputs.n_iters:
        with torch.no_grad():
            before, state = state, walk.model.step(state)
    units = [numerics.unit(numerics.host(s.h)) for s in (before, state)]
    return state, np.where(usable(state), numerics.norm(units[1] - units[0]), np.nan)


def _over_others(
    end: Any, own: Any, goal: np.ndarray, valid: np.ndarray, ends_from: Any
) -> np.ndarray:
    """Mean cosine [batch, pos] over starts at the ends of the other inputs; where one has padding, at the own state."""
    found = []
    real = torch.as_tensor(valid, device=own.device)
    for shift in range(1, len(valid)):
        other = torch.where(real.roll(shift, 0)[..., None], end.roll(shift, 0), own)
        alike = numerics.cosine(goal, ends_from(other))
        found.append(np.where(np.roll(valid, shift, 0), alike, np.nan))
    return numerics.mean(np.stack(found))


def _between(goal: np.ndarray) -> np.ndarray:
    """Mean 1 − cos [batch, pos] between the ends [batch, pos, d] of different inputs at the same position."""
    shifts = range(1, len(goal))
    if not shifts:
        return np.full(goal.shape[:2], np.nan)
    return numerics.mean(np.stack([1 - numerics.cosine(goal, np.roll(goal, s, 0)) for s in shifts]))


def _basin(moved: np.ndarray, sizes: np.ndarray, tolerance: float) -> np.ndarray:
    inside = np.logical_and.accumulate(moved < tolerance)
    found = np.where(inside, sizes[:, None, None], 0).max(0)
    return np.where(np.isnan(moved).all(0), np.nan, found)


def _as_long(n: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    return unit(n) * length
