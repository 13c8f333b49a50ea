"""Steering: x += α ‖x‖ v/‖v‖ at chosen iterations, beside random directions of the same length. (ANALYSES 21)

A large step in any direction changes what a model says; only what the random directions do not do is the vector's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.evaluation.intervals import quantiles
from probes.inputs import prepare
from probes.interventions.directions import of_rows, one_site, random_directions
from probes.interventions.effects import MEASURES, Effects
from probes.interventions.metrics import LogitDifference, token_ids
from probes.interventions.reruns import Reruns
from probes.numerics import host
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

STRENGTHS = (-0.5, -0.2, -0.1, 0.1, 0.2, 0.5)
TEXTS = 3
"""Placebos whose texts are generated, at most."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Steering(Result):
    """Effects of a vector by strength, and of as many random directions of the same length."""

    title: ClassVar[str] = "Steering"
    formula: ClassVar[str] = (
        "x ← x + α ‖x‖ v/‖v‖ at the chosen iterations; kl: mean over tokens of KL(p_plain ‖ p_steered), nats; "
        "nll: change of the mean NLL of the next token; band: random directions of the same length"
    )

    site: str
    iterations: tuple[int, ...]
    positions: tuple[int, ...]
    """Tokens that were pushed."""
    measures: tuple[str, ...]
    """kl, nll, and the change of a logit difference where two tokens were named."""
    strengths: np.ndarray
    """[strength] α."""
    effect: np.ndarray
    """[measure, strength] of the vector."""
    placebo: np.ndarray
    """[measure, strength, draw] of random directions."""
    confidence: float
    texts: dict[str, str]
    """What is generated: plain, steered, placebo 1, placebo 2, …; empty if not asked for."""
    generated_at: float
    """α of those; NaN if there are none."""

    def interval(self) -> np.ndarray:
        """[measure, strength, 2] of the placebo."""
        bounds = [[quantiles(d, self.confidence) for d in row] for row in self.placebo]
        return np.array(bounds)

    def to_frame(self) -> pd.DataFrame:
        """One row per measure and strength."""
        import pandas as pd

        low, high = np.moveaxis(self.interval(), -1, 0)
        n = len(self.strengths)
        return pd.DataFrame(
            {
                "measure": np.repeat(np.array(self.measures, dtype=object), n),
                "strength": np.tile(self.strengths, len(self.measures)),
                "effect": self.effect.reshape(-1),
                "placebo_mean": self.placebo.mean(-1).reshape(-1),
                "placebo_low": low.reshape(-1),
                "placebo_high": high.reshape(-1),
            }
        )

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Every measure against the strength, with the placebo's band."""
        from probes.figures import steering as figures

        return figures.draw(self, theme=theme)


def steering(
    model: Any,
    text: Any,
    vector: Any,
    n_iters: int | None = None,
    *,
    site: str = "hook_state",
    block: int | None = None,
    iterations: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    toward: str | None = None,
    strengths: Sequence[float] = STRENGTHS,
    answer: Any = None,
    other: Any = None,
    n_placebos: int = 8,
    confidence: float = 0.95,
    generate: int = 0,
    seed: int = 0,
    progress: Callback | None = None,
) -> Steering:
    """Add `vector` at `iterations` (rows of the site; None: all) of the tokens at `positions` of a prompt (None: all).

    `vector`: [d], or fitted probes, whose own direction `toward` a class is taken at each row (`directions.of_rows`).
    `answer`, `other`: tokens whose logit difference at the last token is measured too. `generate`: tokens to continue the
    prompt by, greedily, at the largest strength; without `positions` new tokens are pushed too. `seed` draws the placebos. `progress` counts runs.
    Errors: InputError for a zero vector, another width, rows or strengths that make no sense.
    """
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    name = one_site(model, site, block)
    inputs = prepare(model, text, depth)
    if len(inputs.tokens) != 1:
        raise InputError(f"text: {len(inputs.tokens)} prompts; steering takes one.")
    run = Reruns(model, inputs, [name])
    rows = checked_rows(run, name, iterations)
    alphas = np.asarray(strengths, dtype=np.float64)
    if alphas.ndim != 1 or not len(alphas) or not np.isfinite(alphas).all():
        raise InputError(f"strengths={strengths!r}: expected finite numbers.")
    if n_placebos < 2:
        raise InputError(f"n_placebos={n_placebos!r}: expected an integer >= 2, for an interval.")
    width = run.values[name, rows[0]].shape[-1]
    own = of_rows(vector, name, rows, width, toward)
    random = random_directions(n_placebos, width, seed)[:, None].repeat(len(rows), 1)
    vectors = np.concatenate([own[None], random])  # [vector, row, d]
    there, chosen = checked_positions(inputs.tokens.shape[1], positions)
    difference = None
    if (answer is None) != (other is None):
        raise InputError("answer, other: name both tokens, or neither.")
    if answer is not None:
        a, b = (
            token_ids(model, n, t, 1, model.device)
            for n, t in (("answer", answer), ("other", other))
        )
        difference = LogitDifference(a, b)
    measures = (*MEASURES, *(() if difference is None else ("logit difference",)))

    effects = Effects(run)
    shape = (len(alphas), len(vectors))
    found = np.empty((len(measures), len(alphas) * len(vectors)))
    steps, size = Progress(found.shape[1], progress), effects.chunk()
    base = (
        None if difference is None else difference(effects.plain[:, -1], torch.zeros_like(run.at))
    )
    for first in range(0, found.shape[1], size):
        part = np.arange(first, min(first + size, found.shape[1]))
        alpha, which = np.unravel_index(part, shape)
        push = alphas[alpha, None, None] * vectors[which]
        index = torch.zeros(len(part), dtype=torch.long, device=run.at.device)
        hooks = [(f"{name}@{k}", added(push[:, i], there)) for i, k in enumerate(rows)]
        move = min(run.moves[name, k] for k in rows)
        state = run.through(move, index.tolist(), hooks)
        judged, last = effects.of(state, index)
        found[: len(MEASURES), part] = judged
        if difference is not None and base is not None:
            found[-1, part] = host(difference(last, index) - base)
        steps.step(len(part))
    found = found.reshape(len(measures), *shape)
    texts: dict[str, str] = {}
    at = float(max(alphas, key=lambda a: (abs(a), a)))  # of two as large, along the vector
    if generate:
        names = ["steered", *(f"placebo {i + 1}" for i in range(min(n_placebos, TEXTS)))]
        texts["plain"] = continued(model, inputs, generate, [])
        for called, pushed in zip(names, at * vectors, strict=False):
            hooks = [(f"{name}@{k}", added(pushed[i : i + 1], there)) for i, k in enumerate(rows)]
            texts[called] = continued(model, inputs, generate, hooks, whole=there is not None)
    return Steering(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=depth,
        site=name,
        iterations=tuple(rows),
        positions=tuple(chosen),
        measures=measures,
        strengths=alphas,
        effect=found[:, :, 0],
        placebo=found[:, :, 1:],
        confidence=confidence,
        texts=texts,
        generated_at=at if generate else float("nan"),
    )


def added(push: np.ndarray, there: np.ndarray | None = None) -> Callable[..., Tensor]:
    """A hook x [row, pos, d] -> x + ‖x‖ push, `push` [row or 1, d] of length α; `there` [pos] 1 or 0: of the first tokens."""

    def fn(x: Tensor, hook: Any) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        if there is not None:
            kept = torch.zeros(x.shape[1], dtype=x.dtype, device=x.device)
            kept[: len(there)] = torch.from_numpy(there).to(kept)
            size = size * kept[:, None]
        return x + size * torch.from_numpy(push).to(x.dtype).to(x.device)[:, None]

    return fn


def checked_rows(run: Reruns, name: str, iterations: Sequence[int] | None) -> list[int]:
    """Rows of the site that are meant. Errors: InputError."""
    n = run.rows(name)
    asked = list(range(n)) if iterations is None else list(iterations)
    if not asked or not all(isinstance(k, int) and 0 <= k < n for k in asked):
        raise InputError(f"iterations={iterations!r}: expected rows 0 to {n - 1} of {name}.")
    return asked


def checked_positions(
    n: int, positions: Sequence[int] | None
) -> tuple[np.ndarray | None, list[int]]:
    """([pos] 1 for tokens that are meant, None for all; their numbers), -1 being the last. Errors: InputError."""
    if positions is None:
        return None, list(range(n))
    asked = list(positions)
    if not asked or not all(
        isinstance(p, int) and not isinstance(p, bool) and -n <= p < n for p in asked
    ):
        raise InputError(f"positions={positions!r}: expected tokens 0 to {n - 1} of the prompt.")
    chosen = sorted({p % n for p in asked})
    there = np.zeros(n)
    there[chosen] = 1
    return there, chosen


def continued(model: Any, inputs: Any, n: int, hooks: Sequence[Any], whole: bool = False) -> str:
    """The prompt's greedy continuation by `n` tokens under hooks; `whole`: which see the whole text each time."""
    with model.hooks(fwd_hooks=list(hooks)):
        text = model.generate(
            inputs.tokens, n, n_iters=inputs.n_iters, temperature=0, use_kv_cache=not whole
        )
    return model.to_string(text[0, inputs.tokens.shape[1] :])
