"""A head's attention pattern of iteration i kept at iteration j: does it matter when the head looks? (ANALYSES 21, 32)

Beside each stands the uniform pattern over the keys a token may see: what the head's choice of where to look is worth at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.inputs import prepare
from probes.interventions.effects import MEASURES, Effects
from probes.interventions.reruns import Reruns
from probes.interventions.sites import chosen
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SITE = "attn.hook_pattern"


@dataclass(frozen=True, eq=False, kw_only=True)
class FrozenPatterns(Result):
    """Effect of giving a head the pattern of another iteration."""

    title: ClassVar[str] = "Frozen attention patterns"
    formula: ClassVar[str] = (
        "pattern_j ← pattern_i of one head; kl: mean over tokens of KL(p_plain ‖ p_frozen), nats; "
        "uniform: the same weight on every key that a token may see"
    )

    sites: tuple[str, ...]
    effect: np.ndarray
    """[measure, block, head, i, j] of pattern i at iteration j; 0 to rounding where i = j."""
    uniform: np.ndarray
    """[measure, block, head, j] of the uniform pattern at j."""

    def to_frame(self) -> pd.DataFrame:
        """One row per measure, block, head, i and j."""
        import pandas as pd

        m, b, h, i, j = (x.reshape(-1) for x in np.indices(self.effect.shape))
        return pd.DataFrame(
            {
                "measure": [MEASURES[x] for x in m],
                "site": [self.sites[x] for x in b],
                "head": h,
                "from_iteration": i,
                "at_iteration": j,
                "effect": self.effect.reshape(-1),
                "uniform": self.uniform[m, b, h, j],
            }
        )

    def figure(self, *, theme: str = "light", measure: str = "kl", block: int = 0) -> go.Figure:
        """i × j for every head of a block, and the uniform pattern as the lowest row."""
        from probes.figures import ablation as figures

        if measure not in MEASURES:
            raise InputError(f"measure={measure!r}: expected one of {', '.join(MEASURES)}.")
        if not 0 <= block < len(self.sites):
            raise InputError(f"block={block!r}: expected 0 to {len(self.sites) - 1}.")
        return figures.draw_frozen(self, theme=theme, measure=MEASURES.index(measure), block=block)


def frozen_patterns(
    model: Any,
    text: Any,
    n_iters: int | None = None,
    *,
    blocks: Sequence[int] | int | None = None,
    progress: Callback | None = None,
) -> FrozenPatterns:
    """Every head of `blocks` of the Body (None: all), every pair of iterations, on one prompt.

    `progress` counts runs. Errors: InputError for several prompts, or a model whose patterns change shape or are no site.
    """
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    probe = chosen(model, "resid_post", blocks)
    names = [chosen(model, name.replace("hook_resid_post", SITE))[0] for name in probe]
    inputs = prepare(model, text, depth)
    if len(inputs.tokens) != 1:
        raise InputError(f"text: {len(inputs.tokens)} prompts; expected one.")
    run = Reruns(model, inputs, names)
    effects, rows = Effects(run), {name: run.rows(name) for name in names}
    n_rows, n_heads = max(rows.values()), run.values[names[0], 0].shape[1]
    found = np.full((len(MEASURES), len(names), n_heads, n_rows + 1, n_rows), np.nan)
    steps = Progress(sum(n_heads * (rows[n] + 1) * rows[n] for n in names), progress)
    for b, name in enumerate(names):
        patterns = [run.values[name, k][0] for k in range(rows[name])]
        if len({p.shape for p in patterns}) > 1:
            raise InputError(
                f"{name}: its shape changes with the iteration; no pattern fits another."
            )
        seen = (torch.stack(patterns) > 0).any(0).any(0).to(patterns[0].dtype)
        uniform = (seen / seen.sum(-1, keepdim=True).clamp_min(1)).expand_as(patterns[0])
        sources = torch.stack([*patterns, uniform])
        for j in range(rows[name]):
            cells = np.array(list(np.ndindex(n_heads, len(sources))))
            size = effects.chunk()
            for first in range(0, len(cells), size):
                h, i = cells[first : first + size].T
                index = torch.zeros(len(h), dtype=torch.long, device=run.at.device)
                hooks = [(f"{name}@{j}", _given(sources[i, h], h))]
                judged, _ = effects.of(run.moved(run.moves[name, j], index.tolist(), hooks), index)
                row = np.where(i == len(patterns), n_rows, i)
                found[:, b, h, row, j] = judged
                steps.step(len(h))
    return FrozenPatterns(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=depth,
        sites=tuple(names),
        effect=found[..., :-1, :],
        uniform=found[..., -1, :],
    )


def _given(patterns: Tensor, heads: np.ndarray) -> Callable[..., Tensor]:
    """A hook that gives head `heads[j]` of row j the pattern `patterns[j]` [query, key]."""

    def fn(x: Tensor, hook: Any) -> Tensor:
        out = x.clone()
        out[torch.arange(len(x), device=x.device), torch.from_numpy(heads).to(x.device)] = patterns
        return out

    return fn
