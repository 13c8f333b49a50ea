"""What a study keeps of every token, in shards: each rule's value and what an exit would give, at every iteration.

Values are float32, so that thresholds mean what they mean in a replay (relative error 6e-8); nothing of the vocabulary is kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abbie_lens.collecting.choice import token_draws
from abbie_lens.corpus import Window, batches, padded
from abbie_lens.errors import CheckpointError
from abbie_lens.halting import HaltingPolicy
from probes import decoding
from probes.early_exit.answers import Counted
from probes.early_exit.watch import watched
from probes.inputs import prepare
from probes.labels import UNDEFINED, get_label


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of one stretch that have a next one in their window."""

    values: np.ndarray
    """[rule, k, token] float32 the rule's value; NaN where undefined."""
    nll: np.ndarray
    """[k, token] float32 NLL of the next token, nats; NaN where the prediction is."""
    agrees: np.ndarray
    """[k, token] bool: the top token is that of full depth."""
    right: np.ndarray
    """[k, token] bool: the top token is the next token."""
    confidence: np.ndarray
    """[k, token] float32 probability of the top token."""
    entropy: np.ndarray
    """[token] float32 entropy at full depth, nats."""
    ids: np.ndarray
    """[token] token id."""
    position: np.ndarray
    """[token] tokens before it in its window."""
    classes: np.ndarray
    """[token] class number; the one after the last for tokens without a class."""
    document: np.ndarray
    """[token] document."""
    draws: np.ndarray
    """[token] uint64 uniform."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def defined(self) -> np.ndarray:
        """[token] whether the NLL is finite after every k."""
        return np.asarray(np.isfinite(self.nll).all(0))

    def take(self, which: np.ndarray) -> Tokens:
        """Some tokens, by number or mask."""
        return Tokens(**{f.name: getattr(self, f.name)[..., which] for f in fields(self)})

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(partial, "wb") as file:
                np.savez(file, **vars(self))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Inverse of `save`, tokens whose NLL is undefined included. Errors: CheckpointError for a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{f.name: stored[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CheckpointError(f"{path}: can't be read ({error}).") from error

    @classmethod
    def joined(cls, parts: Sequence[Tokens]) -> Tokens:
        """All tokens, one part after the other."""
        names = [f.name for f in fields(cls)]
        return cls(**{n: np.concatenate([getattr(p, n) for p in parts], -1) for n in names})


class Replayer:
    """Turns windows into Tokens."""

    def __init__(
        self, model: Any, policies: Sequence[HaltingPolicy], n_iters: int, budget: int,
        label: str, seed: int, counted: Counted | None = None,
    ) -> None:  # fmt: skip
        self.model, self.policies, self.n_iters, self.budget = model, policies, n_iters, budget
        self.label, self.seed, self.counted = get_label(label), seed, counted

    def __call__(self, windows: Sequence[Window]) -> Tokens:
        """In the order of the windows."""
        found: dict[int, Tokens] = {}
        for numbers in batches(windows, self.budget):
            chosen = [windows[n] for n in numbers]
            found |= dict(zip(numbers, self._run(chosen), strict=True))
        return Tokens.joined([found[n] for n in range(len(windows))])

    def _run(self, windows: Sequence[Window]) -> list[Tokens]:
        tokens, mask, start = padded(windows, self.model.tokenizer)
        mask = None if mask is None else mask.to(self.model.device)
        inputs = prepare(self.model, tokens.to(self.model.device), self.n_iters, mask)
        targets = decoding.next_tokens(inputs.tokens, inputs.mask)
        rows: list[list[torch.Tensor]] = [[] for _ in range(4)]
        entropy = None
        for seen, values in watched(self.model, inputs, self.policies):
            top = seen.argmax
            confidence = seen.log_probs.amax(-1).exp()
            for row, x in zip(
                rows, (values, decoding.nll(seen.log_probs, targets), top, confidence), strict=True
            ):
                row.append(x.cpu())
            if seen.k == self.n_iters:
                entropy = seen.entropy.cpu().float().numpy()
        assert entropy is not None
        values = torch.stack(rows[0], 1).float().numpy()
        nll, top, confidence = (torch.stack(row).numpy() for row in rows[1:])
        following = targets.cpu().numpy()
        made = []
        for i, window in enumerate(windows):
            at = (i, slice(start, start + len(window) - 1))
            one = Tokens(
                values=values[(slice(None), slice(None), *at)],
                nll=nll[(slice(None), *at)].astype(np.float32),
                agrees=top[(slice(None), *at)] == top[(-1, *at)],
                right=top[(slice(None), *at)] == following[at],
                confidence=confidence[(slice(None), *at)].astype(np.float32),
                entropy=entropy[at],
                ids=window.ids[:-1].astype(np.int64),
                position=np.arange(len(window) - 1),
                classes=self._classes(window)[:-1],
                document=np.full(len(window) - 1, window.document),
                draws=token_draws(window, self.seed)[:-1],
            )
            made.append(one if self.counted is None else one.take(self.counted(window.ids)[:-1]))
        return made

    def _classes(self, window: Window) -> np.ndarray:
        classes = self.label(self.model.to_str_tokens(window.ids.tolist()))
        return np.where(classes == UNDEFINED, len(self.label.classes), classes)


def path(folder: Path, number: int) -> Path:
    """File of a stretch."""
    return folder / f"tokens-{number:06d}.npz"


def done(folder: Path) -> list[int]:
    """Numbers of the stretches that are replayed, ascending."""
    stems = (p.stem.removeprefix("tokens-") for p in folder.glob("tokens-*.npz"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def sweep(folder: Path) -> None:
    """Drop what a killed run left half-written."""
    for stale in folder.glob(".tokens-*"):
        stale.unlink(missing_ok=True)
