"""What a plain decoder in transformers' format is, from its config and the headers of its weight files alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from abbie_lens.errors import CheckpointError, first_line
from abbie_lens.files.formats import candidates
from abbie_lens.files.layout import CONFIG, is_model_folder, read_json
from abbie_lens.files.weights import stored_shapes, weight_files

WITHOUT_LOOP = ("llama",)
"""Names of formats of ours that read a plain stack."""


@dataclass(frozen=True)
class PlainDecoder:
    """A causal language model without a loop."""

    model_type: str
    """As transformers spells it, e.g. `llama`."""
    n_blocks: int
    n_params: int
    """Of the stored tensors."""
    n_bytes: int
    """Of the weight files."""


def is_plain(folder: Path) -> bool:
    """Whether `folder` holds a decoder that transformers knows, and that is none of the looped formats."""
    if not (folder / CONFIG).is_file() or is_model_folder(folder):
        return False
    plain = read_json(folder / CONFIG)
    if any(each.name not in WITHOUT_LOOP for each in candidates(plain)):
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    return plain.get("model_type") in KNOWN


def describe_plain(folder: Path) -> PlainDecoder:
    """What the files of a plain decoder say. Errors: CheckpointError for files that are damaged or missing."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        n_blocks = int(config.get_text_config().num_hidden_layers)
    except Exception as error:  # each config class checks its own fields in its own way
        raise CheckpointError(
            f"{folder / CONFIG}: transformers cannot read it ({first_line(error)})."
        ) from error
    files = weight_files(folder)
    shapes = [shape for file in files for shape in stored_shapes(file).values()]
    return PlainDecoder(
        config.model_type,
        n_blocks,
        sum(map(prod, shapes)),
        sum(file.stat().st_size for file in files),
    )
