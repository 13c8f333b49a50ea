"""A probing run in a folder: texts, states of the model and of fresh weights in shards, then the fits.

    texts.jsonl     the documents that are read      manifest.json   what was asked; complete once all is there
    states/         a collection (abbie_lens.collecting)             untrained/      the same of fresh weights
    table.parquet, figure.html                       what came of it
    probes/         the fitted linear probes         result/         all of it, a bundle

What takes long is collecting, and that goes on where a killed run stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abbie_lens.collecting import CollectConfig, Collection, CollectProgress, collect, manifest
from abbie_lens.errors import InputError
from probes import bundle, corpus
from probes.control import fresh_weights
from probes.labels import Counted, Labelling, label_index
from probes.probing import features
from probes.probing.linear import EMBEDDING, STATE, probe_windows
from probes.probing.result import LinearProbes
from probes.probing.structural_result import StructuralProbes
from probes.probing.tree_words import TreeWords
from probes.probing.treebank import structural_windows
from probes.progress import Callback, Progress

TEXTS, STATES, UNTRAINED = "texts.jsonl", "states", "untrained"
TABLE, FIGURE, RESULT, FITTED = "table.parquet", "figure.html", "result", "probes"
OnCollect = Callable[[str, CollectProgress], object]
"""Called with which states are collected, and how far they are."""


@dataclass(frozen=True)
class ProbeConfig:
    """What to read and where to keep it."""

    out: str
    """Folder of the run."""
    sites: tuple[str, ...] = (STATE,)
    """Bare hook names."""
    n_iters: int = 8
    """Depth of the run."""
    max_tokens: int = 10_000
    """Tokens to read: a seeded choice of the beginnings of documents."""
    window: int | None = None
    """Tokens that the model reads at once; None: its context, at most 512."""
    batch_size: int = 8
    """Full windows at once."""
    seed: int = 0
    """Of documents, fresh weights, split and controls."""

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out).expanduser()


def probe_folder(
    model: Any,
    label: Labelling | Counted | TreeWords,
    config: ProbeConfig,
    texts: str | Sequence[str] | None = None,
    *,
    asked: dict[str, Any] | None = None,
    resume: bool = False,
    on_collect: OnCollect | None = None,
    progress: Callback | None = None,
) -> LinearProbes | StructuralProbes:
    """`probes.linear`, or `probes.structural` of `TreeWords`, in a folder, with everything it read and what came of it.

    texts: as `probes.linear` takes them. asked: plain JSON that a resumed run must be asked again, such as where the
    label comes from. Errors: as `probes.linear`; ExistsError for a folder that holds something, without `resume`;
    InputError for one that was begun otherwise.
    """
    documents = corpus.documents_for(label, texts)
    settled = corpus.settled(model, documents, label, config.max_tokens, config.seed)
    # Labels that cannot be probed are refused before anything is run.
    found = corpus.windows(model, documents, settled, config.max_tokens, config.seed)
    if isinstance(settled, TreeWords):
        settled.sentences(found)
    elif settled.classes:
        corpus.usable_classes(found, settled)
    chosen = corpus.beginnings(model, documents, config.max_tokens, config.seed)
    settings = {**dataclasses.asdict(config), "sites": list(config.sites), **(asked or {})}
    del settings["out"]
    begun = {"settings": settings, "model": model.info().to_dict()}
    manifest.begin(config.folder, {**begun, "complete": False}, resume)
    _write_texts(config.folder / TEXTS, [text for _, text in chosen])
    stored = Stored(
        model,
        _collected(model, config, STATES, on_collect),
        _collected(fresh_weights(model, config.seed), config, UNTRAINED, on_collect),
    )
    windows = stored.windows(settled, [number for number, _ in chosen])
    given: dict[str, Any] = {
        "sites": config.sites, "n_iters": config.n_iters, "seed": config.seed, "read": stored, "progress": progress,
    }  # fmt: skip
    result: LinearProbes | StructuralProbes
    if isinstance(settled, TreeWords):
        name, result = "structural", structural_windows(model, settled, windows, **given)
    else:
        name, result = "linear", probe_windows(model, settled, windows, **given)
        result.fitted().save(config.folder / FITTED, overwrite=True)
    result.save(config.folder / TABLE, overwrite=True)
    result.save(config.folder / FIGURE, overwrite=True)
    bundle.save({name: result}, config.folder / RESULT, settings=settings, overwrite=True)
    manifest.write(config.folder, {**begun, "complete": True})
    return result


@dataclass(frozen=True)
class Stored:
    """Reads features from collections instead of running the model."""

    model: Any
    own: Collection
    untrained: Collection

    def windows(self, label: Labelling, numbers: Sequence[int]) -> list[corpus.Window]:
        """A labelled window for each document, without a beginning token.

        numbers: [document] what it is called where the label was made.
        """
        index = self.own.index()
        _, values = label_index(index, label, numbers)
        ids, ends = index["token"].to_numpy(), np.flatnonzero(np.diff(index["document"])) + 1
        return [
            corpus.Window(numbers[int(index["document"].iloc[at[0]])], ids[at].tolist(), values[at])
            for at in np.split(np.arange(len(index)), ends)
        ]

    def __call__(
        self,
        model: Any,
        found: Sequence[corpus.Window],
        chosen: Sequence[np.ndarray],
        sites: Sequence[str],
        n_iters: int,
        progress: Progress,
    ) -> features.Features:
        """As `features.collect`; the model itself, or else fresh weights."""
        collection = self.own if model is self.model else self.untrained
        first = np.cumsum([0, *(len(window.ids) for window in found)])
        wanted = np.concatenate([at + chosen[i] for i, at in enumerate(first[:-1])])
        # The whole analysis counts batches, whoever reads the states.
        read = features.collected(collection, sites, wanted, Progress(0))
        progress.step(features.n_batches(found))
        return read


def _collected(
    model: Any, config: ProbeConfig, name: str, on_collect: OnCollect | None
) -> Collection:
    # The embedding and h_0 are baselines of the model itself.
    sites = (*config.sites, EMBEDDING, STATE) if name == STATES else config.sites
    wanted = CollectConfig(
        str(config.folder / TEXTS), str(config.folder / name), tuple(dict.fromkeys(sites)),
        config.n_iters, config.window, config.batch_size, shard_tokens=1 << 12, dtype="float32",
        seed=config.seed,
    )  # fmt: skip
    told = None if on_collect is None else lambda now: on_collect(name, now)
    return collect(model, wanted, resume=(config.folder / name).exists(), on_progress=told)  # type: ignore[arg-type]


def _write_texts(file: Path, texts: Sequence[str]) -> None:
    """Write the documents, or see that they are there. Errors: InputError for others."""
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if file.exists():
        if file.read_text("utf-8") != content:
            raise InputError(f"{file}: this run was begun with other texts; choose another folder.")
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, file)
