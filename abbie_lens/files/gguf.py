"""A decoder in a GGUF file, converted once to a folder that loads like any other: safetensors, config, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from abbie_lens.errors import CheckpointError, first_line
from abbie_lens.files.layout import CONFIG
from abbie_lens.files.weights import WEIGHTS, state_tensors


def convert(file: Path, folder: Path) -> None:
    """Write the decoder that `file` holds into an empty `folder`, in float32: what its blocks of few bits stand for.

    config.json comes last. Errors: CheckpointError for a damaged file, or one that transformers cannot read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not file.is_file():
        raise CheckpointError(f"{file}: no such file.")
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            trust_remote_code=False,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # a damaged file fails wherever it is first read wrongly
        raise CheckpointError(
            f"{file}: damaged, or no GGUF of a decoder that transformers reads ({first_line(error)}). "
            "Fetch it again."
        ) from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"{file}: weights missing: {', '.join(missing[:5])}.")
    tensors = {name: tensor.detach().contiguous() for name, tensor in state_tensors(model).items()}
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{file}: damaged: {name} is not finite. Fetch it again.")
    if len(tokenizer) > model.config.vocab_size:
        raise CheckpointError(
            f"{file}: its tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}."
        )
    config = model.config.to_dict()
    config.pop("quantization_config", None)  # nothing is quantized any more
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    tokenizer.save_pretrained(folder)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
