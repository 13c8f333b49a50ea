"""Structural probes by site and iteration: how much of the dependency tree a linear map finds in the states.

As of every probe, the baselines come with the result: the token embedding, h_0, an untrained model, trees of
which the words were permuted, and two that read no state, every word joined to the next, and a random tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from abbie_lens.errors import InputError
from probes import corpus
from probes.control import fresh_weights
from probes.labels.conllu import Treebank
from probes.probing import features
from probes.probing.linear import EMBEDDING, STATE
from probes.probing.places import Places, checked_sites
from probes.probing.sentences import Sentence
from probes.probing.split import Split, split
from probes.probing.structural import RANK, STEPS, StructuralFits, fit_structural
from probes.probing.structural_result import StructuralProbes
from probes.probing.tree_words import LONGEST, TreeWords
from probes.progress import Callback, Progress

MAX_TOKENS = 10_000


def structural(
    model: Any,
    treebank: Treebank,
    *,
    sites: Sequence[str] = (STATE,),
    n_iters: int = 8,
    rank: int = RANK,
    steps: int = STEPS,
    piece: str = "last",
    seed: int = 0,
    max_tokens: int = MAX_TOKENS,
    progress: Callback | None = None,
) -> StructuralProbes:
    """Fit a distance and a depth probe at every site and iteration, and every baseline beside them.

    treebank: of `probes.labels.read_conllu`. sites: bare hook names. rank: of the maps. steps: of their fit. piece: which
    token stands for a word of several, "last" or "first". max_tokens: about how many are read, of a seeded choice of
    documents. Sentences that do not stand whole in one window, or have more than 60 words, are left out and counted.
    progress: called as (done, total); returning False cancels.
    Errors: InputError (fewer than 4 documents, a site without a vector per token, heads that go in a circle),
    SiteError (unknown site), Cancelled. Source: Hewitt & Manning 2019.
    """
    if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 1:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 1.")
    names, words = checked_sites(model, sites), TreeWords(treebank, piece)
    documents = corpus.documents_for(words)
    found = corpus.windows(model, documents, words, max_tokens, seed)
    return structural_windows(
        model,
        words,
        found,
        sites=names,
        n_iters=n_iters,
        rank=rank,
        steps=steps,
        seed=seed,
        progress=progress,
    )


def structural_windows(
    model: Any,
    words: TreeWords,
    found: Sequence[corpus.Window],
    *,
    sites: Sequence[str],
    n_iters: int,
    rank: int = RANK,
    steps: int = STEPS,
    seed: int = 0,
    read: features.Reader = features.collect,
    progress: Callback | None = None,
) -> StructuralProbes:
    """`structural` of windows that are labelled already; `read` gives the states of the model and of fresh weights.

    Errors: as `structural`.
    """
    names, given = checked_sites(model, sites), words.sentences(found)
    documents = np.array([s.document for s in given.sentences])
    parts = split(np.zeros((len(documents), 0)), documents, seed)
    rows = np.array([model.rows(site, n_iters) for site in names])
    n_own = int(np.maximum(rows, 1).sum())
    told = Progress(2 * features.n_batches(found) + 3 * n_own + 2, progress)

    def fit(states: Sequence[np.ndarray], sentences: Sequence[Sentence]) -> StructuralFits:
        return fit_structural(
            states, sentences, rank=rank, steps=steps, seed=seed, parts=parts, device=model.device,
            progress=lambda *_: told.step(),
        )  # fmt: skip

    wide = [*dict.fromkeys([*names, EMBEDDING, STATE])]
    own = read(model, found, given.positions, wide, n_iters, told)
    plain = [x for site in names for x in own[site]]
    fits = fit([own[EMBEDDING][0], own[STATE][0], *plain], given.sentences)
    shuffled = fit(plain, permuted(given.sentences, parts, seed))
    del own, plain
    blank = read(fresh_weights(model, seed), found, given.positions, names, n_iters, told)
    untrained = fit([x for site in names for x in blank[site]], given.sentences)
    place, table = Places(names, rows, max(n_iters + 1, int(rows.max()))), _table(fits)
    return StructuralProbes(
        model=model.info(),
        tokens=tuple(tuple(model.to_str_tokens(w.ids)) for w in found),
        n_iters=n_iters,
        sites=tuple(names),
        rows=rows,
        trained=place(table[2:]),
        untrained=place(_table(untrained)),
        shuffled=place(_table(shuffled)),
        embedding=table[0],
        head_output=table[1],
        chain=np.stack([fits.chain, fits.chain_rank, fits.chain_depth]),
        random_tree=fits.random_tree,
        rank=rank,
        n_documents=parts.n_documents(documents),
        n_sentences=(len(parts.train), len(parts.validation), len(parts.test)),
        cut=given.cut,
        too_long=given.too_long,
        longest=LONGEST,
        weights=_weights(fits, place.addresses),
        seed=seed,
    )


def permuted(sentences: Sequence[Sentence], parts: Split, seed: int) -> list[Sentence]:
    """The sentences with the words of their trees in another order, but for those of the test part."""
    rng, found = np.random.default_rng(seed), list(sentences)
    for i in [*parts.train.tolist(), *parts.validation.tolist()]:
        order = rng.permutation(len(found[i].rows))
        found[i] = dataclasses.replace(
            found[i], depth=found[i].depth[order], distance=found[i].distance[np.ix_(order, order)]
        )
    return found


def _table(fits: StructuralFits) -> np.ndarray:
    """[problem, measure, 3]"""
    return np.stack([fits.uuas, fits.distance_rank, fits.depth_rank], 1)


def _weights(fits: StructuralFits, addresses: Sequence[str]) -> dict[str, np.ndarray]:
    found = {}
    for i, address in enumerate(addresses, start=2):
        found[f"{address}/mean"] = fits.scalers[i].mean
        found[f"{address}/scale"] = fits.scalers[i].scale
        found[f"{address}/distance"] = fits.distance_map[i]
        found[f"{address}/depth"] = fits.depth_map[i]
    return found
