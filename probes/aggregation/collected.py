"""`aggregate_collected`: an analysis of states that `collect` has stored, shard by shard, without running the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abbie_lens.collecting import Collection, Shard, manifest
from abbie_lens.collecting.choice import draws
from abbie_lens.errors import InputError
from abbie_lens.files.plain_json import write_object
from probes import numerics
from probes.aggregation import part
from probes.aggregation.config import AggregateConfig
from probes.aggregation.fold import Analyse, classes_of, joined
from probes.aggregation.part import Part
from probes.aggregation.playback import READOUT, STATE, Playback
from probes.aggregation.result import CorpusAnalysis
from probes.aggregation.run import ROWS, close, name_of
from probes.progress import Callback, Progress

NEEDED = {"distances": (STATE, READOUT), "orbits": (STATE,), "similarity": (STATE,)}
"""Analyses that read states of each token alone, with the sites that they read."""
ALONE = ("capitalisation",)
"""Labels that look at no neighbour."""
TOKENS = 4096
"""Read at once."""


def aggregate_collected(
    model: Any,
    folder: str | Path,
    out: str | Path,
    analysis: str = "distances",
    *,
    label: str = "current_class",
    sample: int = 512,
    seed: int = 0,
    resume: bool = False,
    progress: Callback | None = None,
) -> CorpusAnalysis:
    """Fold an analysis over the states in `folder`; the result, also in `out`: that of `aggregate`, trained alone.

    `model` is the one that was collected: its final norm and tokenizer are used. Rows 0 … K of the sites are read, K the last.
    Where less than float32 is stored, a step below its rounding is below resolution. `progress` counts shards. Memory
    does not grow with the collection. Errors: InputError for an analysis that needs more than states, sites or
    iterations that were not collected, another model, or a label of neighbours where tokens were drawn; CheckpointError.
    """
    collection = Collection.open(folder)
    depth = _checked(collection, model, analysis, label)
    settings = collection.manifest["settings"]
    config = AggregateConfig(
        settings["data"], str(out), depth, settings["window"], variants=("trained",), label=label,
        sample=sample, seed=seed,
    )  # fmt: skip
    analyse = _analyse(analysis, model.dtype, settings["dtype"])
    name = name_of(analyse)
    begun = {
        "settings": config.settled(),
        "collection": settings,
        "text": collection.manifest["text"],
        "model": model.info().to_dict(),
        "analysis": {"name": name},
    }
    manifest.begin(config.folder, {**begun, "complete": False}, resume)
    part.sweep(config.folder)
    done, shards = set(part.done(config.folder)), list(collection.shards())
    counting = Progress(len(shards), progress)
    for shard in shards:
        if shard.number not in done and len(shard.index):
            made, rows = _fold(model, shard, config, analyse)
            write_object(config.folder / ROWS, rows)
            made.save(part.path(config.folder, shard.number))
        counting.step()
    close(config, model.info(), name)
    totals = {n: collection.manifest[n] for n in ("n_shards", "n_tokens", "n_documents")}
    manifest.write(config.folder, {**begun, "complete": True, **totals})
    return CorpusAnalysis.read(config.folder)


def _checked(collection: Collection, model: Any, analysis: str, label: str) -> int:
    """K, the last iteration. Errors: InputError."""
    where, found = f"collected={str(collection.folder)!r}", collection.manifest
    if analysis not in NEEDED:
        raise InputError(
            f"analysis={analysis!r}: stored states are enough for {', '.join(NEEDED)}; run the others on text."
        )
    if not collection.complete:
        raise InputError(f"{where}: not complete; finish it with abbie-lens collect --resume.")
    for name in ("weight_hash", "family"):
        was, now = found["model"].get(name), getattr(model.info(), name)
        if was != now:
            raise InputError(
                f"{where}: made by a model of {name} {was}, this one has {now}; give the model that was collected."
            )
    for site in NEEDED[analysis]:
        rows = collection.rows.get(site)
        if rows is None:
            raise InputError(
                f"{where}: {analysis} needs {site}; collect it with --site {' --site '.join(NEEDED[analysis])}."
            )
        if len(rows) < 2 or rows != list(range(len(rows))):
            raise InputError(
                f"{where}: {analysis} needs every row of {site} from 0 on, at least two; {rows} were collected."
            )
    share = found["settings"]["share"]
    if share < 1 and label not in ALONE:
        raise InputError(
            f"label={label!r}: it looks at neighbours, and only a share of {share} of the tokens was kept; choose {', '.join(ALONE)}."
        )
    return min(len(collection.rows[site]) for site in NEEDED[analysis]) - 1


def _fold(
    model: Any, shard: Shard, config: AggregateConfig, analyse: Analyse
) -> tuple[Part, dict[str, int]]:
    index, pieces, rows = shard.index, [], {}
    for first in range(0, len(index), TOKENS):
        piece = slice(first, min(first + TOKENS, len(index)))
        tokens = torch.from_numpy(index["token"].to_numpy()[piece].copy())[:, None].to(model.device)
        result = analyse(Playback(model, shard, piece), tokens, config.n_iters)
        values, rows = joined(result)
        pieces.append(values[..., 0])
    document, number = index["document"].to_numpy(), index["number"].to_numpy()
    made = Part.of(
        np.concatenate(pieces, axis=1).T[:, None],
        classes_of(config.label, _windows(index)),
        document,
        draws(document, number, config.seed),
        config.n_classes,
        config.sample,
    )
    return made, rows


def _analyse(analysis: str, of: torch.dtype, stored: str) -> Analyse:
    """By name, with the resolution of the coarser of the two dtypes."""
    from probes.aggregation import ANALYSES  # which imports this file

    if analysis == "similarity":
        return ANALYSES[analysis]
    coarse = max(numerics.resolution(of), numerics.resolution(getattr(torch, stored)))
    return partial(ANALYSES[analysis], resolution=coarse)


def _windows(index: Any) -> list[list[str]]:
    """Strings of every window: it ends where a document does, and where positions begin again."""
    document, position = index["document"].to_numpy(), index["position"].to_numpy()
    begins = np.flatnonzero((np.diff(document) != 0) | (np.diff(position) <= 0)) + 1
    return [list(text) for text in np.split(index["text"].to_numpy(), begins)]
