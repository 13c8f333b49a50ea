"""Sites of a bridged model: its hook points, in place, under the canonical names and TransformerLens' own alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from abbie_lens.bridged.names import canonical
from abbie_lens.hooks.address import Address
from abbie_lens.hooks.cache import IterationCache
from abbie_lens.hooks.points import Site
from abbie_lens.model import HookedLoopedTransformer


class BridgedSites(HookedLoopedTransformer):
    """What addresses a hook point of a bridge; LoopedBridge makes the parts that it names."""

    packs = False
    bridge: Any
    window: Any
    conductor: Any

    def setup(self) -> None:
        """Make a site of every hook point of the bridge, under its canonical name."""
        points, self.aliases = canonical(self.bridge.hook_dict, self.window.start, self.window.stop)
        points |= {
            f"loop.{name}": getattr(self.loop, name) for name in ("hook_state", "hook_readout")
        }
        self.hook_dict, self.mod_dict, self.asked = {}, {}, []
        for name, point in points.items():
            site = self.hook_dict[name] = self.mod_dict[name] = Site.of(point)
            site.name, site.clock = name, self.clock
            site.looped = name.startswith(("body.", "loop."))
        self.other_names: dict[str, list[str]] = {name: [name] for name in points}
        for other, name in self.aliases.items():
            self.other_names[name].append(other)

    def _own(self, text: str) -> str:
        """An address with the site's canonical name in it."""
        name, at, rows = text.partition("@")
        return self.aliases.get(name, name) + at + rows

    def address(self, text: str) -> Address:
        """The address in `text`, which may be TransformerLens' name. Errors: SiteError."""
        return super().address(self._own(text))

    def _addresses(self, name: str | Callable[[str], bool]) -> list[Address]:
        return super()._addresses(self._own(name) if isinstance(name, str) else self._any(name))

    def _any(self, wanted: Callable[..., Any]) -> Callable[[str], bool]:
        """The same question of a canonical name, answered yes if any name of that site is wanted."""
        return lambda site: any(map(wanted, self.other_names[site]))

    def _addressed(self, address: Address, fn: Callable[..., Any]) -> Callable[..., Any]:
        inner = super()._addressed(address, fn)

        def unless_silent(tensor: Tensor, hook: Site) -> Any:
            # a read-out runs the model's forward, and with it the embedding, once more
            quiet = self.conductor.silent or self.conductor.muted
            return None if quiet else inner(tensor, hook=hook)

        return unless_silent

    def run_with_cache(
        self, input: Any, *, names_filter: Any = None, **kwargs: Any
    ) -> tuple[Any, IterationCache]:
        """As for our own models; names may be TransformerLens' too, in the filter and of the cache."""
        if isinstance(names_filter, str):
            names_filter = self._own(names_filter)
        elif callable(names_filter):
            names_filter = self._any(names_filter)
        elif names_filter is not None:
            names_filter = [self._own(name) for name in names_filter]
        output, cache = super().run_with_cache(input, names_filter=names_filter, **kwargs)
        cache.aliases = self.aliases
        return output, cache
