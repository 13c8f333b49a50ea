"""The text of a comparison: token files that every family reads, made once if they are not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from abbie_lens import paths, zoo
from abbie_lens.corpus import read_documents
from abbie_lens.errors import InputError
from abbie_lens.training import (
    TokenFile,
    load_tokenizer,
    tokenizer_hash,
    train_tokenizer,
    windows,
    write_tokens,
)
from probes.reproduction.config import ReproduceConfig

SAMPLE = "zoo:sample"


@dataclass(frozen=True)
class Text:
    """Token files, with tokenizer.json beside the first."""

    train: Path
    heldout: TokenFile


def prepare(config: ReproduceConfig, folder: Path) -> Text:
    """Open the token files that `config` names, or make them in `folder`. Errors: InputError."""
    data = find(config.data)
    if data.endswith(".bin"):
        heldout = find(config.heldout or "")
        if not heldout.endswith(".bin"):
            raise InputError(
                f"heldout={config.heldout!r}: expected a token file (.bin), as data={data!r} is one."
            )
        return _open(Path(data), Path(heldout))
    train, held = folder / "train.bin", folder / "heldout.bin"
    if not (train.with_suffix(".json").is_file() and held.with_suffix(".json").is_file()):
        tokenizer = _tokenizer(config, folder)
        _save(tokenizer, folder / "tokenizer.json")
        first, rest = _documents(config, data)
        write_tokens(rest, tokenizer, held)
        write_tokens(first, tokenizer, train, config.max_data_tokens)
    return _open(train, held)


def find(source: str) -> str:
    """A path as it is, or the one in the user's data folder. Errors: InputError where neither is there."""
    if source.startswith(("hf:", "zoo:")) or any(c in source for c in "*?[") or not source:
        return source
    places = [Path(source).expanduser(), paths.data() / source]
    for place in places:
        if place.is_file():
            return str(place)
    raise InputError(
        f"data={source!r}: no such file, here or in {str(paths.data())!r}. Name a text to train on and "
        "one held out (--data, --heldout)."
    )


def prompts(text: TokenFile, n_prompts: int, length: int) -> Tensor:
    """[n_prompts, length] evenly spaced held-out windows, each begun by the separator.

    Errors: InputError for a text with fewer whole windows.
    """
    whole = windows(text, length)
    whole = whole[whole[:, 1] == length - 1]
    if len(whole) < n_prompts:
        raise InputError(
            f"heldout: {len(whole)} windows of {length} tokens; measuring needs {n_prompts}."
        )
    starts = whole[np.linspace(0, len(whole) - 1, n_prompts).round().astype(int), 0]
    rows = [
        np.append(text.separator, text.tokens[s : s + length - 1].astype(np.int64)) for s in starts
    ]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def _open(train: Path, heldout: Path) -> Text:
    first, held = TokenFile.open(train), TokenFile.open(heldout)
    tokenizer = train.with_name("tokenizer.json")
    if not tokenizer.is_file():
        raise InputError(f"data={str(train)!r}: there is no tokenizer.json beside it.")
    for file in (first, held):
        if file.tokenizer_hash != tokenizer_hash(load_tokenizer(tokenizer)):
            raise InputError(f"{str(file.path)!r} was made with another tokenizer than {tokenizer}")
    return Text(train, held)


def _documents(config: ReproduceConfig, data: str) -> tuple[Iterator[str], Iterator[str]]:
    """Training and held-out documents."""
    read = lambda source: _sample() if source == SAMPLE else read_documents(source)  # noqa: E731
    if config.heldout is not None:
        return read(data), read(find(config.heldout))
    everything = list(read(data))
    kept_back = round(len(everything) * config.heldout_share)
    if not 0 < kept_back < len(everything):
        raise InputError(
            f"heldout=None: of {len(everything)} document(s) none can be kept back; name a held-out text."
        )
    return iter(everything[:-kept_back]), iter(everything[-kept_back:])


def _sample() -> Iterator[str]:
    yield from zoo.sample_text().split("\f")


def _tokenizer(config: ReproduceConfig, folder: Path) -> PreTrainedTokenizerFast:
    made = folder / "tokenizer.json"
    if config.tokenizer is None:
        if made.is_file():
            return load_tokenizer(made)
        return train_tokenizer(_documents(config, find(config.data))[0], config.vocab_size)
    name = config.tokenizer
    return load_tokenizer(zoo.path(name[4:]) if name.startswith("zoo:") else name)


def _save(tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
        partial = Path(folder) / path.name
        tokenizer.backend_tokenizer.save(str(partial))
        os.replace(partial, path)
