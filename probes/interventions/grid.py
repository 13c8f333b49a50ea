"""The cells of a patching: which there are, what is put into each, and where the run with it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes.interventions.cells import Cells
from probes.interventions.pairs import Pairs
from probes.interventions.reruns import Reruns
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

    def batches(self) -> Iterator[tuple[tuple[np.ndarray, ...], Cells | None, str]]:
        """(index into the result, the cells, their site), cells None where clean and corrupt values are the same."""
        for s, k in self._rows():
            name = self.names[s]
            pair, pos, head = self._cells()
            if self.together:  # what comes before the first cell that differs stays as it is
                pos = self._first(self._same(name, k))[pair]
            alone = np.zeros_like(pos) if self.together else pos
            same = self._same(name, k)
            same = np.asarray(same.all(axis=1, keepdims=True)) if self.together else same
            equal = same[pair, alone, head]
            part = np.flatnonzero(equal)
            if len(part):
                yield self._where(s, k, pair[part], alone[part], head[part]), None, name
            # Neighbours together, so that they share what comes before them.
            rest = np.flatnonzero(~equal)
            rest = rest[np.argsort(pos[rest], kind="stable")]
            size = min(self.corrupt.chunk(), max(LEAST, -(-len(rest) // WINDOWS)))
            for first in range(0, len(rest), size):
                part = rest[first : first + size]
                n, p, h = pair[part], pos[part], head[part]
                start = int(p.min())
                start = start if start and self.corrupt.resumes else 0
                yield self._where(s, k, n, alone[part], h), self._as_cells(n, p, h, start), name

    def _where(self, s: int, k: int, *cells: np.ndarray) -> tuple[np.ndarray, ...]:
        n = len(cells[0])
        return (np.full(n, s), np.full(n, k), *cells)

    def _as_cells(self, n: np.ndarray, p: np.ndarray, h: np.ndarray, start: int) -> Cells:
        on = lambda x: torch.from_numpy(x).to(self.mask.device)  # noqa: E731
        positions, heads = None if self.together else on(p), on(h) if self.per_head else None
        return Cells(on(n), positions, heads, self.mask, start)

    def run(self, name: str, k: int, cells: Cells) -> Any:
        """The State just after row k of the site, patched."""
        index, value = cells.index.tolist(), self.values[name, k]
        if name == STATE:
            return cells.patched(self.corrupt.resumed(k, index, cells.start), value)
        hooks = [(f"{name}@{k}", cells.hook(value))]
        return self.corrupt.moved(self.corrupt.moves[name, k], index, hooks, cells.start)

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
