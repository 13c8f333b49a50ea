"""The cells of a patching: which there are, what is put into each, and where the run with it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes.interventions.cells import Cells
from probes.interventions.pairs import Pairs
from probes.interventions.reruns import Join, Reruns
from probes.interventions.sites import STATE
from probes.interventions.states import expanded, joined, tensors

LEAST, WINDOWS = 4, 8
"""Cells in a batch at least, and batches that a row is cut into: the more, the less is computed of what they share."""


class Grid:
    """The cells of a patching, and what is put into them."""

    def __init__(
        self,
        model: Any,
        pairs: Pairs,
        clean: Reruns,
        corrupt: Reruns,
        names: Sequence[str],
        per_head: bool | None,
        together: bool,
        iterations: Sequence[int] | None,
    ) -> None:
        self.corrupt, self.names, self.together = corrupt, names, together
        self.mask = torch.from_numpy(pairs.aligned >= 0).to(corrupt.inputs.tokens.device)
        shape, other = (tuple(r.inputs.tokens.shape) for r in (corrupt, clean))
        depth = corrupt.inputs.n_iters
        self.rows = {name: depth + 1 if name == STATE else corrupt.rows(name) for name in names}
        most = max(self.rows.values())
        self.iterations = list(range(most)) if iterations is None else list(iterations)
        if not self.iterations or not all(
            isinstance(k, int) and 0 <= k < most for k in self.iterations
        ):
            raise InputError(
                f"iterations={iterations!r}: expected rows 0 to {most - 1} of {names[0]}."
            )
        self.values: dict[tuple[str, int], Any] = {}
        """What is patched in, by site and row: [pair, pos, ...] at the corrupt positions, or a whole State."""
        heads = {1}
        for name in names:
            for k in range(self.rows[name]):
                if name == STATE:
                    fitted = lambda x: pairs.from_clean(x) if x.shape[:2] == other else x  # noqa: E731
                    whole = joined(fitted, expanded(clean.states[k]))
                    self.values[name, k] = whole.replace(tokens=pairs.from_clean(whole.tokens))
                    continue
                value = corrupt.values[name, k]
                if tuple(value.shape[:2]) != shape:
                    raise InputError(
                        f"site={name!r}: shape {tuple(value.shape)} in row {k}; only sites [batch, pos, ...] with a row for "
                        "each token can be patched by position."
                    )
                self.values[name, k] = pairs.from_clean(clean.values[name, k])
                if per_head or (per_head is None and name.endswith("attn.hook_z")):
                    if value.ndim != 4:
                        raise InputError(
                            f"per_head: {name} has no axis of heads, its shape is {tuple(value.shape)}."
                        )
                    heads.add(value.shape[2])
        self.per_head = len(heads) > 1
        self.shape = (len(names), most, shape[0], 1 if together else shape[1], max(heads))

    def count(self) -> int:
        """Cells that exist."""
        return len(self._cells()[0]) * len(list(self._rows()))

    def _rows(self) -> Iterator[tuple[int, int]]:
        for s, name in enumerate(self.names):
            yield from ((s, k) for k in self.iterations if k < self.rows[name])

    def _cells(self) -> tuple[np.ndarray, ...]:
        """(pair, pos, head) of the cells in one row of a site."""
        there = self.mask.cpu().numpy()
        there = np.asarray(there.any(axis=1, keepdims=True)) if self.together else there
        return np.nonzero(np.broadcast_to(there[..., None], (*there.shape, self.shape[-1])))

    def batches(self) -> Iterator[tuple[tuple[np.ndarray, ...], Callable[[], Any] | None, int]]:
        """(index into the result, what runs those cells to the end, first position that is run); None: nothing changes."""
        for s, name in enumerate(self.names):
            rows = [k for k in self.iterations if k < self.rows[name]]
            found = [self._row(s, name, k) for k in rows]
            cells, pos, same = (np.concatenate(x, axis=-1) for x in zip(*found, strict=True))
            if same.any():
                yield tuple(cells[:, same]), None, 0
            cells, pos = cells[:, ~same], pos[~same]
            moves = np.array([self._move(name, k) for k in cells[1]])
            # Neighbours together, so that they share what comes before them; all iterations, where a batch may grow.
            grows = self.corrupt.prefixes.shared
            order = np.lexsort((cells[1], pos) if grows else (pos, moves))
            breaks = [] if grows else list(np.flatnonzero(np.diff(moves[order])) + 1)
            for group in np.split(order, breaks):
                size = min(self.corrupt.chunk(), max(LEAST, -(-len(group) // WINDOWS)))
                for first in range(0, len(group), size):
                    part = group[first : first + size]
                    part = part[np.lexsort((cells[1, part], moves[part]))]
                    start = int(pos[part].min())
                    start = start if start and self.corrupt.resumes else 0
                    yield tuple(cells[:, part]), self._runner(name, cells[:, part], start), start

    def _row(self, s: int, name: str, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cells [site, row, pair, pos, head] of a row, the first position that each changes, whether it changes nothing."""
        pair, alone, head = self._cells()
        same = self._same(name, k)
        first = self._first(same)[pair] if self.together else alone
        if self.together:
            same = np.asarray(same.all(axis=1, keepdims=True))
        cells = np.stack([np.full_like(pair, s), np.full_like(pair, k), pair, alone, head])
        return cells, first, same[pair, alone, head]

    def _move(self, name: str, k: int) -> int:
        return k if name == STATE else self.corrupt.moves[name, k]

    def _runner(self, name: str, cells: np.ndarray, start: int) -> Callable[[], Any]:
        """What gives the end State of the runs with these cells [5, cell], which are in the order of their moves."""
        joining: dict[int, list[Join]] = {}
        for k in dict.fromkeys(cells[1].tolist()):
            n, p, h = cells[2:, cells[1] == k]
            there, value = self._as_cells(n, p, h, start), self.values[name, k]
            if name == STATE:
                join = Join(n.tolist(), partial(there.patched, other=value))
            else:
                join = Join(n.tolist(), partial(there.put, values=value), f"{name}@{k}")
            joining.setdefault(self._move(name, k), []).append(join)
        return lambda: self.corrupt.grown(joining, start)

    def _as_cells(self, n: np.ndarray, p: np.ndarray, h: np.ndarray, start: int) -> Cells:
        on = lambda x: torch.from_numpy(x).to(self.mask.device)  # noqa: E731
        positions, heads = None if self.together else on(p), on(h) if self.per_head else None
        return Cells(on(n), positions, heads, self.mask, start)

    def _same(self, name: str, k: int) -> np.ndarray:
        """[pair, pos, head] cells whose value is the same in both runs: patching them changes nothing."""
        if name == STATE:
            equal = self.values[name, k].tokens == self.corrupt.states[k].tokens
            ours, theirs = self.values[name, k], expanded(self.corrupt.states[k])
            for a, b in zip(tensors(ours), tensors(theirs), strict=True):
                equal &= (a == b).flatten(2).all(-1) if a.ndim > 2 else a == b
            equal = equal[..., None]
        else:
            a, b = self.values[name, k], self.corrupt.values[name, k]
            equal = (
                (a == b).flatten(3).all(-1)
                if self.per_head
                else (a == b).flatten(2).all(-1)[..., None]
            )
        return (equal | ~self.mask[..., None]).expand(-1, -1, self.shape[-1]).cpu().numpy()

    @staticmethod
    def _first(same: np.ndarray) -> np.ndarray:
        """[pair] the first position with a cell that is not the same, the last one if all are."""
        differs = np.asarray(~same.all(axis=-1))
        return np.where(differs.any(axis=1), differs.argmax(axis=1), differs.shape[1] - 1)

    def gathered(self, change: Mapping[tuple[str, int], np.ndarray]) -> np.ndarray:
        """[site, iteration, pair, pos, head] of changes [pair, pos, head], by site and row; NaN where there is no cell."""
        out = np.full(self.shape, np.nan)
        there = self.mask.cpu().numpy()[..., None]
        for s, k in self._rows():
            values = np.where(there, change[self.names[s], k], np.nan)
            if not self.per_head:
                values = values.sum(-1, keepdims=True)
            out[s, k] = np.nansum(values, 1, keepdims=True) if self.together else values
        return out
