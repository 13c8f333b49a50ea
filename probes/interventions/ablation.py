"""Ablation of a part at one iteration: its value replaced by its mean, or by its value at another token. (ANALYSES 21)

The mean takes away what a part says about this token; a resampled value also says something false. Both are of a reference
text; beside them stands the spread over draws.
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
from probes.interventions.sites import STATE, chosen
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablation(Result):
    """Effect of taking away one part in one iteration; NaN where a site has no such row."""

    title: ClassVar[str] = "Ablation"
    formula: ClassVar[str] = (
        "x ← its mean over the reference's tokens, or x at a token drawn from them; kl: mean over tokens of "
        "KL(p_plain ‖ p_ablated), nats; nll: change of the mean NLL of the next token"
    )

    sites: tuple[str, ...]
    mean: np.ndarray
    """[measure, site, iteration, head] kl and nll of mean-ablation."""
    resample: np.ndarray
    """[measure, site, iteration, head, draw] of resampling."""
    n_reference: int
    """Tokens of the reference."""

    def to_frame(self) -> pd.DataFrame:
        """One row per measure, site, iteration, head that exists."""
        import pandas as pd

        m, s, k, h = np.nonzero(np.isfinite(self.mean))
        draws = self.resample[m, s, k, h]
        return pd.DataFrame(
            {
                "measure": [MEASURES[i] for i in m],
                "site": [self.sites[i] for i in s],
                "iteration": k,
                "head": h if self.mean.shape[-1] > 1 else -1,
                "mean": self.mean[m, s, k, h],
                "resample": draws.mean(-1),
                "resample_low": draws.min(-1),
                "resample_high": draws.max(-1),
            }
        )

    def figure(self, *, theme: str = "light", measure: str = "kl") -> go.Figure:
        """Iteration × part, mean above resampling on one scale. Errors: InputError for an unknown measure."""
        from probes.figures import ablation as figures

        if measure not in MEASURES:
            raise InputError(f"measure={measure!r}: expected one of {', '.join(MEASURES)}.")
        return figures.draw(self, theme=theme, measure=MEASURES.index(measure))


def ablation(
    model: Any,
    text: Any,
    n_iters: int | None = None,
    *,
    reference: Any = None,
    site: str = "attn_out",
    blocks: Sequence[int] | int | None = None,
    per_head: bool | None = None,
    n_draws: int = 4,
    seed: int = 0,
    progress: Callback | None = None,
) -> Ablation:
    """Replace a site's values at all tokens of `text`, one iteration, block (and head, for `z`) at a time.

    `reference`: texts whose tokens give means and samples (None: `text` itself). `seed` draws the tokens. `progress`
    counts runs. Errors: InputError for bad input, or a site without a value for each token.
    """
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    if site == STATE:
        raise InputError("site='state': expected hook_state, or a site of the Body, to ablate.")
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or n_draws < 1:
        raise InputError(f"n_draws={n_draws!r}: expected an integer >= 1.")
    names = chosen(model, site, blocks)
    inputs = prepare(model, text, depth)
    run = Reruns(model, inputs, names)
    other = run
    if reference is not None:
        other = Reruns(model, prepare(model, reference, depth), names)
    effects = Effects(run)
    by_head = {n: per_head or (per_head is None and n.endswith("attn.hook_z")) for n in names}
    heads = {n: run.values[n, 0].shape[2] if by_head[n] else 1 for n in names}
    most = max(run.rows(n) for n in names)
    kinds = 1 + n_draws
    found = np.full((len(MEASURES), len(names), most, max(heads.values()), kinds), np.nan)
    batch = len(inputs.tokens)
    total = sum(run.rows(n) * heads[n] * kinds * batch for n in names)
    steps, rng = Progress(total, progress), np.random.default_rng(seed)
    valid = torch.from_numpy(other.inputs.valid).to(inputs.tokens.device)
    for s, name in enumerate(names):
        for k in range(run.rows(name)):
            value, source = run.values[name, k], other.values[name, k]
            if value.shape[:2] != inputs.tokens.shape or source.shape[:2] != valid.shape:
                raise InputError(
                    f"site={name!r}: shape {tuple(value.shape)} in row {k}; only sites with a row for each token."
                )
            pool = source[valid]
            drawn = torch.from_numpy(rng.integers(len(pool), size=(n_draws, *value.shape[:2])))
            new = torch.cat(
                [pool.mean(0).expand_as(value)[None], pool[drawn.to(pool.device)]]
            )  # [kind, batch, pos, ...]
            found[:, s, k, : heads[name]] = 0.0
            cells = np.array(list(np.ndindex(heads[name], kinds, batch)))
            size = effects.chunk()
            for first in range(0, len(cells), size):
                h, kind, n = cells[first : first + size].T
                index = torch.from_numpy(n).to(inputs.tokens.device)
                hook = _replaced(new[kind, n], h if by_head[name] else None)
                state = run.moved(run.moves[name, k], n.tolist(), [(f"{name}@{k}", hook)])
                judged, _ = effects.of(state, index)
                for measure in range(len(MEASURES)):
                    np.add.at(found[measure, s, k], (h, kind), judged[measure] / batch)
                steps.step(len(h))
    return Ablation(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=depth,
        sites=tuple(names),
        mean=found[..., 0],
        resample=found[..., 1:],
        n_reference=int(valid.sum()),
    )


def _replaced(new: Tensor, heads: np.ndarray | None) -> Callable[..., Tensor]:
    """A hook that puts `new` [row, pos, ...] in the place of x, or of one head of each row."""

    def fn(x: Tensor, hook: Any) -> Tensor:
        if heads is None:
            return new.to(x)
        rows, at = torch.arange(len(x), device=x.device), torch.from_numpy(heads).to(x.device)
        out = x.clone()
        out[rows, :, at] = new[rows, :, at].to(x)
        return out

    return fn
