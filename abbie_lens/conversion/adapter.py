"""What a retrofit learnt, alone: adapter.safetensors and adapter.json, to be put on the plain model again."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

from abbie_lens.conversion.lesson import Lesson
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.hashing import tensor_hash
from abbie_lens.files.layout import ADAPTER
from abbie_lens.files.plain_json import read_object, write_object
from abbie_lens.files.weights import StoredTensors, state_tensors

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

WEIGHTS = "adapter.safetensors"


def learnt(model: HookedLoopedTransformer) -> dict[str, torch.Tensor]:
    """The adapters, by name, of a model whose loop has some."""
    parts = tuple(f"loop.{part}." for part in model.cfg.loop.adapter_parts)
    return {n: t.detach() for n, t in state_tensors(model).items() if parts and n.startswith(parts)}


def base_hash(model: HookedLoopedTransformer) -> str:
    """SHA-256 of all else, whichever blocks are Head, Body and Tail."""
    blocks = [*model.head, *model.body, *model.tail]
    tensors = {
        f"{b}.{n}": t for b, block in enumerate(blocks) for n, t in block.state_dict().items()
    }
    return tensor_hash({**tensors, "embed": model.embed.weight, "ln_final": model.ln_final.weight})


def save_adapter(model: HookedLoopedTransformer, lesson: Lesson, folder: Path) -> Path:
    """Write a trained model's adapters to the new `folder`. Errors: InputError for a model that has none."""
    tensors = {n: t.cpu().contiguous() for n, t in learnt(model).items()}
    if not tensors:
        raise InputError(f"model: {model.cfg.loop.family} has no adapters.")
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save_file(tensors, draft / WEIGHTS)
        write_object(draft / ADAPTER, {"lesson": lesson.to_dict(), "base": base_hash(model)})
        draft.chmod(0o755)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


@torch.no_grad()
def load_adapter(
    folder: str | Path, source: HookedLoopedTransformer | None = None
) -> HookedLoopedTransformer:
    """The looped model of an adapter and the plain model `source`, which is loaded by its name if None.

    Its context is the source's. Warns where the plain weights are not those that the adapter was learnt on.
    Errors: CheckpointError for a folder that is damaged, or an adapter of another shape.
    """
    from abbie_lens.files.load import load

    folder = Path(folder).expanduser()
    settings = read_object(folder / ADAPTER)
    if not isinstance(settings.get("lesson"), dict):
        raise CheckpointError(f"{folder / ADAPTER}: field 'lesson' is missing.")
    lesson = Lesson.from_dict(settings["lesson"])
    source = load(lesson.source, device="cpu") if source is None else source
    if base_hash(source) != settings.get("base"):
        warnings.warn(
            f"{folder}: learnt on other weights of {lesson.source} than these; its losses are not those measured.",
            stacklevel=2,
        )
    model = lesson.looped(source, source.cfg.n_ctx)
    own, stored = learnt(model), StoredTensors([folder / WEIGHTS])
    if wrong := sorted(
        name
        for name in own.keys() | stored.keys()
        if name not in own or name not in stored or own[name].shape != stored[name].shape
    ):
        raise CheckpointError(f"{folder}: does not fit {lesson.source}: {', '.join(wrong[:3])}.")
    for name, tensor in own.items():
        tensor.copy_(stored[name])
    return model
