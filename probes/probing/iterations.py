"""Which iteration is it? (ANALYSES 23): a probe that is to name k from h_k.

The norm of a growing state gives k away, and says nothing: directions are probed by default, and what
the raw states give, and their norm alone, is shown beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import InputError
from probes import corpus
from probes.control import fresh_weights
from probes.labels import Label
from probes.numerics import norm, unit
from probes.probing import features
from probes.probing.engine import PENALTIES, Fits, fits, task
from probes.probing.split import thin
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

STATE = "loop.hook_state"
MAX_STATES = 12000
_EVERY = Label("every", "every token of the text", ("token",), lambda texts: _not_special(texts))
CONDITIONS = (
    "normalised",
    "raw",
    "norm",
    "untrained_normalised",
    "untrained_raw",
    "untrained_norm",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class WhichIteration(Result):
    """Accuracy of naming k from h_k on held-out documents; the last axis is (accuracy, low, high)."""

    title = "Which iteration is it?"
    formula = "k̂ = argmax softmax(W u(h_k) + b), u(h) = h/‖h‖ standardised; raw: of h_k itself; norm: of log ‖h_k‖ and its square; chance 1/(r + 1)"

    site: str
    normalised: np.ndarray
    """[3] from directions u(h_k)."""
    raw: np.ndarray
    """[3] from h_k, norm included."""
    norm: np.ndarray
    """[3] baseline: from log ‖h_k‖ and its square alone, which a linear reader can cut into bands."""
    untrained_normalised: np.ndarray
    """[3] the same for fresh weights."""
    untrained_raw: np.ndarray
    """[3]"""
    untrained_norm: np.ndarray
    """[3]"""
    shuffled: np.ndarray
    """[3] from directions, training labels permuted."""
    majority: np.ndarray
    """[3]"""
    confusion: np.ndarray
    """[k, k] test states by true (first) and named iteration, from directions."""
    n_documents: tuple[int, int, int]
    """Training, validation and test documents."""
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One row per condition."""
        import pandas as pd

        names = [*CONDITIONS, "shuffled", "majority"]
        rows = [(name, *getattr(self, name)) for name in names]
        frame = pd.DataFrame(rows, columns=["condition", "accuracy", "low", "high"])
        frame.insert(0, "site", self.site)
        return frame

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Named against true iteration, and the accuracy of every condition."""
        from probes.figures import which_iteration as figures

        return figures.draw(self, theme=theme)


def which_iteration(
    model: Any,
    texts: str | Sequence[str] | None = None,
    *,
    site: str = STATE,
    n_iters: int = 8,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    progress: Callback | None = None,
) -> WhichIteration:
    """Fit a probe that names k from the state after k iterations, beside raw states and fresh weights.

    texts: documents, or one text cut at form feeds or blank lines; the bundled sample if None.
    site: bare name of a site inside the loop.
    Errors: InputError (fewer than 4 documents, a site without iterations), SiteError, Cancelled.
    """
    if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 1:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 1.")
    if model.address(site).rows is not None or (n_rows := model.rows(site, n_iters)) < 2:
        raise InputError(
            f"site={site!r}: expected the bare name of a site with two iterations or more."
        )
    if texts is None:
        from abbie_lens import zoo

        texts = zoo.sample_text()
    n_tokens = max(1, MAX_STATES // n_rows)
    found = corpus.windows(model, corpus.split_documents(texts), _EVERY, n_tokens, seed)
    there = [np.flatnonzero(w.labels >= 0) for w in found]
    keep = thin(np.arange(sum(map(len, there))), n_tokens, seed)
    of = np.concatenate([np.full(len(p), i) for i, p in enumerate(there)])[keep]
    flat = np.concatenate(there)[keep]
    documents = np.array([w.document for w in found])[of]
    job = task(
        np.repeat(np.arange(n_rows), len(keep)),
        np.tile(documents, n_rows),
        penalties=penalties,
        seed=seed,
        device=model.device,
    )
    steps = Progress(2 * features.n_batches(found) + 6, progress)
    positions = [flat[of == i] for i in range(len(found))]

    def read(which: Any, controls: bool) -> Fits:
        states = features.collect(which, found, positions, [site], n_iters, steps)[site]
        raw = np.concatenate(states)
        return fits(
            job, [unit(raw), raw, _norms(raw)], np.tile(documents, n_rows), steps, controls=controls
        )

    own = read(model, True)
    fresh = read(fresh_weights(model, seed), False)
    return WhichIteration(
        model=model.info(),
        tokens=tuple(tuple(model.to_str_tokens(w.ids)) for w in found),
        n_iters=n_iters,
        site=site,
        normalised=own.score[0],
        raw=own.score[1],
        norm=own.score[2],
        untrained_normalised=fresh.score[0],
        untrained_raw=fresh.score[1],
        untrained_norm=fresh.score[2],
        shuffled=own.shuffled[0],
        majority=own.majority,
        confusion=own.confusion(0),
        n_documents=job.split.n_documents(np.tile(documents, n_rows)),
        seed=seed,
    )


def _norms(states: np.ndarray) -> np.ndarray:
    """[state, 2] log ‖h‖ and its centred square; not finite where the norm is 0 or is not."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        logs = np.log(norm(states.astype(np.float64)))
        return np.stack([logs, np.square(logs - logs.mean())], -1)


def _not_special(texts: Sequence[str]) -> np.ndarray:
    return np.array([-1 if text == "\0" else 0 for text in texts], dtype=np.int64)
