"""Directions to steer along: the difference of two sets of texts at a site, a probe's, or a vector that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes.inputs import prepare
from probes.interventions.reruns import Reruns
from probes.interventions.sites import STATE, chosen
from probes.numerics import host
from probes.probing.probe import Probe
from probes.probing.stored import FittedProbes


def difference_of_means(
    model: Any,
    positive: Sequence[str],
    negative: Sequence[str],
    n_iters: int | None = None,
    *,
    site: str = "hook_state",
    iteration: int = -1,
    block: int | None = None,
    tokens: str = "last",
) -> np.ndarray:
    """[d] mean of `positive` texts less that of `negative` ones, at a row of a site.

    `tokens`: each text's `last` token, or `all` of them. Errors: InputError for a site or row that is not there.
    """
    if tokens not in ("last", "all"):
        raise InputError(f"tokens={tokens!r}: expected last or all.")
    depth = model.info().trained_n_iters if n_iters is None else n_iters
    name = one_site(model, site, block)
    means = []
    for texts in (positive, negative):
        inputs = prepare(model, list(texts), depth)
        run = Reruns(model, inputs, [name])
        row = which_row(run, name, iteration)
        values = host(run.values[name, row])
        at = run.at.cpu().numpy()
        found = values[np.arange(len(at)), at] if tokens == "last" else values[inputs.valid]
        means.append(found.mean(0))
    return means[0] - means[1]


def one_site(model: Any, site: str, block: int | None = None) -> str:
    """The one site meant, of width d_model. Errors: InputError."""
    if site == STATE:
        raise InputError(
            "site='state': expected hook_state, or a site of the Body, to add a vector to."
        )
    names = chosen(model, site, block)
    if len(names) > 1:
        raise InputError(f"site={site!r}: {len(names)} blocks have one; name the block.")
    return names[0]


def which_row(run: Reruns, name: str, iteration: Any) -> int:
    """The row that is meant; -1 is the last. Errors: InputError."""
    rows = run.rows(name)
    if (
        isinstance(iteration, bool)
        or not isinstance(iteration, int)
        or not -rows <= iteration < rows
    ):
        raise InputError(f"iteration={iteration!r}: {name} has rows 0 to {rows - 1}.")
    return iteration % rows


def unit_vector(vector: Any, width: int) -> np.ndarray:
    """v / ‖v‖ [d]. Errors: InputError for the zero vector, one that is not finite, or another width."""
    values = vector.detach().cpu().double().numpy() if isinstance(vector, torch.Tensor) else vector
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (width,):
        raise InputError(
            f"vector: shape {values.shape}; expected [{width}], the width of the site."
        )
    if not np.isfinite(values).all():
        raise InputError("vector: it holds NaN or infinity.")
    size = np.linalg.norm(values)
    if size == 0:
        raise InputError("vector: all zeros has no direction; give another one.")
    return values / size


def of_rows(
    given: Any, site: str, rows: Sequence[int], width: int, toward: str | None
) -> np.ndarray:
    """[row, d] unit vectors: one vector for all rows, or at each what raises a class most in the probe fitted there.

    Of several classes: the column of `toward` less the mean of all columns, which the softmax knows nothing of. Of two:
    the one column, or its negative; of a label or number that is one of several: its own.
    Errors: InputError for probes without these rows, or an unknown `toward`.
    """
    if not isinstance(given, FittedProbes):
        if toward is not None:
            raise InputError(f"toward={toward!r}: of fitted probes; a vector has one direction.")
        return unit_vector(given, width)[None].repeat(len(rows), 0)
    found = []
    for k in rows:
        probe = given.probes.get(f"{site}@{k}")
        if probe is None:
            held = ", ".join(given.probes) or "none"
            raise InputError(f"vector: no probe was fitted on {site}@{k}; there are {held}.")
        found.append(unit_vector(_direction(probe, toward), width))
    return np.stack(found)


def _direction(probe: Probe, toward: str | None) -> np.ndarray:
    columns, classes = probe.direction, probe.classes
    if toward is None and len(columns) == 1:
        return columns[0]
    if toward not in classes:
        raise InputError(f"toward={toward!r}: expected one of {', '.join(classes)}.")
    at = classes.index(toward)
    if len(columns) < len(classes):
        return columns[0] if at else -columns[0]
    return columns[at] - (columns.mean(0) if probe.kind == "classes" else 0.0)


def random_directions(n: int, width: int, seed: int) -> np.ndarray:
    """[n, d] directions drawn uniformly."""
    drawn = np.random.default_rng(seed).standard_normal((n, width))
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
