"""KL from the model's own prediction to what is read of rows, a few tokens at a time: what tuned lenses are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from abbie_lens.corpus import Window, batches
from abbie_lens.halting import measures
from probes import decoding
from probes.lenses import rows
from probes.lenses.rows import Blocks, Row
from probes.lenses.texts import inputs_of


class Seen:
    """Rows of a batch of windows as tokens: `x[row]` [token, d_model], and `last`, what the final norm reads at depth r."""

    def __init__(self, model: Any, windows: Sequence[Window], n_iters: int, blocks: Blocks) -> None:
        self.model = model
        self.inputs = inputs_of(model, windows, n_iters)
        with torch.no_grad():
            walked = rows.walk(model, self.inputs, blocks)
            self.rows: tuple[Row, ...] = walked.rows
            self.streams = walked.x
            if blocks == "all":
                more, streams, last = rows.tail_rows(model, walked.z, self.inputs)
                self.rows, self.streams = self.rows + more, self.streams + streams
            else:
                last = rows.through_the_tail(model, [walked.z], self.inputs)[0]
        keep = torch.from_numpy(self.inputs.valid).to(last.device)
        self._keep = keep
        self.x = [self.flat(x) for x in self.streams]
        self.last = self.flat(last)

    def flat(self, x: Tensor) -> Tensor:
        """[batch, pos, d_model] -> [token, d_model], padding left out."""
        return x[self._keep]

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """A few tokens at a time, with the log-probabilities [token, d_vocab] that the model itself gives them."""
        for part in decoding.row_chunks(len(self.last), self.model.cfg.d_vocab):
            with torch.no_grad():
                yield part, log_p(self.model, self.last[part])


def log_p(model: Any, x: Tensor) -> Tensor:
    """[..., d_vocab] log-probabilities of what the final norm reads."""
    return decoding.logits_of(model, x).float().log_softmax(-1)


@torch.no_grad()
def mean_kl(
    model: Any, windows: Sequence[Window], n_iters: int, blocks: Blocks, batch_size: int,
    readers: dict[str, Callable[[Seen], Sequence[Tensor]]],
) -> dict[str, list[float]]:  # fmt: skip
    """KL(p_r ‖ p_row) in nats, the mean over the tokens of `windows`, [row] by reader.

    A reader gives, of each row, what the final norm is to read, [token, d_model].
    """
    sums: dict[str, Tensor] = {}
    n_tokens = 0
    for numbers in batches(windows, batch_size * max(map(len, windows)) + batch_size):
        seen = Seen(model, [windows[i] for i in numbers], n_iters, blocks)
        read = {name: reader(seen) for name, reader in readers.items()}
        for part, log_r in seen.parts():
            for name, x in read.items():
                found = [measures.kl_divergence(log_r, log_p(model, one[part])).sum() for one in x]
                sums[name] = sums.get(name, 0) + torch.stack(found).cpu().double()
        n_tokens += len(seen.last)
    return {name: (total / n_tokens).tolist() for name, total in sums.items()}


def by_logit(seen: Seen) -> Sequence[Tensor]:
    """The rows as they are: the logit lens."""
    return seen.x


def by_tail(seen: Seen) -> Sequence[Tensor]:
    """The rows through the model's own Tail; blocks of the Tail itself are at its end already."""
    before = [
        x for row, x in zip(seen.rows, seen.streams, strict=True) if row.address[:5] != "tail."
    ]
    read = rows.through_the_tail(seen.model, before, seen.inputs)
    read += [read[-1]] * (len(seen.streams) - len(before))
    return [seen.flat(x) for x in read]
