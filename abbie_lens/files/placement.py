"""Placement: which device each block is on, and how a block that is elsewhere runs.

Blocks are placed one by one. All else, embeddings, the loop's own parts, norms and read-out, is on the main device, where
streams, masks and caches are too: a block on another device gets its stream from there and gives it back, a block kept in
memory or on disk is brought to the main device for the time that it runs. So nothing but the blocks knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from abbie_lens.errors import InputError, nearest
from abbie_lens.files.device import resolve_device
from abbie_lens.hooks.memory import ROOM

DISK = "disk"
STAGES = ("head", "body", "tail")
DeviceMap = str | Mapping[str, Any]
MaxMemory = Mapping[int | str, int | str]


@dataclass(frozen=True)
class Placement:
    """The main device, and the blocks that are elsewhere."""

    main: torch.device
    blocks: Mapping[str, str] = field(default_factory=dict)
    """Block (`body.1`) -> a device, or `disk`. A block on `cpu` runs on the main device if that is another."""
    folder: Path | None = None
    """Where blocks on disk are kept."""

    def of(self, name: str) -> str:
        """The device, or `disk`, that a tensor of the model belongs on."""
        return self.blocks.get(".".join(name.split(".")[:2]), str(self.main))

    def offloads(self, name: str) -> bool:
        """Whether it is brought to the main device only to be used."""
        at = self.of(name)
        return at == DISK or (at == "cpu" and self.main.type != "cpu")

    def describe(self) -> str:
        """In a line: `main cuda:0; body.2, tail.0 on disk`."""
        by_device: dict[str, list[str]] = {}
        for block, at in self.blocks.items():
            by_device.setdefault(at, []).append(block)
        parts = [f"{_span(names)} on {at}" for at, names in by_device.items()]
        return "; ".join([f"all on {self.main}" if not parts else f"main {self.main}", *parts])


def place(
    model: Any,
    device: torch.device | None,
    device_map: DeviceMap | None,
    max_memory: MaxMemory | None,
    folder: Path | None,
) -> Placement:
    """Where the parts of a model, which need have no memory yet, are to be.

    `device_map` is "auto", a device, or a mapping from parts (`head`, `body.1`, "" for all) to devices. Errors: InputError.
    """
    if device_map is None:
        if max_memory is not None:
            raise InputError('max_memory: only with device_map="auto".')
        return Placement(resolve_device(device))
    if device is not None:
        raise InputError("device=, device_map=: give one of them.")
    if isinstance(device_map, str):
        if device_map != "auto":
            return Placement(resolve_device(device_map))
        main, blocks = _automatic(model, max_memory)
        return _with_folder(torch.device(main), blocks, folder)
    if not isinstance(device_map, Mapping) or not device_map:
        raise InputError(
            f"device_map={device_map!r}: expected auto, a device, or a mapping from parts to devices."
        )
    wanted = {str(part): device_name(at) for part, at in device_map.items()}
    parts = [*(n for n, _ in model.named_children()), *_blocks(model)]
    for part in wanted:
        if part and part not in parts:
            raise InputError(
                f"device_map: {part!r} is no part; expected {', '.join(parts)} or ''.{nearest(part, parts)}"
            )
    shared = {n: _longest(n, wanted) for n in _shared(model)}
    if len(set(shared.values())) > 1:
        raise InputError(
            f"device_map: {shared}; expected one device for all that is no block, as streams and read-outs are there."
        )
    main = next(iter(shared.values()))
    if main == DISK:
        raise InputError(
            f"device_map: {', '.join(shared)} on disk; expected a device, only blocks can be on disk."
        )
    blocks = {block: _longest(block, wanted) for block in _blocks(model)}
    if moved := [b for b in sorted(pinned(model)) if blocks[b] != main]:
        raise InputError(
            f"device_map: {moved[0]} on {blocks[moved[0]]}; expected {main}: {model.cfg.loop.family} runs copies of it with "
            "adapters, which are there."
        )
    return _with_folder(torch.device(main), blocks, folder)


def _automatic(model: Any, max_memory: MaxMemory | None) -> tuple[str, dict[str, str]]:
    """The main device, and blocks on the devices in order, that one first, then the machine's memory, then the disk."""
    from accelerate.utils.modeling import infer_auto_device_map

    main, room = free_room(max_memory)
    fixed = pinned(model)
    resident = [
        t.numel() * t.element_size()
        for name, t in (*model.named_parameters(), *model.named_buffers())  # tied ones once
        if name.split(".")[0] not in STAGES or ".".join(name.split(".")[:2]) in fixed
    ]
    room[main] = max(0, room.get(main, 0) - sum(resident))
    stack = nn.ModuleDict({name: getattr(model, name) for name in STAGES})
    found = infer_auto_device_map(stack, room, no_split_module_classes=["Block"])
    wanted = {part: device_name(at) for part, at in found.items()}
    return device_name(main), {b: _longest(b, wanted) for b in _blocks(model) if b not in fixed}


def free_room(max_memory: MaxMemory | None) -> tuple[int | str, dict[int | str, Any]]:
    """The main device as accelerate calls it, and bytes by device that may be planned with. Errors: InputError."""
    from accelerate.utils.modeling import get_max_memory

    try:
        room = get_max_memory(None if max_memory is None else dict(max_memory))
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"max_memory={max_memory!r}: {error}") from error
    if max_memory is None:
        room = {at: int(ROOM * free) for at, free in room.items()}
    main = resolve_device(None)
    return (main.index or 0) if main.type == "cuda" else main.type, room


def _with_folder(main: torch.device, blocks: Mapping[str, str], folder: Path | None) -> Placement:
    elsewhere = {
        block: at for block, at in blocks.items() if at == DISK or torch.device(at) != main
    }
    on_disk = [block for block, at in elsewhere.items() if at == DISK]
    if on_disk and folder is None:
        raise InputError(f"offload_folder: needed, for {_span(on_disk)} would be on disk.")
    return Placement(main, elsewhere, folder)


def device_name(at: Any) -> str:
    """What a device, its number, or `disk` is called. Errors: InputError."""
    if at == DISK:
        return DISK
    resolved = resolve_device(f"cuda:{at}" if isinstance(at, int) else at)
    if resolved.type == "cuda" and resolved.index is None:
        return "cuda:0"
    return str(resolved)


def pinned(model: Any) -> set[str]:
    """Body blocks that must be on the main device: those that the loop runs as copies with adapters."""
    body = list(model.cfg.loop.body(model, 0))
    if all(block is own for block, own in zip(body, model.body, strict=True)):
        return set()
    return {f"body.{b}" for b in range(len(body))}


def _blocks(model: Any) -> list[str]:
    return [f"{stage}.{b}" for stage in STAGES for b in range(len(getattr(model, stage)))]


def _shared(model: Any) -> list[str]:
    """Children that are no stage and hold anything."""
    return [n for n, part in model.named_children() if n not in STAGES and part.state_dict()]


def _longest(name: str, wanted: Mapping[str, str]) -> str:
    """What the most specific part that holds `name` is mapped to. Errors: InputError where none does."""
    pieces = name.split(".")
    for n in range(len(pieces), -1, -1):
        if (part := ".".join(pieces[:n])) in wanted:
            return wanted[part]
    raise InputError(f"device_map: has no device for {name}; '' stands for all that is not named.")


def _span(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names)})"
