"""Activation patching over (iteration, position[, block, head]): the corrupt run with one clean value. (ANALYSES 20)

    score = (m_patched − m_corrupt) / (m_clean − m_corrupt),  NaN where the denominator is about 0

`state` patches the whole State: all that one iteration hands to the next at that position, so all positions at k = r give
the clean answer in every family. A site patches what fires there, as a hook does. Cells of one row of a site go through the model
as a batch, from the State before that row on, and only norm and unembedding of the last token are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from abbie_lens.errors import InputError
from probes.interventions.attribution import attributed
from probes.interventions.grid import Grid
from probes.interventions.metrics import Metric, evaluated, of_pairs
from probes.interventions.pairs import prepare_pairs
from probes.interventions.patching_result import Patching
from probes.interventions.reruns import Reruns
from probes.interventions.sites import STATE, chosen
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
    progress: Callback | None = None,
) -> Patching:
    """Patch clean values into the runs of `corrupt` prompts (texts, lists of texts, token ids), cell by cell.

    `site`: `state`, `hook_state`, `hook_readout`, `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out`, `z` (by head) in
    `blocks` of the Body (None: all), or a site's own name. `together`: all positions at once. `iterations`: rows of the site.
    m is read at the last token: `logit_difference` of `answer` and `other` (None: what the clean and the corrupt run
    say), `kl`, or a function of (logits [row, d_vocab], pair [row]). `aligned`: (clean, corrupt) positions, for prompts of
    different length. `exact`, `attribution`: what to compute. `progress` counts cells.
    Errors: InputError for bad input, prompts of different length, a site without a value for each token.
    """
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    if not (exact or attribution):
        raise InputError("exact, attribution: both are off; nothing to compute.")
    pairs = prepare_pairs(model, clean, corrupt, depth, aligned)
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

    patched = np.empty(0)
    if exact:
        patched = np.full(grid.shape, np.nan)
        counted = Progress(grid.count(), progress)
        for where, run, start in grid.batches():
            if run is None:
                patched[where] = m_corrupt[where[2]]
            else:
                index = torch.from_numpy(where[2]).to(every.device)
                with torch.no_grad():
                    logits = corrupted.logits(run(), corrupted.at[index] - start)
                    patched[where] = host(evaluated(measure, logits, index))
            counted.step(len(where[0]))
    span = _span(m_clean, m_corrupt, model.dtype)[:, None, None]
    score = (patched - m_corrupt[:, None, None]) / span if exact else np.empty(0)
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
        pearson=pearson,
        spearman=spearman,
    )


def _span(clean: np.ndarray, corrupt: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """[pair] m_clean − m_corrupt; NaN where it is no larger than rounding."""
    span = clean - corrupt
    rounding = 8 * torch.finfo(dtype).eps * np.maximum(np.abs(clean), np.abs(corrupt))
    return np.where(np.abs(span) > rounding, span, np.nan)


def _agreement(exact: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation over the cells that both define."""
    if not (exact.size and other.size):
        return float("nan"), float("nan")
    both = np.isfinite(exact) & np.isfinite(other)
    x, y = exact[both], other[both]
    return _pearson(x, y), _pearson(rankdata(x), rankdata(y))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
