"""Linear probes by site and iteration (ANALYSES 22): what a linear reader finds in the states.

Probes find labels in almost anything, so every baseline comes with the result: the token embedding, the
Head's output h_0, an untrained model of the same architecture, shuffled training labels, and the majority
class. Documents are split, never tokens; the scaler and the probe see the training documents only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import InputError
from probes import corpus, features
from probes.classifier import SCORES, Fit, Task
from probes.labels import Counted, Labelling, find_label
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

EMBEDDING, STATE = "embed.hook_out", "loop.hook_state"
MAX_TRAIN, MAX_TEST = 6000, 4000
"""Most tokens that a probe is fitted on and tested on."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearProbes(Result):
    """Test accuracy of linear probes with all baselines; the last axis is (accuracy, low, high).

    low and high: 95% bootstrap interval over test documents, NaN with a single one. Rows that a site
    does not have, and states that are not finite, are NaN.
    """

    title = "Linear probes"
    formula = (
        "ŷ = argmax softmax(W s + b), s = standardised state; accuracy on held-out documents,"
        " 95% bootstrap interval over documents"
    )

    label: str
    description: str
    """What the label says about a token."""
    classes: tuple[str, ...]
    """Classes that were probed."""
    dropped_classes: tuple[str, ...]
    """Classes left out because they occur in fewer than two documents."""
    sites: tuple[str, ...]
    rows: np.ndarray
    """[site] rows that the site has, one an iteration or as many as the loop gives it; 0 outside the loop, drawn at k = 0."""
    trained: np.ndarray
    """[site, k, 3] the model's own states; k goes to n_iters, or to the longest site's last row."""
    untrained: np.ndarray
    """[site, k, 3] baseline: the same architecture with random weights."""
    shuffled: np.ndarray
    """[site, k, 3] baseline: the model's states, training labels permuted."""
    embedding: np.ndarray
    """[3] baseline: the token embedding alone."""
    head_output: np.ndarray
    """[3] baseline: h_0, before any iteration."""
    majority: np.ndarray
    """[3] baseline: always the most frequent training class."""
    unfinished: int
    """Fits on the model's states that stopped at the solver's iteration limit."""
    counts: np.ndarray
    """[class, 2] training and test tokens of each class."""
    n_documents: tuple[int, int]
    """Training and test documents."""
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One row per accuracy: condition, site, iteration (missing for baselines without one)."""
        import pandas as pd

        table = []
        for condition in ("trained", "untrained", "shuffled"):
            values = getattr(self, condition)
            for s, site in enumerate(self.sites):
                for k in range(max(1, int(self.rows[s]))):
                    iteration = k if self.rows[s] else None
                    table.append((condition, site, iteration, *values[s, k]))
        for condition in ("embedding", "head_output", "majority"):
            table.append((condition, None, None, *getattr(self, condition)))
        frame = pd.DataFrame(table, columns=["condition", "site", "iteration", *SCORES])
        frame["iteration"] = frame["iteration"].astype("Int64")
        frame.insert(0, "label", self.label)
        return frame

    def figure(self, *, theme: str = "light", site: str | None = None) -> go.Figure:
        """Accuracy against the iteration with every baseline, one panel a site (or `site` alone)."""
        from probes.figures import linear as figures

        return figures.accuracy(self, site=site, theme=theme)


def linear(
    model: Any,
    texts: str | Sequence[str] | None = None,
    *,
    label: str | Labelling | Counted = "next_word_start",
    sites: Sequence[str] = ("loop.hook_state",),
    n_iters: int = 8,
    seed: int = 0,
    max_tokens: int = MAX_TRAIN + MAX_TEST,
    progress: Callback | None = None,
) -> LinearProbes:
    """Fit a logistic regression at every site and iteration, and every baseline beside it.

    texts: documents, or one text cut at form feeds or blank lines; if None the label's own, or the bundled sample.
    label: name in `probes.labels.LABELS` or `COUNTED`, or any label of `probes.labels`. sites: bare hook names.
    progress: called as (done, total); returning False cancels.
    Errors: InputError (unknown label, fewer than 4 documents, too few classes, site without a vector per
    token), SiteError (unknown site), Cancelled. Source: Alain & Bengio 2016; baselines after Hewitt &
    Liang 2019.
    """
    names = _sites(model, sites)
    if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 1:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 1.")
    asked = find_label(label)
    documents = corpus.documents_for(asked, texts)
    wanted = corpus.settled(model, documents, asked, max_tokens, seed)
    found = corpus.windows(model, documents, wanted, max_tokens, seed)
    return probe_windows(
        model, wanted, found, sites=names, n_iters=n_iters, seed=seed, progress=progress
    )


def probe_windows(
    model: Any,
    label: Labelling,
    found: Sequence[corpus.Window],
    *,
    sites: Sequence[str],
    n_iters: int,
    seed: int = 0,
    read: features.Reader = features.collect,
    progress: Callback | None = None,
) -> LinearProbes:
    """`linear` of windows that are labelled already; `read` gives the states of the model and of fresh weights.

    Errors: as `linear`.
    """
    wanted, names = label, _sites(model, sites)
    usable = corpus.usable_classes(found, wanted)
    task, chosen = _task(found, usable, seed)
    rows = np.array([model.rows(site, n_iters) for site in names])
    most = max(n_iters + 1, int(rows.max()))
    n_fits = 3 * int(np.maximum(rows, 1).sum()) + 2
    steps = Progress(2 * features.n_batches(found) + n_fits, progress)

    def fit_all(collected: features.Features, shuffle: bool = False) -> list[list[Fit]]:
        return [[_counted(task, x, steps, shuffle) for x in collected[site]] for site in names]

    own = read(model, found, chosen, [*dict.fromkeys([*names, EMBEDDING, STATE])], n_iters, steps)
    embedding = _counted(task, own[EMBEDDING][0], steps)
    head_output = _counted(task, own[STATE][0], steps)
    trained, shuffled = fit_all(own), fit_all(own, shuffle=True)
    del own
    blank = read(model.randomized(seed), found, chosen, names, n_iters, steps)
    untrained = fit_all(blank)
    return LinearProbes(
        model=model.info(),
        tokens=tuple(tuple(model.to_str_tokens(w.ids)) for w in found),
        n_iters=n_iters,
        label=wanted.name,
        description=wanted.description,
        classes=tuple(wanted.classes[c] for c in usable),
        dropped_classes=tuple(c for i, c in enumerate(wanted.classes) if i not in usable),
        sites=tuple(names),
        rows=rows,
        trained=_padded([[f.score for f in row] for row in trained], most),
        untrained=_padded([[f.score for f in row] for row in untrained], most),
        shuffled=_padded([[f.score for f in row] for row in shuffled], most),
        embedding=embedding.score,
        head_output=head_output.score,
        majority=task.majority(),
        unfinished=sum(not f.converged for row in trained for f in row),
        counts=task.counts(usable),
        n_documents=task.n_documents(),
        seed=seed,
    )


def _sites(model: Any, sites: Sequence[str]) -> list[str]:
    names = [sites] if isinstance(sites, str) else list(dict.fromkeys(sites))
    if not names:
        raise InputError("sites=(): expected at least one hook name.")
    for name in names:
        if model.address(name).rows is not None:
            raise InputError(
                f"sites: {name!r} names single iterations; give the bare name, all are probed."
            )
    return names


def _task(
    found: Sequence[corpus.Window], usable: Sequence[int], seed: int
) -> tuple[Task, list[np.ndarray]]:
    """The task over a bounded number of tokens, and the positions of those tokens in each window."""
    positions = [np.flatnonzero(np.isin(w.labels, usable)) for w in found]
    labels = np.concatenate([w.labels[p] for w, p in zip(found, positions, strict=True)])
    documents = np.concatenate(
        [np.full(len(p), w.document) for w, p in zip(found, positions, strict=True)]
    )
    train, test = corpus.split_by_document(labels, documents, seed)
    keep = np.concatenate(
        [corpus.thin(train, MAX_TRAIN, seed), corpus.thin(test, MAX_TEST, seed + 1)]
    )
    keep.sort()
    ends = np.cumsum([len(p) for p in positions])
    kept = [
        keep[(keep >= end - len(p)) & (keep < end)] for p, end in zip(positions, ends, strict=True)
    ]
    chosen = [p[k - (end - len(p))] for p, k, end in zip(positions, kept, ends, strict=True)]
    in_train = np.isin(keep, train)
    return Task(
        labels[keep], documents[keep], np.flatnonzero(in_train), np.flatnonzero(~in_train), seed
    ), chosen


def _counted(task: Task, x: np.ndarray, steps: Progress, shuffle: bool = False) -> Fit:
    fitted = task.fit(x, shuffle=shuffle)
    steps.step()
    return fitted


def _padded(scores: list[list[np.ndarray]], n_rows: int) -> np.ndarray:
    """[site, k, 3] with NaN where a site has fewer rows."""
    full = np.full((len(scores), n_rows, len(SCORES)), np.nan)
    for s, row in enumerate(scores):
        full[s, : len(row)] = row
    return full
