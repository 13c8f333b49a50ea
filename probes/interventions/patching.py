"""Activation patching over (iteration, position[, block, head]): the corrupt run with one clean value. (ANALYSES 20)

    score = (m_patched − m_corrupt) / (m_clean − m_corrupt),  NaN where the denominator is about 0

`state` patches the whole State: all that one iteration hands to the next at that position, so all positions at k = r give
the clean answer in every family. A site patches what fires there, as a hook does. Cells of one row of a site go through the model
as a batch, from the State before that row on, and only norm and unembedding of the last token are computed. Beside the scores
stand those of a third prompt's values (`third_prompt`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes.interventions.attribution import attributed
from probes.interventions.grid import Grid
from probes.interventions.metrics import Metric, evaluated, of_pairs
from probes.interventions.pairs import prepare_pairs
from probes.interventions.patching_result import Patching
from probes.interventions.reruns import Reruns
from probes.interventions.sites import STATE, chosen
from probes.interventions.third_prompt import third
from probes.numerics import host
from probes.progress import Callback, Progress


def patching(
    model: Any,
    clean: Any,
    corrupt: Any,
    n_iters: int | None = None,
    *,
    site: str = STATE,
    blocks: Sequence[int] | int | None = None,
    per_head: bool | None = None,
    together: bool = False,
    iterations: Sequence[int] | None = None,
    metric: str | Metric = "logit_difference",
    answer: Any = None,
    other: Any = None,
    aligned: Sequence[tuple[int, int]] | None = None,
    exact: bool = True,
    attribution: bool = True,
    control: Any = True,
    seed: int = 0,
    progress: Callback | None = None,
) -> Patching:
    """Patch clean values into the runs of `corrupt` prompts (texts, lists of texts, token ids), cell by cell.

    `site`: `state`, `hook_state`, `hook_readout`, `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`, `z` (by head) in
    `blocks` of the Body (None: all), or a site's own name. `together`: all positions at once. `iterations`: rows of the site.
    m is read at the last token: `logit_difference` of `answer` and `other` (None: what the clean and the corrupt run
    say), `kl`, or a function of (logits [row, d_vocab], pair [row]). `aligned`: (clean, corrupt) positions, for prompts of
    different length. `exact`, `attribution`: what to compute. `control`: prompts as long as the corrupt ones, whose values
    are patched in the same way; True: drawn by `seed` (`third_prompt`); False: none. `progress` counts cells.
    Errors: InputError for bad input, prompts of different length, a site without a value for each token.
    """
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    if not (exact or attribution):
        raise InputError("exact, attribution: both are off; nothing to compute.")
    pairs = prepare_pairs(model, clean, corrupt, depth, aligned)
    others = None
    if exact and control is not False and control is not None:
        others = third(model, pairs, control, seed)
    names = chosen(model, site, blocks)
    hooked = [name for name in names if name != STATE]
    runs = {
        "clean": Reruns(model, pairs.clean, hooked),
        "corrupt": Reruns(model, pairs.corrupt, hooked),
    }
    corrupted = runs["corrupt"]
    grid = Grid(model, pairs, runs["clean"], corrupted, names, per_head, together, iterations)
    every = torch.arange(len(corrupted.at), device=corrupted.at.device)
    with torch.no_grad():
        whole, broken = (run.logits(run.states[-1], run.at) for run in runs.values())
        measure, called = of_pairs(model, metric, whole, broken, answer, other)
        m_clean, m_corrupt = (host(evaluated(measure, x, every)) for x in (whole, broken))

    patched = beside = np.empty(0)
    if exact:
        counted = Progress((1 if others is None else 2) * grid.count(), progress)
        patched = _run(grid, measure, m_corrupt, counted)
        if others is not None:
            source = Reruns(model, others.clean, hooked)
            cells = Grid(model, others, source, corrupted, names, per_head, together, iterations)
            beside = _run(cells, measure, m_corrupt, counted)
    span = _span(m_clean, m_corrupt, model.dtype)[:, None, None]
    score, other_score = (
        (m - m_corrupt[:, None, None]) / span if m.size else m for m in (patched, beside)
    )
    by_gradient = np.empty(0)
    if attribution:
        change = attributed(model, pairs, runs, names, grid.values, measure)
        by_gradient = grid.gathered(change) / span
    pearson, spearman = _agreement(score, by_gradient)
    return Patching(
        model=model.info(),
        tokens=pairs.corrupt.str_tokens,
        n_iters=depth,
        metric=called,
        sites=tuple(names),
        clean_tokens=pairs.clean.str_tokens,
        valid=pairs.corrupt.valid,
        differs=pairs.differs,
        together=together,
        clean=m_clean,
        corrupt=m_corrupt,
        patched=patched,
        score=score,
        attribution=by_gradient,
        control=other_score,
        control_tokens=() if others is None else others.clean.str_tokens,
        pearson=pearson,
        spearman=spearman,
    )


def _run(grid: Grid, measure: Metric, corrupt: np.ndarray, counted: Progress) -> np.ndarray:
    """[site, iteration, pair, pos, head] m of every cell's run; `corrupt` [pair] where nothing changes."""
    run, patched = grid.corrupt, np.full(grid.shape, np.nan)
    for where, cells, start in grid.batches():
        if cells is None:
            patched[where] = corrupt[where[2]]
        else:
            index = torch.from_numpy(where[2]).to(run.at.device)
            with torch.no_grad():
                logits = run.logits(cells(), run.at[index] - start)
                patched[where] = host(evaluated(measure, logits, index))
        counted.step(len(where[0]))
    return patched


def _span(clean: np.ndarray, corrupt: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """[pair] m_clean − m_corrupt; NaN where it is no larger than rounding."""
    span = clean - corrupt
    rounding = 8 * torch.finfo(dtype).eps * np.maximum(np.abs(clean), np.abs(corrupt))
    return np.where(np.abs(span) > rounding, span, np.nan)


def _agreement(exact: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation over the cells that both define."""
    # SciPy's statistics take a second to import.
    from scipy.stats import rankdata

    if not (exact.size and other.size):
        return float("nan"), float("nan")
    both = np.isfinite(exact) & np.isfinite(other)
    x, y = exact[both], other[both]
    return _pearson(x, y), _pearson(rankdata(x), rankdata(y))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
