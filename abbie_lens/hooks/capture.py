"""Capture: the hooks that write an IterationCache; `record` runs any hooked model under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint
from transformer_lens.utilities.slice import Slice

from abbie_lens.errors import InputError, SiteError
from abbie_lens.hooks.address import Address, parse
from abbie_lens.hooks.cache import IterationCache
from abbie_lens.hooks.points import OwnedHook, detach

NamesFilter = str | Sequence[str] | Callable[[str], bool] | None
Select = Callable[[str, int], bool]

_HEAD_SITES = ("hook_q", "hook_k", "hook_v", "hook_z", "hook_rot_q", "hook_rot_k", "hook_result")


@dataclass(frozen=True)
class Storage:
    """How activations are kept: where, in which dtype, which positions, with or without the batch axis."""

    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    pos_slice: Any = None
    remove_batch_dim: bool = False

    def keep(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor as it is stored; the same memory where nothing has to change."""
        dtype = self.dtype if tensor.is_floating_point() else None
        tensor = tensor.detach().to(device=self.device, dtype=dtype)
        if self.pos_slice is not None:
            dim = tensor.ndim - (3 if name.endswith(_HEAD_SITES) else 2)
            tensor = Slice.unwrap(self.pos_slice).apply(tensor, dim=dim)
        if self.remove_batch_dim:
            if tensor.shape[0] != 1:
                raise InputError(
                    f"remove_batch_dim=True: batch is {tensor.shape[0]}, allowed only for a batch of 1."
                )
            tensor = tensor[0]
        return tensor


def wanted_sites(names_filter: NamesFilter, known: Sequence[str]) -> dict[str, list[Address]]:
    """Addresses to record, by site. Errors: SiteError for an unknown site.

    A callable gets the bare name; a bare name means every iteration; None means everything.
    """
    if names_filter is None:
        return {name: [Address(name)] for name in known}
    if callable(names_filter):
        return {name: [Address(name)] for name in known if names_filter(name)}
    texts = [names_filter] if isinstance(names_filter, str) else list(names_filter)
    wanted: dict[str, list[Address]] = {}
    for text in texts:
        address = parse(text, known)
        wanted.setdefault(address.name, []).append(address)
    return wanted


@dataclass
class Capture:
    """Fills rows by site and iteration while a model runs.

    `select(site, iteration)` says which rows to keep. The iteration comes from the site's own loop
    counter where it has one, from counting firings elsewhere.
    """

    storage: Storage
    select: Select
    rows: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)
    fired: dict[str, int] = field(default_factory=dict)

    def forward_hook(self, tensor: Tensor, hook: Any, name: str | None = None) -> None:
        """Keep the value that passes a site."""
        name = name or str(hook.name)
        row = self._row(name, hook)
        if self.select(name, row):
            self.rows.setdefault(name, {})[row] = self.storage.keep(name, tensor)

    def gradient_hook(self, tensor: Tensor, hook: Any, name: str | None = None) -> None:
        """Keep the gradient that reaches a site, under `name_grad` and the iteration of its forward pass."""
        name = name or str(hook.name)
        row = (
            hook.iteration
            if getattr(hook, "iteration", None) is not None
            else self.fired.get(name, 1) - 1
        )
        if not (tensor.requires_grad and self.select(name, row)):
            return
        grads = self.rows.setdefault(f"{name}_grad", {})
        if name in self.outside:
            self.outside.add(f"{name}_grad")
        tensor.register_hook(lambda grad: grads.__setitem__(row, self.storage.keep(name, grad)))

    def fill(self, n_rows: Callable[[str], int], staying: Sequence[str]) -> None:
        """Rows of iterations that a run did not reach: NaN, or what sites `staying` held last."""
        for name, rows in self.rows.items():
            if not rows or name in self.outside:
                continue
            last = rows[max(rows)]
            rest = last if name in staying else torch.full_like(last, float("nan"))
            for row in range(max(rows) + 1, n_rows(name)):
                if self.select(name, row):
                    rows[row] = rest

    def _row(self, name: str, hook: Any) -> int:
        if getattr(hook, "looped", None) is None:  # not ours: there is nothing but the count
            row = self.fired.get(name, 0)
            self.fired[name] = row + 1
            return row
        if not hook.looped:
            self.outside.add(name)
            return 0
        return int(hook.iteration)

    def cache(
        self, n_rows: Callable[[str], int], source: Any, n_iters: int | None
    ) -> IterationCache:
        """What was captured; `n_rows(site)` is how many rows a site inside the loop has."""
        single = {name for name, n in self.fired.items() if n == 1}
        single |= {f"{name}_grad" for name in single}
        plain = {
            name: rows[0]
            for name, rows in self.rows.items()
            if rows and name in self.outside | single
        }
        rows = {name: rows for name, rows in self.rows.items() if rows and name not in plain}
        return IterationCache(
            rows,
            plain,
            {name: n_rows(name.removesuffix("_grad")) for name in rows},
            source,
            n_iters,
        )


def record(
    model: Any,
    *args: Any,
    names_filter: NamesFilter = None,
    cache_device: torch.device | str | None = None,
    cache_dtype: torch.dtype | None = None,
    pos_slice: Any = None,
    remove_batch_dim: bool = False,
    incl_bwd: bool = False,
    **kwargs: Any,
) -> tuple[Any, IterationCache]:
    """Run any HookedRootModule or TransformerBridge and keep every firing of its sites.

    Returns (output, cache). A site that fired once reads as it is; one that fired n times as
    [n, ...], in the order of firing, and `name@i` is firing i.
    Errors: SiteError for an unknown site or an iteration that did not fire.
    """
    points: Mapping[str, HookPoint] = model.hook_dict
    wanted = wanted_sites(names_filter, list(points))
    capture = Capture(
        Storage(cache_device, cache_dtype, pos_slice, remove_batch_dim), lambda _name, _row: True
    )
    handles = []
    try:
        for name in wanted:
            for fn in (capture.forward_hook, *((capture.gradient_hook,) if incl_bwd else ())):
                hook = OwnedHook(lambda tensor, hook, fn=fn, name=name: fn(tensor, hook, name))
                handles.append((points[name], points[name].add_hook(hook)))  # type: ignore[arg-type]
        output = model(*args, **kwargs)
        if incl_bwd:
            output.backward()
    finally:
        for point, handle in handles:
            detach(point, handle)
    return output, _drop_unwanted(capture, wanted).cache(
        lambda name: capture.fired.get(name, 0), model, None
    )


def _drop_unwanted(capture: Capture, wanted: Mapping[str, Sequence[Address]]) -> Capture:
    """Only after the run is it known how often a site fired, and so what `@-1` means."""
    for name, addresses in wanted.items():
        n_fired = capture.fired.get(name, 0)
        if n_fired == 0 and any(address.rows is not None for address in addresses):
            raise SiteError(f"{addresses[0]}: the site did not fire in this run.")
        keep = {row for address in addresses for row in address.select(n_fired)}
        for key in (name, f"{name}_grad"):
            if key in capture.rows:
                capture.rows[key] = {row: t for row, t in capture.rows[key].items() if row in keep}
    return capture
