"""A model from somebody else's weights: a file or folder of safetensors, a config and a key map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.assemble import Draft, Model
from abbie_lens.files.keymap import KeyMap, apply_key_map
from abbie_lens.files.layout import read_config
from abbie_lens.files.memory_plan import Where
from abbie_lens.files.tokenizer import read_tokenizer
from abbie_lens.files.weights import StoredTensors, weight_files


def read_foreign(
    model_class: type[Model],
    path: Path,
    key_map: KeyMap,
    config: LoopedConfig | Mapping[str, Any] | None,
    *,
    where: Where,
    dtype: str | None,
    tokenizer: Any = None,
    strict: bool = True,
) -> Model:
    """The model, with what the map did in `model.load_report`.

    Without `tokenizer`, a tokenizer.json beside the weights is used. Errors: CheckpointError if a
    tensor doesn't fit the config or, with `strict`, if one is missing or unused.
    """
    folder = path if path.is_dir() else path.parent
    cfg = _config(config, folder)
    if dtype is not None:
        cfg = cfg.replace(dtype=dtype)
    if tokenizer is None:
        tokenizer = read_tokenizer(folder, cfg.d_vocab)
    tensors = StoredTensors(weight_files(path))
    draft = Draft(model_class, cfg)
    draft.to(where.place(draft.model))
    where.begin(draft.memory(tensors.sizes.values()), path)
    with draft.filling():
        report = apply_key_map(key_map, tensors, draft.expected, draft.aliases, draft.put)
        draft.require_fit(path)
        if strict and not report.complete:
            raise CheckpointError(
                f"{path}: the key map leaves gaps (strict=False allows them): {report}."
            )
        model = draft.finish(tokenizer)
    model.load_report = report
    return model


def _config(config: LoopedConfig | Mapping[str, Any] | None, folder: Path) -> LoopedConfig:
    if isinstance(config, LoopedConfig):
        return config
    if isinstance(config, Mapping):
        return LoopedConfig.from_dict(dict(config))
    if config is None:
        return read_config(folder)[0]
    raise InputError(f"config={config!r}: expected a LoopedConfig, a dict of its fields, or None.")
