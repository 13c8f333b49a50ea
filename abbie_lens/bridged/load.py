"""A plain decoder from a folder of transformers' format: as it is, to be looped later, or looped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from abbie_lens.bridged.decoder import Decoder
from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.model import LoopedBridge
from abbie_lens.bridged.source import read_source
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.tokenizer import read_tokenizer


def read_decoder(
    folder: Path, name: str, device: torch.device, dtype: str | None, tokenizer: Any = None
) -> Decoder:
    """The decoder that `folder` holds, in eval mode. Without `tokenizer`, a tokenizer.json in the folder is used.

    Errors: CheckpointError for a file, or a folder that transformers cannot read.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; a plain decoder is a folder with config.json.")
    source = read_source(folder, dtype)
    if tokenizer is None:
        tokenizer = read_tokenizer(folder, source.get_input_embeddings().num_embeddings)
    return Decoder(source.to(device), tokenizer, name)


def load_bridged(
    folder: Path,
    loop: Loop,
    name: str,
    device: torch.device,
    dtype: str | None,
    tokenizer: Any = None,
) -> LoopedBridge:
    """The decoder that `folder` holds with a window of its blocks in a loop, in eval mode.

    Errors: as `read_decoder`; CheckpointError for a model that TransformerLens cannot bridge, ConfigError for a window
    that does not fit.
    """
    if not isinstance(loop, Loop):
        raise InputError(f"loop={loop!r}: expected a Loop(start, stop, rule).")
    decoder = read_decoder(folder, name, device, dtype, tokenizer)
    try:
        return decoder.looped(loop)
    except InputError as error:
        raise CheckpointError(f"{folder}: {error}") from error
