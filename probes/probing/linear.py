"""Linear probes by site and iteration (ANALYSES 22): what a linear reader finds in the states.

Probes find labels in almost anything, so every baseline comes with the result: the token embedding, the
Head's output h_0, an untrained model of the same architecture, shuffled training labels, the control
task, and the majority class. Documents are split, never tokens; the scaler and the probe see the
training documents only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from abbie_lens.errors import InputError
from probes import corpus
from probes.control import fresh_weights
from probes.labels import Counted, Labelling, find_label
from probes.probing import features
from probes.probing.engine import PENALTIES, Fits, fits, task
from probes.probing.examples import MAX_TEST, MAX_TRAIN, examples
from probes.probing.places import Places, checked_sites
from probes.probing.result import LinearProbes
from probes.probing.stored import packed
from probes.progress import Callback, Progress

EMBEDDING, STATE = "embed.hook_out", "loop.hook_state"


def linear(
    model: Any,
    texts: str | Sequence[str] | None = None,
    *,
    label: str | Labelling | Counted = "next_word_start",
    sites: Sequence[str] = (STATE,),
    n_iters: int = 8,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    max_tokens: int = MAX_TRAIN + MAX_TEST,
    progress: Callback | None = None,
) -> LinearProbes:
    """Fit a linear probe at every site and iteration, and every baseline and control beside it.

    texts: documents, or one text cut at form feeds or blank lines; if None the label's own, or the bundled sample.
    label: name in `probes.labels.LABELS` or `COUNTED`, or any label of `probes.labels`. sites: bare hook names. penalties: of ‖W‖²,
    chosen on validation documents if there are several.
    progress: called as (done, total); returning False cancels.
    Errors: InputError (unknown label, fewer than 4 documents, too few classes, site without a vector per
    token), SiteError (unknown site), Cancelled. Source: Alain & Bengio 2016; control task and
    selectivity after Hewitt & Liang 2019.
    """
    if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 1:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 1.")
    names, asked = checked_sites(model, sites), find_label(label)
    documents = corpus.documents_for(asked, texts)
    wanted = corpus.settled(model, documents, asked, max_tokens, seed)
    found = corpus.windows(model, documents, wanted, max_tokens, seed)
    return probe_windows(
        model,
        wanted,
        found,
        sites=names,
        n_iters=n_iters,
        penalties=penalties,
        seed=seed,
        progress=progress,
    )


def probe_windows(
    model: Any,
    wanted: Labelling,
    found: Sequence[corpus.Window],
    *,
    sites: Sequence[str],
    n_iters: int,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    read: features.Reader = features.collect,
    progress: Callback | None = None,
) -> LinearProbes:
    """`linear` of windows that are labelled already; `read` gives the states of the model and of fresh weights.

    Errors: as `linear`.
    """
    names = checked_sites(model, sites)
    chosen = examples(found, wanted, seed, validation=len(penalties) > 1)
    job = task(
        chosen.labels,
        chosen.documents,
        classes=chosen.classes,
        types=chosen.types,
        penalties=penalties,
        parts=chosen.split,
        seed=seed,
        device=model.device,
    )
    rows = np.array([model.rows(site, n_iters) for site in names])
    n_own = int(np.maximum(rows, 1).sum())
    steps = Progress(2 * features.n_batches(found) + 2 * n_own + 2, progress)
    wide = [*dict.fromkeys([*names, EMBEDDING, STATE])]
    own = read(model, found, chosen.positions, wide, n_iters, steps)
    every = [own[EMBEDDING][0], own[STATE][0], *(x for site in names for x in own[site])]
    scored = fits(job, every, chosen.documents, steps)
    del own, every
    fresh = fresh_weights(model, seed)
    blank = read(fresh, found, chosen.positions, names, n_iters, steps)
    plain = [x for site in names for x in blank[site]]
    untrained = fits(job, plain, chosen.documents, steps, controls=False)
    place = Places(names, rows, max(n_iters + 1, int(rows.max())))
    probes = {
        a: p for a, p in zip(place.addresses, scored.probes[2:], strict=True) if p is not None
    }
    return LinearProbes(
        model=model.info(),
        tokens=tuple(tuple(model.to_str_tokens(w.ids)) for w in found),
        n_iters=n_iters,
        label=wanted.name,
        description=wanted.description,
        kind=job.targets.kind,
        classes=job.targets.classes,
        dropped_classes=tuple(c for c in wanted.classes if c not in job.targets.classes),
        sites=tuple(names),
        rows=rows,
        trained=place(scored.score[2:]),
        untrained=place(untrained.score),
        shuffled=place(scored.shuffled[2:]),
        control=place(scored.control[2:]),
        selectivity=place(scored.selectivity[2:]),
        embedding=scored.score[0],
        head_output=scored.score[1],
        majority=scored.majority,
        penalty=place(scored.penalty[2:]),
        confusion=place(_confusion(scored), 0),
        unfinished=int((~scored.converged[2:] & np.isfinite(scored.penalty[2:])).sum()),
        counts=chosen.counts(),
        n_documents=chosen.split.n_documents(chosen.documents),
        weights=packed(probes),
        seed=seed,
    )


def _confusion(read: Fits) -> np.ndarray:
    """[problem, class, class] without the two baselines; empty classes for numbers."""
    n = len(read.probes) - 2
    if read.targets.kind != "classes":
        return np.zeros((n, 0, 0), np.int64)
    return np.stack([read.confusion(i) for i in range(2, n + 2)])
