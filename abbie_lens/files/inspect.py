"""What a model is and what it needs, from its config and the headers of its weight files: no weight is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import CheckpointError
from abbie_lens.files import hub
from abbie_lens.files.assemble import Draft, check_shapes
from abbie_lens.files.device import resolve_dtype
from abbie_lens.files.layout import ADAPTER, CONFIG, TOKENIZER, read_config, read_json
from abbie_lens.files.load import find
from abbie_lens.files.memory_plan import MemoryPlan, Where
from abbie_lens.files.published import check_keys, is_published, plan
from abbie_lens.files.tokenizer import read_tokenizer
from abbie_lens.files.weights import StoredTensors, weight_files
from abbie_lens.hooks.memory import site_shape
from abbie_lens.model import HookedLoopedTransformer

if TYPE_CHECKING:
    from abbie_lens.bridged.config import BridgedConfig
    from abbie_lens.bridged.loop import Loop

Site = tuple[str, int, tuple[int, ...]]


@dataclass(frozen=True)
class Inspection:
    """A model seen from outside. Sizes in bytes; runs are one row of `n_ctx` tokens at depth `n_iters`."""

    name: str
    format: str
    """`abbie-lens`, the published format, or the class of a plain decoder."""
    cfg: LoopedConfig | BridgedConfig
    n_iters: int
    n_ctx: int
    n_params: int
    """Tied ones once."""
    weight_bytes: int
    """In the dtype that it would be loaded in."""
    file_bytes: int
    """Of the stored tensors."""
    states_bytes: int
    """h_0 … h_r and z_0 … z_r."""
    capture_bytes: int
    """Every site, every iteration."""
    gate: bool
    """Whether the loop has a learned gate."""
    tokenizer: int | None
    """Tokens that its tokenizer knows; None without one."""
    sites: tuple[Site, ...]
    """Name, rows over the loop (0 outside it), shape of one row with batch 1."""
    memory: MemoryPlan
    """What loading it takes, device by device, and whether it fits."""


def inspect(
    name_or_path: str | Path,
    *,
    n_iters: int | None = None,
    n_ctx: int | None = None,
    dtype: torch.dtype | str | None = None,
    loop: Loop | None = None,
    where: Where | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Inspection:
    """What `load` would load: a bundled name, a folder, or a hub id, of which only config and headers are fetched.

    With `loop` it is a plain decoder, looped so. `where` has devices, and what may be taken of them. `n_iters` None: the trained depth; `n_ctx` None: the model's context. Errors: CheckpointError as `load` has them
    where weights and config disagree; InputError for a depth or length that the model does not have.
    """
    precision, name = resolve_dtype(dtype), str(name_or_path)
    where = Where() if where is None else where
    there = hub.is_hub_id(name) and not Path(name).exists()
    folder = hub.fetch_small(name, revision, token) if there else find(name_or_path)
    if (folder / ADAPTER).is_file():
        raise CheckpointError(
            f"{name}: what a retrofit learnt, alone; its sizes are those of the plain model that {ADAPTER} names "
            "and few more. Inspect that one, or load this folder, which puts the two together."
        )
    if there:
        shapes, stored = hub.headers(name, revision, token)
    else:
        tensors = StoredTensors(weight_files(folder))
        shapes, stored = tensors.shapes, tensors.sizes
    if loop is not None:
        return _decoder(folder, name, loop, stored, n_iters, n_ctx, precision, where)
    if is_published(folder):
        it = plan(read_json(folder / CONFIG), shapes, name, name)
        form, cfg = it.format.name, it.cfg
    else:
        it, form, cfg = None, "abbie-lens", read_config(folder)[0]
    draft = Draft(
        HookedLoopedTransformer, cfg if precision is None else cfg.replace(dtype=precision)
    )
    if it is None:
        check_shapes(shapes, draft.expected, name)
    else:
        check_keys(it, draft.shapes, name)
    model, cfg = draft.model, draft.cfg
    draft.to(where.place(model))
    memory = draft.memory(stored.values(), n_iters, n_ctx)
    n_params = sum(math.prod(shape) for shape in draft.expected.values())
    return Inspection(
        name,
        form,
        cfg,
        memory.n_iters,
        memory.n_ctx,
        n_params,
        sum(memory.weights.values()),
        sum(stored.values()),
        memory.states,
        memory.capture,
        cfg.loop.gated,
        _tokens(folder, cfg.d_vocab),
        _sites(model, memory.n_iters, memory.n_ctx),
        memory,
    )


def _decoder(
    folder: Path,
    name: str,
    loop: Loop,
    stored: Mapping[str, int],
    n_iters: int | None,
    n_ctx: int | None,
    dtype: str | None,
    where: Where,
) -> Inspection:
    """The same of a plain decoder with a window of its blocks in a loop."""
    from abbie_lens.bridged.imagine import imagine
    from abbie_lens.bridged.plan import devices
    from abbie_lens.bridged.plan import plan as plan_decoder

    seen = imagine(folder, loop, name, dtype, n_ctx)
    memory = plan_decoder(seen, devices(seen, where), where, stored.values(), n_iters)
    return Inspection(
        name,
        seen.cfg.architecture,
        seen.cfg,
        memory.n_iters,
        memory.n_ctx,
        sum(p.numel() for p in seen.source.parameters()),
        sum(memory.weights.values()),
        sum(stored.values()),
        memory.states,
        memory.capture,
        False,
        _tokens(folder, seen.cfg.d_vocab),
        seen.sites(memory.n_iters),
        memory,
    )


def _tokens(folder: Path, d_vocab: int) -> int | None:
    tokenizer: Any = read_tokenizer(folder, d_vocab) if (folder / TOKENIZER).is_file() else None
    return None if tokenizer is None else len(tokenizer)


def _sites(model: Any, n_iters: int, n_ctx: int) -> tuple[Site, ...]:
    return tuple(
        (name, model.rows(name, n_iters), site_shape(model.cfg, name, 1, n_ctx))
        for name in model.hook_dict
    )
