"""Gathering: run windows of text and keep chosen tokens of chosen sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.collecting.choice import kept, key
from abbie_lens.corpus import Window, batches, padded
from abbie_lens.errors import InputError, SiteError

if TYPE_CHECKING:
    from abbie_lens.collecting.config import CollectConfig
    from abbie_lens.model import HookedLoopedTransformer


class Gatherer:
    """Values and index of a shard's windows, in the order of the text."""

    def __init__(
        self,
        model: HookedLoopedTransformer,
        config: CollectConfig,
        rows: dict[str, list[int]],
        n_iters: int,
        window: int,
    ) -> None:
        self.model, self.config, self.rows, self.n_iters = model, config, rows, n_iters
        self.budget = config.batch_size * window
        self._texts: dict[int, str] = {}

    def __call__(self, windows: Sequence[Window]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors [token, ...] by `name@i`, and columns of the index [token]."""
        positions = [kept(window, self.config.share, self.config.seed) for window in windows]
        first = np.cumsum([0, *map(len, positions)])
        values: dict[str, Tensor] = {}
        nll = np.full(first[-1], np.nan, np.float32)
        start = 0
        for numbers in batches(windows, self.budget):
            tokens, mask, start = padded([windows[n] for n in numbers], self.model.tokenizer)
            rows = np.repeat(np.arange(len(numbers)), [len(positions[n]) for n in numbers])
            where = np.concatenate([positions[n] for n in numbers]) + start
            to = np.concatenate([np.arange(first[n], first[n + 1]) for n in numbers])
            loss = self._run(tokens, mask, rows, where, to, values, int(first[-1]))
            before = where > 0
            nll[to[before]] = loss[rows[before], where[before] - 1].float().cpu().numpy()
        return values, self._index(windows, positions, nll, start)

    @torch.no_grad()
    def _run(
        self,
        tokens: Tensor,
        mask: Tensor | None,
        rows: np.ndarray,
        where: np.ndarray,
        to: np.ndarray,
        values: dict[str, Tensor],
        n_kept: int,
    ) -> Tensor:
        model, device = self.model, self.model.device
        picked = torch.from_numpy(rows).to(device), torch.from_numpy(where).to(device)
        target = torch.from_numpy(to)

        def keep(tensor: Tensor, hook: Any) -> None:
            wanted = self.rows[hook.name]
            row = hook.iteration if wanted else None
            if row is not None and row not in wanted:
                return
            if tensor.shape[:2] != tokens.shape:
                raise SiteError(
                    f"{key(hook.name, row)}: its rows are not the {tokens.shape[1]} tokens but {tensor.shape[1]}; "
                    "collect a site that has one for each token."
                )
            name = key(hook.name, row)
            chosen = tensor.detach()[picked[0].to(tensor.device), picked[1].to(tensor.device)]
            stored = chosen.to("cpu", self.config.torch_dtype)
            if not _as_finite(chosen, stored):
                raise InputError(
                    f"dtype={self.config.dtype!r}: values of {name} are too large for it; store bfloat16 or float32."
                )
            if name not in values:
                values[name] = torch.empty((n_kept, *stored.shape[1:]), dtype=stored.dtype)
            values[name][target] = stored

        seed = self.config.seed if model.cfg.loop.draws_state else None
        with model.hooks([(name, keep) for name in self.rows]):
            return model(
                tokens.to(device),
                n_iters=self.n_iters,
                attention_mask=None if mask is None else mask.to(device),
                seed=seed,
                return_type="loss",
                loss_per_token=True,
            )

    def _index(
        self, windows: Sequence[Window], positions: list[np.ndarray], nll: np.ndarray, start: int
    ) -> dict[str, Any]:
        pairs = list(zip(windows, positions, strict=True))
        joined = lambda parts: np.concatenate([*parts]) if pairs else np.empty(0, np.int64)  # noqa: E731
        ids = joined(w.ids[p] for w, p in pairs)
        return {
            "document": joined(np.full(len(p), w.document) for w, p in pairs),
            "number": joined(w.first + p for w, p in pairs),
            "token": ids,
            "text": [self._text(i) for i in ids.tolist()],
            "start": joined(w.spans[p, 0] for w, p in pairs),
            "end": joined(w.spans[p, 1] for w, p in pairs),
            "position": joined(p + start for _, p in pairs).astype(np.int32),
            "nll": nll,
        }

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self.model.to_str_tokens([token])[0]
        return self._texts[token]


def _as_finite(before: Tensor, after: Tensor) -> bool:
    """Whether storing has made nothing infinite."""
    if bool(after.isfinite().all()):
        return True
    return not bool((before.isfinite().cpu() & ~after.isfinite()).any())
