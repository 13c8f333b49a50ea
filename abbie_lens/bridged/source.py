"""From a transformers model, or a name, to a TransformerBridge that can be looped."""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from abbie_lens.errors import CheckpointError, InputError, first_line
from abbie_lens.files.layout import is_model_folder
from abbie_lens.files.placement import DISK


def bridge(model: Any, name: str = "") -> Any:
    """The TransformerBridge of a causal language model of transformers, or the one given.

    The model is changed in place: TransformerLens puts its components where the blocks were, and attention becomes eager,
    so that patterns can be seen. Errors: InputError for a model that TransformerLens cannot bridge, or that is no decoder
    with one stack of blocks.
    """
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformer_lens.utilities.attn_implementation import force_eager_attention

    made = model
    if not isinstance(model, TransformerBridge):
        kind = type(model).__name__
        if not isinstance(model, torch.nn.Module) or not hasattr(model, "config"):
            raise InputError(
                f"model: {kind} is neither a model of transformers nor a TransformerBridge."
            )
        if any(isinstance(part, GeneralizedComponent) for part in model.modules()):
            raise InputError(f"model: this {kind} is bridged already; pass its TransformerBridge.")
        try:
            made = build_bridge_from_module(
                model, kind, hf_config=copy.deepcopy(model.config), model_name=name or kind
            )
        except Exception as error:  # each adapter raises what it likes
            raise InputError(
                f"model: TransformerLens cannot bridge {kind} ({first_line(error)})."
            ) from error
        force_eager_attention(model)
    source = made.original_model
    if getattr(getattr(source, "config", None), "is_encoder_decoder", False):
        raise InputError(
            f"model: {type(source).__name__} has an encoder; only decoders are looped."
        )
    if not len(getattr(made, "blocks", ())):
        raise InputError(
            f"model: the bridge of {type(source).__name__} has no stack `blocks` that could be looped."
        )
    for part in ("embed", "ln_final", "unembed"):
        if not hasattr(getattr(made, part, None), "forward" if part == "ln_final" else "weight"):
            raise InputError(
                f"model: the bridge of {type(source).__name__} has no `{part}` for tokens; only language models that embed tokens, "
                "norm the last block's output and unembed it are looped."
            )
    for i, block in enumerate(made.blocks):
        if not hasattr(block, "attn"):
            raise InputError(
                f"model: blocks.{i} of {type(source).__name__} has no attention; state-space and recurrent blocks, which "
                "carry a state along the tokens, are not looped."
            )
    return made


def read_config(folder: Path) -> Any:
    """The config of the decoder that a folder holds. Errors: as `read_source`."""
    from transformers import AutoConfig

    if is_model_folder(folder):
        raise CheckpointError(
            f"{folder}: a looped model of abbie-lens, which brings its own loop; leave loop= out."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # OSError, ValueError, KeyError, …
        raise CheckpointError(
            f"{folder}: transformers cannot read it ({first_line(error)})."
        ) from error


def read_source(
    folder: Path, dtype: str | None, at: Mapping[str, str], offload_folder: Path | None = None
) -> Any:
    """The causal language model of transformers that a folder holds, in eval mode, from safetensors alone.

    `at` has the device, or `disk`, of its parts, "" for all: each weight is read to where it belongs.

    Errors: CheckpointError for one of our own folders, one that transformers cannot read without code of its own, or
    weights that do not fill the model.
    """
    from transformers import AutoModelForCausalLM, PreTrainedConfig

    own = None  # two decoders may share the folder, and their files have the same names
    if DISK in at.values() and offload_folder is not None:
        offload_folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="decoder.", dir=offload_folder))
    try:
        config, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
        if config.get("is_encoder_decoder"):
            raise ValueError(f"{config.get('model_type')} has an encoder; only decoders are looped")
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto" if dtype is None else getattr(torch, dtype),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            device_map=None if at == {"": "cpu"} else dict(at),
            offload_folder=own,
        )
    except Exception as error:  # OSError, ValueError, SafetensorError, KeyError, …
        _remove(own)
        raise CheckpointError(
            f"{folder}: transformers cannot read it ({first_line(error)})."
        ) from error
    model, report = loaded
    if own is not None:
        weakref.finalize(model, _remove, own)
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(f"{folder}: weights missing: {', '.join(missing[:8])}.")
    return model.eval()


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
