"""A model from a published checkpoint of another program: its format found, its config read, every tensor placed.

Nothing is filled in and nothing left over: a missing, unknown or misshapen tensor is an error that names its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from abbie_lens.config import DTYPES, LoopedConfig
from abbie_lens.errors import CheckpointError, ConfigError
from abbie_lens.files.assemble import Draft, Model
from abbie_lens.files.formats import candidates, recognise
from abbie_lens.files.formats.entries import Entries, Shapes
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.keymap import KeyReport
from abbie_lens.files.layout import CONFIG, MODEL_TYPE, read_json
from abbie_lens.files.memory_plan import Where
from abbie_lens.files.tokenizer import read_tokenizer
from abbie_lens.files.weights import CONVERT, StoredTensors, weight_files

SHOWN = 5
"""Names that an error lists."""


@dataclass(frozen=True)
class Plan:
    """What a checkpoint is, known before any weight is read."""

    format: Format
    cfg: LoopedConfig
    entries: Entries
    stored: Shapes
    """Shapes by key, as the format spells them."""


def is_published(folder: Path) -> bool:
    """Whether config.json names one of the formats. Errors: CheckpointError for one that is not JSON."""
    if not (folder / CONFIG).is_file():
        return False
    plain = read_json(folder / CONFIG)
    return plain.get("model_type") != MODEL_TYPE and bool(candidates(plain))


def plan(plain: Mapping[str, Any], stored: Shapes, where: str, name: str) -> Plan:
    """What config.json's content and the stored shapes say of a model called `name`.

    Errors: CheckpointError for another format, or a field that is missing, unknown, or not representable.
    """
    form = recognise(plain, stored.keys(), where)
    spelt: dict[str, tuple[int, ...]] = {}
    for key, shape in stored.items():
        if form.spelt(key) in spelt:
            raise CheckpointError(f"{where}: {key!r} is there under two spellings.")
        spelt[form.spelt(key)] = shape
    fields = Fields(plain, f"{where}, {CONFIG}")
    try:
        cfg = form.config(fields, spelt)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{where}, {CONFIG}: {error}") from error
    fields.ignore(*form.inert)
    fields.close(form.name)
    cfg = cfg.replace(dtype=_dtype(plain), model_name=name)
    return Plan(form, cfg, form.entries(cfg, spelt), spelt)


def read_published(
    model_class: type[Model], folder: Path, where: Where, dtype: str | None, name: str
) -> Model:
    """The model, with what became of each tensor in `model.load_report`.

    Errors: CheckpointError; InputError where memory does not hold it, before a weight is read.
    """
    plain = read_json(folder / CONFIG)
    try:
        files = weight_files(folder)
    except CheckpointError as error:
        if any(each.name == "parcae" for each in candidates(plain)) and CONVERT not in str(error):
            raise CheckpointError(
                f"{error} Parcae is published as pickles, which are not read as they are. {CONVERT}"
            ) from error
        raise
    tensors = StoredTensors(files)
    it = plan(plain, tensors.shapes, str(folder), name)
    cfg = it.cfg if dtype is None else it.cfg.replace(dtype=dtype)
    draft = Draft(model_class, cfg)
    check_keys(it, draft.shapes, str(folder))
    tokenizer = read_tokenizer(folder, cfg.d_vocab)
    draft.to(where.place(draft.model))
    where.begin(draft.memory(tensors.sizes.values()), folder)
    with draft.filling():
        report = _fill(draft, it, tensors, str(folder))
        if missing := draft.expected.keys() - draft.filled:
            raise CheckpointError(f"{folder}: no stored tensor gives {_some(missing)}.")
    model = draft.finish(tokenizer)
    model.load_report = report
    return model


def check_keys(it: Plan, ours: Shapes, where: str) -> None:
    """Errors: CheckpointError naming the keys that are missing, unknown, or of another shape than the config's."""
    if missing := [k for k, e in it.entries.items() if k not in it.stored and not e.optional]:
        raise CheckpointError(f"{where}: weights missing for {it.format.name}: {_some(missing)}.")
    if unknown := [
        k for k in it.stored if k not in it.entries and not it.format.is_dead(k, it.stored)
    ]:
        raise CheckpointError(
            f"{where}: weights that {CONFIG} has no place for in {it.format.name}: {_some(unknown)}."
        )
    for key, entry in it.entries.items():
        if key in it.stored and it.stored[key] != entry.shape(ours):
            raise CheckpointError(
                f"{where}: {key} is {list(it.stored[key])}, {CONFIG} says {list(entry.shape(ours))}."
            )


def _fill(draft: Draft[Any], it: Plan, tensors: Mapping[str, Tensor], where: str) -> KeyReport:
    """Put every stored tensor in its place, one by one; the report is under the file's own keys."""
    renamed: dict[str, tuple[str, ...]] = {}
    dropped = []
    found = [(key, it.entries.get(it.format.spelt(key))) for key in tensors]
    # The embedding before a copy of it, so that it is the copy that is called another tensor.
    found.sort(key=lambda each: bool(each[1]) and any(n in draft.aliases for n in each[1].names))
    for key, entry in found:
        if entry is None:
            dropped.append(key)
            continue
        renamed[key] = entry.names
        pieces = entry.split(tensors[key], draft.shapes)
        for name, piece in zip(entry.names, pieces, strict=True):
            if not draft.put(name, piece):
                raise CheckpointError(
                    f"{where}: {key} is another tensor than the embedding, though {CONFIG} ties the two."
                )
    return KeyReport(renamed, tuple(dropped))


def _dtype(plain: Mapping[str, Any]) -> str:
    """What the file was saved in, as its config says; float32 where it does not."""
    inside = plain.get("base_config_dict") or {}
    for fields in (plain, inside if isinstance(inside, Mapping) else {}):
        for name in ("dtype", "torch_dtype"):
            if (found := str(fields.get(name)).removeprefix("torch.")) in DTYPES:
                return found
    return "float32"


def _some(names: Any) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
