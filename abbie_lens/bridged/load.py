"""A plain decoder from a folder of transformers' format, to be looped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from abbie_lens.bridged.decoder import Decoder
from abbie_lens.bridged.imagine import imagine
from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.model import LoopedBridge
from abbie_lens.bridged.plan import devices, plan
from abbie_lens.bridged.source import read_source
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.memory_plan import Where
from abbie_lens.files.tokenizer import read_tokenizer
from abbie_lens.files.weights import StoredTensors, weight_files

ANY = Loop(0, 1)
"""A loop to plan by where none is chosen yet: weights weigh the same in all."""


def read_decoder(
    folder: Path,
    name: str,
    where: Where,
    dtype: str | None,
    tokenizer: Any = None,
    loop: Loop = ANY,
) -> Decoder:
    """The decoder that `folder` holds, in eval mode; its memory is planned for a run with `loop`.

    Without `tokenizer`, a tokenizer.json in the folder is used. Errors: CheckpointError for a file, or a folder that
    transformers cannot read; ConfigError for a window that does not fit, InputError where memory does not hold it, before
    a weight is read.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file; a plain decoder is a folder with config.json.")
    at = {"": str(where.device)}
    try:
        seen = imagine(folder, loop, name, dtype)
    except InputError as error:
        if where.device_map is not None:
            raise CheckpointError(
                f"{folder}: cannot be planned for device_map= ({error})"
            ) from error
        seen = None  # then it is loaded without a plan
    if seen is not None:
        at = devices(seen, where)
        stored = StoredTensors(weight_files(folder)).sizes.values()
        where.begin(plan(seen, at, where, stored, None), name)
    source = read_source(folder, dtype, at, where.offload_folder)
    if tokenizer is None:
        tokenizer = read_tokenizer(folder, source.get_input_embeddings().num_embeddings)
    return Decoder(source, tokenizer, name)


def load_bridged(
    folder: Path,
    loop: Loop,
    name: str,
    where: Where,
    dtype: str | None,
    tokenizer: Any = None,
) -> LoopedBridge:
    """The decoder that `folder` holds with a window of its blocks in a loop, in eval mode.

    Errors: as `read_decoder`; CheckpointError for a model that TransformerLens cannot bridge.
    """
    if not isinstance(loop, Loop):
        raise InputError(f"loop={loop!r}: expected a Loop(start, stop, rule).")
    decoder = read_decoder(folder, name, where, dtype, tokenizer, loop)
    try:
        return LoopedBridge(decoder.source, loop, decoder.tokenizer, name)
    except InputError as error:
        raise CheckpointError(f"{folder}: {error}") from error
