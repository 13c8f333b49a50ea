"""One probing task, and the fits of a group of features: the probe, shuffled labels, the control task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from probes.probing.fitted import Fitted
from probes.probing.logistic import Logistic
from probes.probing.probe import Probe, decide
from probes.probing.ridge import Ridge
from probes.probing.split import Split
from probes.probing.standard import Scaler, moved, scaler
from probes.probing.targets import Targets

TRUE, SHUFFLED, CONTROL = "true", "shuffled", "control"
_GROUP_ELEMENTS = 1 << 21
"""Features worked on together on a CPU; many small problems share what a call costs."""
_GROUP_SHARE = 0.2
"""Share of a GPU's free memory that a group may take, several copies included."""


@dataclass(frozen=True)
class Outcome:
    """What the probes of one set of features came to."""

    probe: Probe | None
    """None where features are not finite."""
    said: dict[str, np.ndarray]
    """[test token, ...] by condition: true, shuffled, control."""
    penalty: float
    converged: bool


@dataclass(frozen=True)
class Task:
    """Labels, sides, penalties: everything but the features."""

    targets: Targets
    split: Split
    penalties: tuple[float, ...]
    types: np.ndarray | None
    """[token] word types, for the control task."""
    seed: int
    device: torch.device
    dtype: torch.dtype
    tol: float
    max_iter: int

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """Labels [token, ...] by condition. Shuffled are the training labels, permuted."""
        rng, true = np.random.default_rng(self.seed), self.targets.values
        shuffled = true.copy()
        shuffled[self.split.train] = true[rng.permutation(self.split.train)]
        found = {TRUE: true, SHUFFLED: shuffled}
        if self.types is not None:
            _, number = np.unique(self.types, return_inverse=True)
            # every type has the label of a training token drawn for it, so shares stay as they are
            drawn = rng.choice(self.split.train, size=int(number.max()) + 1)
            found[CONTROL] = true[drawn][number]
        return found

    def fit(
        self, features: Sequence[np.ndarray | Tensor], conditions: Sequence[str]
    ) -> Iterator[Outcome]:
        """The outcome of each of `features` [token, width], in turn; `conditions` beside the true labels."""
        for group in self._groups(features):
            yield from self._fit(group, conditions)

    def _groups(
        self, features: Sequence[np.ndarray | Tensor]
    ) -> Iterator[list[np.ndarray | Tensor]]:
        """Neighbours of one width, as many as fit."""
        group: list[np.ndarray | Tensor] = []
        for x in features:
            size = len(x) * x.shape[1]
            if group and (x.shape != group[0].shape or (len(group) + 1) * size > self._room):
                yield group
                group = []
            group.append(x)
        if group:
            yield group

    @cached_property
    def _room(self) -> int:
        if self.device.type != "cuda":
            return _GROUP_ELEMENTS
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(_GROUP_SHARE * free / self.dtype.itemsize)

    def _fit(
        self, group: Sequence[np.ndarray | Tensor], conditions: Sequence[str]
    ) -> Iterator[Outcome]:
        sides = (self.split.train, self.split.validation, self.split.test)
        there, finite = [], []
        for x in group:
            parts = [moved(_rows(x, which), self.device) for which in sides]
            there.append(all(_finite(part) for part in parts))
            if there[-1]:
                finite.append(parts)
        found = iter(self._fit_finite(finite, conditions) if finite else ())
        nothing = self._nothing(conditions)
        for ok in there:
            yield next(found) if ok else nothing

    def _nothing(self, conditions: Sequence[str]) -> Outcome:
        true = self.targets.values[self.split.test]
        empty = np.full(true.shape, np.nan if true.dtype.kind == "f" else -1, true.dtype)
        return Outcome(None, dict.fromkeys((TRUE, *conditions), empty), np.nan, False)

    def _fit_finite(
        self, group: Sequence[Sequence[Tensor]], conditions: Sequence[str]
    ) -> Iterator[Outcome]:
        scalers: list[Scaler] = []
        sides: list[list[Tensor]] = [[], [], []]
        for parts in group:
            scalers.append(scaler(parts[0]))
            for side, part in zip(sides, parts, strict=True):
                side.append(scalers[-1].apply(part, self.dtype))
        # one alone needs no copy
        train, validation, test = (
            torch.stack(side) if len(side) > 1 else side[0][None] for side in sides
        )
        solver = self._solver(train)
        path = self._labels([TRUE] * len(self.penalties))
        penalties = torch.tensor(self.penalties, dtype=self.dtype, device=self.device)
        tried = self._solve(solver, path, penalties.expand(len(group), -1))
        best = self._best(tried, validation)
        others = None
        if conditions:
            chosen = penalties[best][:, None].expand(-1, len(conditions))
            others = self._solve(solver, self._labels(conditions), chosen)
        said = {TRUE: self._said(tried.outputs(test))[range(len(group)), best.cpu()]}
        if others is not None:
            answers = self._said(others.outputs(test))
            said |= {name: answers[:, i] for i, name in enumerate(conditions)}
        for p, (scale, b) in enumerate(zip(scalers, best.tolist(), strict=True)):
            probe = Probe(
                self.targets.kind,
                self.targets.classes,
                scale.mean,
                scale.scale,
                tried.coef[p, b].cpu().double().numpy(),
                tried.intercept[p, b].cpu().double().numpy(),
            )
            answers = {name: values[p] for name, values in said.items()}
            yield Outcome(probe, answers, self.penalties[b], bool(tried.converged[p, b]))

    def _solver(self, x: Tensor) -> Logistic | Ridge:
        if self.targets.kind == "regression":
            return Ridge(x)
        n = self.targets.n_columns
        return Logistic(x, n, softmax=self.targets.kind == "classes" and n > 1)

    def _solve(self, solver: Logistic | Ridge, labels: Tensor, penalties: Tensor) -> Fitted:
        return solver.fit(labels, penalties, tol=self.tol, max_iter=self.max_iter)

    def _labels(self, conditions: Sequence[str]) -> Tensor:
        """[task, training token(, column)]"""
        return self._encoded(np.stack([self.values[name][self.split.train] for name in conditions]))

    def _encoded(self, values: np.ndarray) -> Tensor:
        labels = torch.from_numpy(values)
        if labels.dtype == torch.float64:
            labels = labels.to(self.dtype)
        if self.targets.kind == "classes" and self.targets.n_columns == 1:
            labels = labels[..., None]
        return labels.to(self.device)

    def _best(self, tried: Fitted, validation: Tensor) -> Tensor:
        """[problem] number of the penalty with the least loss on the validation documents."""
        if tried.coef.shape[1] == 1:
            return torch.zeros(len(validation), dtype=torch.long, device=self.device)
        outputs = tried.outputs(validation)
        true = self._encoded(self.targets.values[self.split.validation])
        if self.targets.kind == "regression":
            loss = (outputs - true).square().mean((-1, -2))
        elif self.targets.kind == "classes" and self.targets.n_columns > 1:
            at = true[:, None].expand(*outputs.shape[:-1], 1)
            loss = -outputs.log_softmax(-1).gather(-1, at).mean((-1, -2))
        else:
            loss = (torch.nn.functional.softplus(outputs) - true * outputs).mean((-1, -2))
        return loss.argmin(-1)

    def _said(self, outputs: Tensor) -> np.ndarray:
        return decide(outputs.cpu().double().numpy(), self.targets.kind)


def _rows(x: np.ndarray | Tensor, which: np.ndarray) -> Tensor:
    """A copy of some rows: what was given may be read-only, or mapped from a file."""
    return torch.from_numpy(x[which]) if isinstance(x, np.ndarray) else x[torch.from_numpy(which)]


def _finite(x: Tensor) -> bool:
    """Without a tensor of x's size: the extremes carry a NaN along."""
    return not x.numel() or all(bool(torch.isfinite(end)) for end in torch.aminmax(x))
