"""MemoryPlan: what loading and running a model takes, device by device, against what is free; known before a weight is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from abbie_lens.errors import InputError
from abbie_lens.files.placement import DISK, DeviceMap, MaxMemory, Placement, place
from abbie_lens.hooks.memory import capture_bytes, free_bytes
from abbie_lens.loops.base import CONCEPT_SPACE


@dataclass(frozen=True)
class MemoryPlan:
    """Sizes in bytes; runs are one row of `n_ctx` tokens at depth `n_iters`."""

    dtype: str
    weights: Mapping[str, int]
    """By device, or `disk`: what stays there."""
    loading: Mapping[str, int]
    """The same at its peak while loading."""
    free: Mapping[str, int]
    """By device, or `disk`, now."""
    placement: str
    n_iters: int
    n_ctx: int
    states: int
    """h_0 ... h_r and z_0 ... z_r."""
    capture: int
    """Every site, every iteration."""

    @property
    def load_bytes(self) -> int:
        """The peak while loading, over all devices."""
        return sum(n for at, n in self.loading.items() if at != DISK)

    @property
    def fits(self) -> bool:
        """Whether a load can begin."""
        return not self.shortages()

    def shortages(self) -> list[str]:
        """What does not fit, by device."""
        return [
            f"{size(needed)} on {at}, where {size(self.free[at])} are free"
            for at, needed in self.loading.items()
            if needed > self.free[at]
        ]

    def require(self, name: object) -> None:
        """Errors: InputError with what is needed, what is free, and what to do."""
        if short := self.shortages():
            halve = 'dtype="bfloat16", ' if self.dtype == "float32" else ""
            raise InputError(
                f"{name}: loading needs {'; '.join(short)}. Try {halve}"
                'device_map="auto" with offload_folder=, or another device; check_memory=False loads anyway.'
            )

    def lines(self) -> dict[str, str]:
        """For people."""
        held = ", ".join(f"{size(n)} on {at}" for at, n in self.weights.items())
        peak = ", ".join(f"{size(n)} on {at}" for at, n in self.loading.items())
        return {
            "weights": f"{held}, in {self.dtype}; {self.placement}",
            "while loading": peak,
            "free": ", ".join(f"{size(n)} on {at}" for at, n in self.free.items())
            + ("" if self.fits else "  DOES NOT FIT"),
            f"r = {self.n_iters}, {self.n_ctx} tokens": (
                f"states {size(self.states)}, every site {size(self.capture)}"
            ),
        }

    def __str__(self) -> str:
        return "\n".join(f"  {name:<22} {said}" for name, said in self.lines().items())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "fits": self.fits}


Announce = Callable[[MemoryPlan], None]


@dataclass(frozen=True)
class Where:
    """What was asked of `load` about devices and memory."""

    device: torch.device | None = None
    device_map: DeviceMap | None = None
    max_memory: MaxMemory | None = None
    offload_folder: Path | None = None
    check_memory: bool = True
    announce: Announce | None = None

    def place(self, model: Any) -> Placement:
        """Where the parts of a model without memory are to be. Errors: InputError."""
        return place(model, self.device, self.device_map, self.max_memory, self.offload_folder)

    def begin(self, plan: MemoryPlan, name: object) -> None:
        """Announce the plan. Errors: InputError where it does not fit."""
        if self.announce is not None:
            self.announce(plan)
        if self.check_memory:
            plan.require(name)


def plan_memory(
    model: Any,
    placement: Placement,
    weights: Mapping[str, int],
    stored: Iterable[int],
    n_iters: int | None = None,
    n_ctx: int | None = None,
) -> MemoryPlan:
    """The plan of a model that may have no memory yet; `weights` by device, `stored` the sizes of the file's tensors.

    Errors: InputError for a depth or a length that the model does not have.
    """
    cfg = model.cfg
    depth, length = model.depth(n_iters), run_length(n_ctx, cfg)
    loading = dict(weights)
    # read on the CPU, one at a time
    loading["cpu"] = loading.get("cpu", 0) + max(stored, default=0)
    main = str(placement.main)
    if any(placement.offloads(f"{block}.") for block in placement.blocks):
        # one of them at a time is on the main device, while it runs
        loading[main] = loading.get(main, 0) + _largest_block(model, placement)
    rows = {site: model.rows(site, depth) for site in model.hook_dict}
    held = lambda names: capture_bytes(  # noqa: E731
        cfg, [(n, max(rows[n], 1)) for n in names], 1, length, getattr(torch, cfg.dtype)
    )
    return make_plan(
        cfg.dtype,
        weights,
        loading,
        placement.describe(),
        placement.folder,
        depth,
        length,
        held(CONCEPT_SPACE),
        held(rows),
    )


def make_plan(
    dtype: str,
    weights: Mapping[str, int],
    loading: Mapping[str, int],
    placement: str,
    folder: Path | None,
    n_iters: int,
    n_ctx: int,
    states: int,
    capture: int,
) -> MemoryPlan:
    """The plan, with what is free now on every device that it names, and on the disk of `folder`."""
    free = {at: _free(at, folder) for at in loading}
    return MemoryPlan(
        dtype, dict(weights), loading, free, placement, n_iters, n_ctx, states, capture
    )


def run_length(n_ctx: int | None, cfg: Any) -> int:
    """Tokens of the run that is planned; None: the model's context. Errors: InputError for what it has no room for."""
    length = cfg.n_ctx if n_ctx is None else n_ctx
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= cfg.n_ctx:
        raise InputError(f"n_ctx={length}: expected 1 to {cfg.n_ctx}, the model's context.")
    return length


def _largest_block(model: Any, placement: Placement) -> int:
    blocks = (b for b in placement.blocks if placement.offloads(f"{b}."))
    return max(
        sum(t.numel() * t.element_size() for t in model.get_submodule(b).parameters())
        for b in blocks
    )


def _free(at: str, folder: Path | None) -> int:
    if at != DISK:
        return free_bytes(at)
    assert folder is not None
    there = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    return shutil.disk_usage(there).free


def size(n_bytes: int) -> str:
    """Bytes for people: `257.43 MiB`."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= one:
            return f"{n_bytes / one:.2f} {unit}"
    return f"{n_bytes} B"
