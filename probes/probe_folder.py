"""A probing run in a folder: texts, states of the model and of fresh weights in shards, then the fits.

    texts.jsonl     the documents that are read      manifest.json   what was asked; complete once all is there
    states/         a collection (abbie_lens.collecting)             untrained/      the same of fresh weights

What takes long is collecting, and that goes on where a killed run stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abbie_lens.collecting import CollectConfig, Collection, CollectProgress, collect, manifest
from abbie_lens.errors import InputError
from probes import corpus
from probes.control import fresh_weights
from probes.labels import Counted, Labelling

TEXTS, STATES, UNTRAINED = "texts.jsonl", "states", "untrained"
EMBEDDING, STATE = "embed.hook_out", "loop.hook_state"


@dataclass(frozen=True)
class ProbeConfig:
    """What to read and where to keep it."""

    out: str
    """Folder of the run."""
    sites: tuple[str, ...] = (STATE,)
    """Bare hook names."""
    n_iters: int | None = None
    """Depth of the run; None: the trained one."""
    max_tokens: int = 10_000
    """Tokens to read, a seeded choice of beginnings of documents."""
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


@dataclass(frozen=True)
class Read:
    """What a run has read: the states of both models, and which documents these are."""

    own: Collection
    untrained: Collection
    numbers: tuple[int, ...]
    """[document] number of each in the texts that the label was made for."""


def read(
    model: Any,
    label: Labelling | Counted,
    config: ProbeConfig,
    texts: Any = None,
    *,
    asked: dict[str, Any] | None = None,
    resume: bool = False,
    on_progress: Callable[[str, CollectProgress], object] | None = None,
) -> Read:
    """Collect the states that the probes of `label` are fitted on, in `config.out`.

    texts: as `probes.linear` takes them. asked: plain JSON that a resumed run must be asked again. on_progress: told of
    which model, and how far. Errors: InputError; SiteError; ExistsError for a folder that holds something, without `resume`.
    """
    documents = corpus.documents_for(label, texts)
    chosen = corpus.beginnings(model, documents, config.max_tokens, config.seed)
    folder = config.folder
    settings = {**dataclasses.asdict(config), "sites": list(config.sites), **(asked or {})}
    del settings["out"]
    begun = {"settings": settings, "model": model.info().to_dict(), "complete": False}
    manifest.begin(folder, begun, resume)
    _write_texts(folder / TEXTS, [text for _, text in chosen])
    made = {}
    for name in (STATES, UNTRAINED):
        one = model if name == STATES else fresh_weights(model, config.seed)
        sites = (*config.sites, EMBEDDING, STATE) if name == STATES else config.sites
        wanted = CollectConfig(
            str(folder / TEXTS), str(folder / name), tuple(dict.fromkeys(sites)), config.n_iters,
            config.window, config.batch_size, dtype="float32", seed=config.seed,
        )  # fmt: skip
        made[name] = collect(
            one, wanted, resume=(folder / name).exists(),
            on_progress=None if on_progress is None else lambda now, name=name: on_progress(name, now),
        )  # fmt: skip
    return Read(made[STATES], made[UNTRAINED], tuple(number for number, _ in chosen))


def finish(config: ProbeConfig) -> None:
    """Mark the run as complete."""
    begun = manifest.read(config.folder)
    del begun["format"]
    manifest.write(config.folder, {**begun, "complete": True})


def _write_texts(file: Path, texts: list[str]) -> None:
    """Write the documents, or see that they are there. Errors: InputError for others."""
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if file.exists():
        if file.read_text("utf-8") != content:
            raise InputError(f"{file}: this run was begun with other texts; choose another folder.")
        return
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, file)
