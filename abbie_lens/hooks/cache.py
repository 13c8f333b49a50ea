"""IterationCache: activations with an iteration axis. `cache[name]` is stacked, `cache[name@i]` is its row i."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from abbie_lens.errors import SiteError
from abbie_lens.hooks.address import Address, parse

if TYPE_CHECKING:
    from transformer_lens import ActivationCache

Rows = dict[int, Tensor]


class IterationCache(Mapping[str, Tensor]):
    """What one forward pass left at its sites.

    A site inside the loop reads as [iteration, ...]; a site outside it, or one that fired once in a model
    that is not ours, as it is. Rows are stacked when first asked for, then shared with the stack.

    Errors: SiteError for an unknown site, a missing iteration, or rows that cannot be stacked.
    """

    def __init__(
        self,
        rows: Mapping[str, Rows],
        plain: Mapping[str, Tensor],
        n_rows: Mapping[str, int],
        source: Any = None,
        n_iters: int | None = None,
    ) -> None:
        self._rows = {name: dict(recorded) for name, recorded in rows.items()}
        self._plain = dict(plain)
        self._n_rows = dict(n_rows)
        self._stacks: dict[str, Tensor] = {}
        self.source = source
        """The model that was run."""
        self.n_iters = n_iters
        """Depth r of the run; None for a model that is not iterative."""
        self.aliases: Mapping[str, str] = {}
        """Further names that sites answer to."""

    def __getitem__(self, key: str) -> Tensor:
        name, at, rows = key.partition("@")
        address = parse(self.aliases.get(name, name) + at + rows, self.keys())
        if address.name in self._plain:
            if address.rows is not None:
                raise SiteError(f"{key}: {address.name} is outside the loop and has no iterations.")
            return self._plain[address.name]
        if isinstance(address.rows, int):
            return self._row(address)
        return self._stack(address)

    def __contains__(self, key: object) -> bool:
        """Whether `cache[key]` is there."""
        try:
            return isinstance(key, str) and self[key] is not None
        except SiteError:
            return False

    def _row(self, address: Address) -> Tensor:
        (index,) = address.select(self._n_rows[address.name])
        self._require(address, [index])
        return self._rows[address.name][index]

    def _stack(self, address: Address) -> Tensor:
        name, rows = address.name, self._rows[address.name]
        wanted = address.select(self._n_rows[name])
        self._require(address, wanted)
        if name in self._stacks:
            return (
                self._stacks[name]
                if address.rows is None
                else self._stacks[name][_contiguous(wanted)]
            )
        shapes = {tuple(rows[i].shape) for i in wanted}
        if len(shapes) > 1:
            raise SiteError(
                f"{address}: its shape changes with the iteration ({sorted(shapes)}), so there is no stack; read single rows, {name}@i."
            )
        if not wanted:
            raise SiteError(f"{address}: selects no iteration of {self._n_rows[name]}.")
        stacked = torch.stack([rows[i] for i in wanted])
        if (
            address.rows is None
        ):  # from here on the rows are views of the stack: nothing is held twice
            self._stacks[name] = stacked
            self._rows[name] = dict(zip(wanted, stacked.unbind(), strict=True))
        return stacked

    def _require(self, address: Address, wanted: list[int]) -> None:
        missing = [i for i in wanted if i not in self._rows[address.name]]
        if missing:
            held = sorted(self._rows[address.name])
            raise SiteError(
                f"{address}: iterations {missing} were not recorded; recorded: {held}. Ask for those, or record more."
            )

    def __iter__(self) -> Iterator[str]:
        return iter([*self._plain, *self._rows])

    def __len__(self) -> int:
        return len(self._plain) + len(self._rows)

    def keys(self) -> Any:
        return self._plain.keys() | self._rows.keys()

    def __repr__(self) -> str:
        return f"IterationCache({len(self)} sites, n_iters={self.n_iters}, {self.nbytes / 2**20:.1f} MiB)"

    def iterations(self, name: str) -> list[int]:
        """Iterations recorded of a site inside the loop; empty for one outside it."""
        name = self.aliases.get(name, name)
        parse(name, self.keys())
        return sorted(self._rows.get(name, {}))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        tensors = [
            *self._plain.values(),
            *(t for rows in self._rows.values() for t in rows.values()),
        ]
        return sum(t.numel() * t.element_size() for t in tensors)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> IterationCache:
        """A copy on another device, or with floating-point activations in another dtype."""
        move = lambda t: t.to(device=device, dtype=dtype if t.is_floating_point() else None)  # noqa: E731
        rows = {
            name: {i: move(t) for i, t in recorded.items()} for name, recorded in self._rows.items()
        }
        plain = {k: move(t) for k, t in self._plain.items()}
        copied = IterationCache(rows, plain, self._n_rows, self.source, self.n_iters)
        copied.aliases = self.aliases
        return copied

    def unroll(self) -> ActivationCache:
        """The stock ActivationCache of the equivalent plain transformer; see `hooks.unroll`."""
        from abbie_lens.hooks.unroll import unroll  # it needs the cache's class

        return unroll(self)


def _contiguous(wanted: list[int]) -> slice | list[int]:
    """The same rows as a slice where they are consecutive, so that reading them copies nothing."""
    if wanted and wanted == list(range(wanted[0], wanted[-1] + 1)):
        return slice(wanted[0], wanted[-1] + 1)
    return wanted
