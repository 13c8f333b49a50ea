"""save_pretrained, from_pretrained, push_to_hub: a model as a folder or a hub repository.

The folder has model.safetensors, config.json, README.md (the card) and, if the model has a tokenizer,
tokenizer.json with its settings. Built on huggingface_hub's functions rather than its mixin, which turns
the config's Union-typed fields into dicts and half-precision weights into float32.
"""

from __future__ import annotations

import glob
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from abbie_lens.errors import CheckpointError, ExistsError, InputError
from abbie_lens.files import hub
from abbie_lens.files.assemble import Draft, Model, check_shapes
from abbie_lens.files.card import model_card
from abbie_lens.files.device import resolve_device, resolve_dtype
from abbie_lens.files.keymap import KeyReport
from abbie_lens.files.layout import (
    CARD,
    CONFIG,
    METRICS,
    MODEL_FILES,
    WEIGHTS,
    config_json,
    is_model_folder,
    read_config,
)
from abbie_lens.files.memory_plan import Where
from abbie_lens.files.offload import resident
from abbie_lens.files.tokenizer import read_tokenizer, save_tokenizer
from abbie_lens.files.weights import StoredTensors, file_sha256, state_tensors, weight_files

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


class PretrainedMixin:
    """The three methods that HookedLoopedTransformer takes from here."""

    load_report: KeyReport | None = None
    """What a key map did, for a model loaded with one."""

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype | str | None = None,
        card: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write the model to `folder`, all of it or nothing.

        `dtype` is that of the file: narrower weights than the model runs in are widened on loading.
        `card` is the text of README.md, `metrics` the content of metrics.json. Errors: ExistsError if
        the folder has files, unless they are a saved model and `overwrite` is true.
        """
        model = cast("HookedLoopedTransformer", self)
        folder = Path(folder).expanduser().resolve()
        restore(folder)
        _check_free(folder, overwrite)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            write_model(model, draft, resolve_dtype(dtype), card, metrics)
            draft.chmod(0o755)  # mkdtemp makes it private
            put_in_place(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return folder

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> Self:
        """The model of a folder or a hub repository, in eval mode, in the dtype it was saved from.

        Errors: CheckpointError for files that are missing, damaged, pickled, of another version, or
        that contradict each other.
        """
        where, precision = Where(resolve_device(device)), resolve_dtype(dtype)
        folder, name = Path(name_or_path).expanduser(), str(name_or_path)
        if folder.is_dir():
            return read_model(cls, folder, where, precision)
        if not hub.is_hub_id(name):
            raise CheckpointError(f"{name}: neither a folder nor a hub id (org/model).")
        return read_model(cls, hub.fetch(name, revision, token), where, precision, name)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        commit_message: str = "Upload model",
        **save_settings: Any,
    ) -> str:
        """Save to a temporary folder, upload it in one commit, and return the repository's address.

        `save_settings` as in `save_pretrained`. Errors: CheckpointError.
        """
        with tempfile.TemporaryDirectory() as parent:
            folder = self.save_pretrained(Path(parent) / "model", **save_settings)
            return hub.upload(folder, repo_id, private=private, token=token, message=commit_message)


def write_model(
    model: HookedLoopedTransformer,
    folder: Path,
    dtype: str | None,
    card: str | None,
    metrics: Mapping[str, Any] | None,
) -> None:
    """Write a model's files into an empty folder; config.json, which makes it a model, comes last."""
    stored_as = None if dtype is None else getattr(torch, dtype)
    tensors = {
        n: _narrowed(n, resident(model, n, t).detach(), stored_as)
        for n, t in state_tensors(model).items()
    }
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    if model.tokenizer is not None:
        save_tokenizer(model.tokenizer, folder)
    (folder / CARD).write_text(model_card(model) if card is None else card, "utf-8")
    if metrics is not None:
        (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
    # the model may have been moved to another dtype since it was made
    cfg = model.cfg.replace(dtype=str(model.dtype).removeprefix("torch."))
    config = config_json(cfg, file_sha256(folder / WEIGHTS))
    (folder / CONFIG).write_text(config, "utf-8")


def _narrowed(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor.cpu().contiguous()
    narrow = tensor.to(device="cpu", dtype=dtype).contiguous()
    if narrow.isinf().any() and not tensor.isinf().any():
        raise InputError(f"dtype={dtype}: {name} has values too large for it; try bfloat16.")
    return narrow


def read_model(
    model_class: type[Model],
    folder: Path,
    where: Where,
    dtype: str | None,
    name: str | None = None,
) -> Model:
    """The model that `folder` holds; one saved without a name takes `name`, else the folder's.

    Errors: CheckpointError; InputError where memory does not hold it, before a weight is read.
    """
    cfg, checksum = read_config(folder)
    files = weight_files(folder)
    tensors = StoredTensors(files)
    cfg = cfg.replace(
        dtype=dtype or cfg.dtype, model_name=cfg.model_name or name or folder.resolve().name
    )
    draft = Draft(model_class, cfg)
    for what, names in (
        ("missing", draft.expected.keys() - tensors.keys()),
        ("unknown to this config", tensors.keys() - draft.expected.keys()),
    ):
        if names:
            raise CheckpointError(f"{folder}: weights {what}: {', '.join(sorted(names))}.")
    check_shapes(tensors.shapes, draft.expected, folder)
    tokenizer = read_tokenizer(folder, cfg.d_vocab)
    draft.to(where.place(draft.model))
    where.begin(draft.memory(tensors.sizes.values()), folder)
    if checksum is not None and len(files) == 1 and file_sha256(files[0]) != checksum:
        raise CheckpointError(
            f"{files[0]}: damaged: its SHA-256 is not the one in config.json. Fetch or save it again; "
            "if the weights were changed on purpose, remove weights_sha256 from config.json."
        )
    with draft.filling():
        for key in tensors:
            draft.put(key, tensors[key])
    return draft.finish(tokenizer)


def _check_free(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ExistsError(f"{folder}: is a file; expected a new or empty folder.")
    present = {entry.name for entry in folder.iterdir()}
    strangers = present - set(MODEL_FILES) if is_model_folder(folder) else present
    if strangers:
        names = ", ".join(sorted(strangers)[:5])
        raise ExistsError(f"{folder}: holds files that are not a saved model's ({names}).")
    if present and not overwrite:
        raise ExistsError(f"{folder}: holds a saved model; overwrite=True replaces it.")


def restore(folder: Path) -> None:
    """Undo what a `put_in_place` that was killed left: the old model goes back where none stands, else it goes."""
    for aside in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.old.*")):
        if (aside / folder.name).is_dir() and not folder.exists():
            (aside / folder.name).rename(folder)
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(draft: Path, folder: Path) -> None:
    """Rename `draft` to `folder`; the model that was there survives until the new one stands."""
    if not folder.exists():
        draft.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(aside / folder.name)
    try:
        draft.rename(folder)
    except OSError:
        (aside / folder.name).rename(folder)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)
