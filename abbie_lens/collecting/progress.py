"""How far a collection is."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from abbie_lens.corpus import Window
from abbie_lens.corpus.documents import local_files


@dataclass(frozen=True)
class CollectProgress:
    """Where a collection stands; with several processes each tells of the whole text that it has passed."""

    n_tokens: int
    """Passed so far, whether run by this process, by another or before."""
    share: float
    """Of the text; NaN where its length isn't known (compressed files, the hub, no `max_tokens`)."""
    tokens_per_second: float
    """Passed since this run began its work."""
    eta_seconds: float
    """NaN where `share` is."""
    bytes_forecast: float
    """Of all values when the text is done; NaN where `share` is."""


class Meter:
    """Counts tokens and text. `size`: bytes of the text; `token_bytes`: of the values of a token, on average."""

    def __init__(self, size: int | None, max_tokens: int | None, token_bytes: float) -> None:
        self.size, self.max_tokens, self.token_bytes = size, max_tokens, token_bytes
        self.n_tokens = self.n_documents = self.before = self.document_bytes = 0
        self.characters = self.here = 0
        self._start: tuple[float, int] | None = None

    def documents(self, documents: Iterable[str]) -> Iterator[str]:
        """The documents, counted as they pass."""
        for document in documents:
            self.before += self.document_bytes
            self.document_bytes, self.characters, self.here = (
                len(document.encode()),
                len(document),
                0,
            )
            self.n_documents += 1
            yield document

    def passed(self, window: Window) -> None:
        """One more window."""
        self.n_tokens += len(window)
        self.here = int(window.spans[-1, 1])

    def work_begins(self) -> None:
        """From now on speed is counted: what was collected before is passed over fast."""
        if self._start is None:
            self._start = time.monotonic(), self.n_tokens

    def __call__(self) -> CollectProgress:
        """Where it stands now."""
        read = self.before + self.document_bytes * self.here / max(self.characters, 1)
        shares = [] if self.size is None else [read / self.size]
        if self.max_tokens is not None:
            shares.append(self.n_tokens / self.max_tokens)
        share = min(max(shares, default=math.nan), 1.0)
        began, first = self._start or (time.monotonic(), self.n_tokens)
        speed = (self.n_tokens - first) / max(time.monotonic() - began, 1e-9)
        total = self.n_tokens / share if share > 0 else math.nan
        eta = (total - self.n_tokens) / speed if speed > 0 else math.nan
        return CollectProgress(self.n_tokens, share, speed, eta, total * self.token_bytes)


def text_size(source: str) -> int | None:
    """Bytes of plain local files; None for compressed ones and the hub."""
    if source.startswith("hf:"):
        return None
    files = local_files(source)
    if any(path.suffix in (".gz", ".xz") for path in files):
        return None
    return sum(path.stat().st_size for path in files)
