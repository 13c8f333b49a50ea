"""What loading a plain decoder with a loop takes, and on which devices its parts will be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from abbie_lens.bridged.imagine import Imagined
from abbie_lens.errors import InputError
from abbie_lens.files.device import resolve_device
from abbie_lens.files.memory_plan import MemoryPlan, Where, make_plan
from abbie_lens.files.placement import DISK, device_name, free_room
from abbie_lens.loops.base import CONCEPT_SPACE

DeviceOf = dict[str, str]
"""Part of the source, by its name in transformers -> a device, or `disk`."""


def devices(seen: Imagined, where: Where) -> DeviceOf:
    """Where the parts of the source are to be; {"": device} for all in one place. Errors: InputError."""
    from accelerate.utils.modeling import check_device_map, infer_auto_device_map

    asked = where.device_map
    if asked is None or (isinstance(asked, str) and asked != "auto"):
        if where.max_memory is not None:
            raise InputError('max_memory: only with device_map="auto".')
        return {"": str(resolve_device(where.device if asked is None else asked))}
    if where.device is not None:
        raise InputError("device=, device_map=: give one of them.")
    ends = _ends(seen.source)
    if asked == "auto":
        main, room = free_room(where.max_memory)
        held = {id(p): p.numel() * p.element_size() for e in ends.values() for p in e.parameters()}
        room[main] = max(0, room.get(main, 0) - sum(held.values()))
        classes = list(getattr(seen.source, "_no_split_modules", None) or [])
        found = infer_auto_device_map(seen.source, room, no_split_module_classes=classes)
        chosen = {part: device_name(at) for part, at in found.items()}
        chosen |= {name: device_name(main) for name in ends if "" not in chosen}
    elif isinstance(asked, Mapping):
        chosen = {str(part): device_name(at) for part, at in asked.items()}
        try:
            check_device_map(seen.source, dict(chosen))
        except ValueError as error:
            raise InputError(f"device_map: {error} Parts have transformers' names.") from error
    else:
        raise InputError(
            f"device_map={asked!r}: expected auto, a device, or a mapping from parts to devices."
        )
    offloaded = [name for name in ends if _at(f"{name}.", chosen) == DISK]
    if offloaded:
        raise InputError(
            f"device_map: {', '.join(offloaded)} on disk; expected a device, as streams and read-outs are there."
        )
    if DISK in chosen.values() and where.offload_folder is None:
        on_disk = [part for part, at in chosen.items() if at == DISK]
        raise InputError(f"offload_folder: needed, for {', '.join(on_disk[:4])} would be on disk.")
    return chosen


def plan(
    seen: Imagined, at: DeviceOf, where: Where, stored: Iterable[int], n_iters: int | None
) -> MemoryPlan:
    """The plan; `stored` the sizes of the files' tensors. Errors: InputError for a depth that is none."""
    depth = seen.cfg.n_iters if n_iters is None else n_iters
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        raise InputError(f"n_iters={depth!r}: expected an integer >= 0.")
    weights: dict[str, int] = {}
    for name, size in seen.sizes.items():
        weights[_at(name, at)] = weights.get(_at(name, at), 0) + size
    loading = dict(weights)
    loading["cpu"] = loading.get("cpu", 0) + max(stored, default=0)
    width = getattr(torch, seen.cfg.dtype).itemsize
    held = {
        site: math.prod(shape) * max(rows, 1) * seen.widths.get(site, width)
        for site, rows, shape in seen.sites(depth)
    }
    spread = ", ".join(f"{part or 'all'} on {on}" for part, on in list(at.items())[:6])
    return make_plan(
        seen.cfg.dtype, weights, loading, spread + (", ..." if len(at) > 6 else ""),
        where.offload_folder, depth, seen.n_ctx, sum(held[s] for s in CONCEPT_SPACE), sum(held.values()),
    )  # fmt: skip


def _ends(source: Any) -> dict[str, Any]:
    """The embedding and the read-out, by name."""
    ends = (source.get_input_embeddings(), source.get_output_embeddings())
    return {name: part for name, part in source.named_modules() if any(part is e for e in ends)}


def _at(name: str, at: DeviceOf) -> str:
    holds = [part for part in at if not part or name == part or name.startswith(f"{part}.")]
    return at[max(holds, key=len)]
