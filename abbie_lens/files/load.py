"""`load`: one name for a bundled model, a folder, a hub repository, or somebody else's weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from abbie_lens import zoo
from abbie_lens.config import LoopedConfig
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files import hub, installed
from abbie_lens.files.device import resolve_device, resolve_dtype
from abbie_lens.files.fetch import SOURCES
from abbie_lens.files.foreign import read_foreign
from abbie_lens.files.keymap import KeyMap
from abbie_lens.files.layout import ADAPTER, CONFIG
from abbie_lens.files.memory_plan import Announce, Where
from abbie_lens.files.placement import DeviceMap, MaxMemory
from abbie_lens.files.pretrained import read_model
from abbie_lens.files.published import is_published, read_published
from abbie_lens.model import HookedLoopedTransformer

if TYPE_CHECKING:
    from abbie_lens.bridged import Loop


def load(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    key_map: KeyMap | None = None,
    *,
    config: LoopedConfig | Mapping[str, Any] | None = None,
    loop: Loop | None = None,
    tokenizer: Any = None,
    strict: bool = True,
    revision: str | None = None,
    token: str | None = None,
    device_map: DeviceMap | None = None,
    max_memory: MaxMemory | None = None,
    offload_folder: str | Path | None = None,
    check_memory: bool = True,
    announce: Announce | None = None,
) -> HookedLoopedTransformer:
    """The model called `name_or_path`: a bundled one, a fetched one, a folder, or a hub id, tried in this order.

    A folder or id may hold one of the published formats in `abbie_lens.files.formats`, read into our own loops;
    `model.load_report` then says what became of each tensor. A folder with adapter.json is what a retrofit learnt, put on
    its plain model.
    `device` None or "auto" takes cuda, then mps, then cpu; `dtype` None the one it was saved from.
    With `key_map` (see `abbie_lens.files.keymap`) the path is a safetensors file or folder of another
    program, `config` its shape, and `model.load_report` says what was mapped, missing and unused;
    `strict=False` accepts gaps. With `loop` it is a plain decoder in the format of transformers, whose blocks `loop.start`
    to `loop.stop - 1` are looped as they are; see `abbie_lens.bridged`.
    `device_map` ("auto", or a mapping from parts to devices, `cpu` or `disk`) spreads blocks over devices, within
    `max_memory`; those on disk are kept in `offload_folder`, see `abbie_lens.files.placement`. Before a weight is read,
    `announce` is given the MemoryPlan, and a load that cannot fit is refused unless `check_memory` is False.
    Errors: CheckpointError, InputError, ConfigError.
    """
    precision = resolve_dtype(dtype)
    where = Where(
        resolve_device(device) if device_map is None or device is not None else None,
        device_map,
        max_memory,
        None if offload_folder is None else Path(offload_folder).expanduser(),
        check_memory,
        announce,
    )
    if loop is not None:
        from abbie_lens.bridged.load import load_bridged

        if key_map is not None or config is not None:
            raise InputError(
                "loop=: a plain decoder brings its config; leave key_map=, config= out."
            )
        if str(name_or_path) in zoo.names():
            raise CheckpointError(
                f"{name_or_path}: a bundled model brings its own loop; leave loop= out."
            )
        path = find(name_or_path, revision, token)
        return load_bridged(path, loop, str(name_or_path), where, precision, tokenizer)
    path = find(name_or_path, revision, token)
    if key_map is not None:
        return read_foreign(
            HookedLoopedTransformer, path, key_map, config,
            where=where, dtype=precision, tokenizer=tokenizer, strict=strict,
        )  # fmt: skip
    if config is not None or tokenizer is not None:
        raise InputError("config=, tokenizer=: only with key_map=; a saved model brings its own.")
    if path.is_file():
        raise CheckpointError(
            f"{path}: is a file. A saved model is a folder; weights of another program need key_map=."
        )
    given = path == Path(name_or_path).expanduser()
    if (path / ADAPTER).is_file():
        from abbie_lens.conversion.adapter import load_adapter

        if where.device is None:
            raise InputError("device_map=: an adapter is put on its plain model on one device=.")
        model = load_adapter(path).to(where.device)
        return model if precision is None else model.to(getattr(torch, precision))
    if is_published(path):
        name = path.resolve().name if given else str(name_or_path)
        return read_published(HookedLoopedTransformer, path, where, precision, name)
    return read_model(
        HookedLoopedTransformer, path, where, precision, None if given else str(name_or_path)
    )


def find(name_or_path: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """Where the model's files are on this machine, fetched from the hub if need be.

    Errors: CheckpointError for an unknown name, with the nearest ones.
    """
    name = str(name_or_path)
    if name in zoo.names():
        return zoo.path(name)
    if name in installed.names():
        return installed.path(name)
    path = Path(name_or_path).expanduser()
    if name and path.exists():
        return path
    if isinstance(name_or_path, str) and hub.is_hub_id(name):
        return hub.fetch(name, revision, token)
    if name in SOURCES:
        raise CheckpointError(f"{name!r}: not fetched yet; run `abbie-lens fetch {name}` once.")
    near = difflib.get_close_matches(
        path.name, [*zoo.names(), *installed.names(), *_models_beside(path)], n=3, cutoff=0.4
    )
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise CheckpointError(
        f"{name!r}: no such model. Expected a bundled one ({', '.join(zoo.names()) or 'none here'}), "
        f"a folder, or a hub id (org/model).{hint}"
    )


def _models_beside(path: Path) -> list[str]:
    if not path.parent.is_dir():
        return []
    return [entry.name for entry in path.parent.iterdir() if (entry / CONFIG).is_file()]
