"""Hooks and caches by address on our own models: `fwd_hooks=[("body.0.hook_resid_pre@2", fn)]`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import LensHandle

from abbie_lens.errors import InputError, SiteError
from abbie_lens.hooks.address import Address, parse
from abbie_lens.hooks.cache import IterationCache
from abbie_lens.hooks.capture import Capture, NamesFilter, Storage, wanted_sites
from abbie_lens.hooks.memory import capture_bytes, require_room
from abbie_lens.hooks.points import Clock, OwnedHook, Site, detach
from abbie_lens.loops.base import CONCEPT_SPACE

if TYPE_CHECKING:
    from abbie_lens.components.embed import Embed
    from abbie_lens.config import LoopedConfig
    from abbie_lens.lock import RunLock

AddressedHooks = Sequence[tuple[str | Callable[[str], bool], Callable[..., Any]]]


@dataclass(frozen=True)
class _Moment:
    """What a gradient hook sees as its `hook`: the site and iteration of the forward pass."""

    name: str
    iteration: int | None


class AddressedRootModule(HookedRootModule):
    """A HookedRootModule whose `hooks`, `run_with_hooks`, `run_with_cache` understand `name@iteration`."""

    cfg: LoopedConfig
    lock: RunLock
    clock: Clock
    embed: Embed
    hook_dict: dict[str, Site]  # type: ignore[assignment]

    def setup(self) -> None:
        """Name every site, tell it the clock, and whether it is inside the loop."""
        super().setup()
        self.asked: list[tuple[int, Address]] = []
        for name, site in self.hook_dict.items():
            site.clock = self.clock
            site.looped = name.startswith(("body.", "loop."))

    def as_tokens(
        self, input: Any, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Token ids [batch, pos] and their mask, from whatever the model takes."""
        raise NotImplementedError

    def depth(self, n_iters: int | None) -> int:
        """The planned depth: `n_iters`, or the trained one. Errors: InputError."""
        raise NotImplementedError

    def rows(self, site: str, n_iters: int) -> int:
        """Rows of a site after `n_iters` iterations; 0 for a site outside the loop."""
        return self.cfg.loop.rows(site, n_iters) if self.hook_dict[site].looped else 0

    def address(self, text: str) -> Address:
        """The address in `text`. Errors: SiteError for an unknown site, or iterations of a site outside the loop."""
        address = parse(text, self.hook_dict)
        if address.rows is not None and not self.hook_dict[address.name].looped:
            raise SiteError(f"{text}: {address.name} is outside the loop and has no iterations.")
        return address

    @contextmanager
    def hooks(  # type: ignore[override]
        self,
        fwd_hooks: AddressedHooks = (),
        bwd_hooks: AddressedHooks = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[Self]:
        """Hooks by address for the runs of this thread inside the `with` block.

        A hook is called as `fn(tensor, hook=hook)` with `hook.iteration`; a returned tensor replaces the value
        (or, for `bwd_hooks`, the gradient). A bare name means every iteration, a callable gets the bare name.
        """
        added: list[tuple[Site, LensHandle]] = []
        asked: list[tuple[int, Address]] = []
        with self.lock:
            wanted = [
                (address, fn, False) for name, fn in fwd_hooks for address in self._addresses(name)
            ]
            wanted += [
                (address, fn, True) for name, fn in bwd_hooks for address in self._addresses(name)
            ]
            for address, fn, backward in wanted:
                hook = OwnedHook(self._addressed(address, _on_gradient(fn) if backward else fn))
                added.append(
                    (self.hook_dict[address.name], self.hook_dict[address.name].add_hook(hook))
                )
                asked.append((hook.owner, address))
            self.asked.extend(asked)
        try:
            yield self
        finally:
            with self.lock:
                for entry in asked:
                    self.asked.remove(entry)
                if reset_hooks_end:
                    for site, handle in added:
                        detach(site, handle)
                        if clear_contexts:
                            site.clear_context()

    def check_asked(self, n_iters: int) -> None:
        """Errors: SiteError where a hook of this thread waits for an iteration that this depth does not have."""
        for owner, address in self.asked:
            if owner == threading.get_ident() and address.rows is not None:
                address.select(self.rows(address.name, n_iters))

    def _addresses(self, name: str | Callable[[str], bool]) -> list[Address]:
        if isinstance(name, str):
            return [self.address(name)]
        return [Address(site) for site in self.hook_dict if name(site)]

    def _addressed(self, address: Address, fn: Callable[..., Any]) -> Callable[..., Any]:
        if address.rows is None:
            return fn

        def only_there(tensor: Tensor, hook: Site) -> Any:
            n_iters = hook.clock.n_iters if hook.clock and hook.clock.n_iters is not None else 0
            if hook.iteration in address.select(self.rows(address.name, n_iters)):
                return fn(tensor, hook=hook)
            return None

        return only_there

    def run_with_hooks(
        self,
        *args: Any,
        fwd_hooks: AddressedHooks = (),
        bwd_hooks: AddressedHooks = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        **kwargs: Any,
    ) -> Any:
        """One forward pass under `hooks(...)`; keep `reset_hooks_end=False` for gradients taken afterwards."""
        with self.hooks(fwd_hooks, bwd_hooks, reset_hooks_end, clear_contexts):
            return self(*args, **kwargs)

    def run_with_cache(  # type: ignore[override]
        self,
        input: Any,
        *,
        n_iters: int | None = None,
        names_filter: NamesFilter = None,
        incl_bwd: bool = False,
        cache_device: torch.device | str | None = None,
        cache_dtype: torch.dtype | None = None,
        pos_slice: Any = None,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, IterationCache]:
        """One forward pass and its activations by iteration: (output, IterationCache).

        `names_filter` takes addresses (`"body.0.attn.hook_pattern@2:5"`), a list of them, a function on bare
        names, or None for everything. `incl_bwd` calls `backward()` on the output (use `return_type="loss"`)
        and adds `name_grad`. Errors: SiteError for unknown addresses, InputError where it would not fit.
        """
        depth = self.depth(n_iters)
        tokens, mask = self.as_tokens(input, kwargs.pop("attention_mask", None))
        batch, pos = tokens.shape
        keep: dict[str, set[int]] = {}
        for name, addresses in wanted_sites(names_filter, list(self.hook_dict)).items():
            looped = self.hook_dict[name].looped
            chosen = [self.address(str(address)) for address in addresses]
            keep[name] = (
                {row for a in chosen for row in a.select(self.rows(name, depth))} if looped else {0}
            )
        model_device, model_dtype = self.embed.weight.device, self.embed.weight.dtype
        size = lambda rows: capture_bytes(self.cfg, rows, batch, pos, cache_dtype or model_dtype)  # noqa: E731
        states = [(name, self.rows(name, depth)) for name in CONCEPT_SPACE]
        require_room(
            size((name, len(rows)) for name, rows in keep.items()) * (1 + incl_bwd),
            size(states),
            torch.device(cache_device or model_device),
        )

        capture = Capture(
            Storage(cache_device, cache_dtype, pos_slice, remove_batch_dim),
            lambda name, row: row in keep[name],
        )
        hooks = [(name, capture.forward_hook) for name in keep]
        if incl_bwd:
            if kwargs.get("halting") is not None:
                raise InputError("incl_bwd=True: no gradient passes through a run with halting.")
            hooks += [(name, capture.gradient_hook) for name in keep]
        with self.hooks(hooks):
            output = self(tokens, n_iters=depth, attention_mask=mask, **kwargs)
            if incl_bwd:
                output.backward()
        if kwargs.get("halting") is not None:
            capture.fill(lambda name: self.rows(name, depth), CONCEPT_SPACE)
        return output, capture.cache(lambda name: self.rows(name, depth), self, depth)


def _on_gradient(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A forward hook that calls `fn` on the gradient, with the iteration of the forward pass."""

    def attach(tensor: Tensor, hook: Site) -> None:
        moment = _Moment(hook.name or "", hook.iteration)

        def on_gradient(grad: Tensor) -> Tensor | None:
            result = fn(grad, hook=moment)
            return result[0] if isinstance(result, tuple) else result

        if tensor.requires_grad:
            tensor.register_hook(on_gradient)

    return attach
