"""Work on a text stretch by stretch, in any number of processes, resumable after any kill.

A stretch is windows of the text that are worked on together, whoever does it; what is made of it depends on nothing
else. So the folder is the same after one process or many, and after any number of kills. Process p of P takes every
P-th stretch. A stretch is done when its file is there, which is written last and appears whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedTokenizerFast

from abbie_lens.collecting import manifest
from abbie_lens.collecting.progress import CollectProgress, Meter, text_size
from abbie_lens.corpus import Window, cut_windows, read_documents
from abbie_lens.corpus.documents import local_files

OnProgress = Callable[[CollectProgress], None]


@dataclass(frozen=True)
class Stretches:
    """A text to be worked on, and the folder that the work goes to."""

    folder: Path
    data: str
    window: int
    """Tokens of a window, with the one that begins it."""
    stretch_tokens: int
    """Up to a window more."""
    max_tokens: int | None
    token_bytes: float
    """That are written for a token, for the forecast."""
    done: Callable[[Path], Iterable[int]]
    """Numbers of the stretches that are done in a folder."""
    sweep: Callable[[Path], object]
    """Drop what a killed run left half-written in a folder."""

    def run(
        self,
        tokenizer: PreTrainedTokenizerFast,
        begun: dict[str, Any],
        work: Callable[[int, list[Window]], object],
        *,
        cpu: bool,
        resume: bool,
        on_progress: OnProgress | None = None,
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        """Call `work(number, windows)` for every stretch that is not done; then the main process `finish`es.

        `begun` is what a resumed run must find again, in the manifest. Errors: as `manifest.begin`; InputError for a
        text that can't be read.
        """
        processes = PartialState(cpu=cpu)
        begun = {**begun, "text": _identity(self.data)}
        if processes.is_main_process:
            manifest.begin(self.folder, {**begun, "complete": False}, resume)
            self.sweep(self.folder)
        processes.wait_for_everyone()
        done = set(self.done(self.folder))
        meter = Meter(text_size(self.data), self.max_tokens, self.token_bytes)
        windows = cut_windows(meter.documents(read_documents(self.data)), tokenizer, self.window)
        n = 0
        for number, stretch in enumerate(self._cut(windows, meter)):
            n = number + 1
            mine = number % processes.num_processes == processes.process_index
            if mine and number not in done:
                meter.work_begins()
                work(number, stretch)
            if on_progress is not None:
                on_progress(meter())
        processes.wait_for_everyone()
        if processes.is_main_process:
            finish()
            totals = {"n_shards": n, "n_tokens": meter.n_tokens, "n_documents": meter.n_documents}
            manifest.write(self.folder, {**begun, "complete": True, **totals})
        processes.wait_for_everyone()

    def _cut(self, windows: Iterable[Window], meter: Meter) -> Iterator[list[Window]]:
        """Windows by stretch, until the text or `max_tokens` ends."""
        held: list[Window] = []
        size = 0
        for window in windows:
            held.append(window)
            size += len(window)
            meter.passed(window)
            ended = self.max_tokens is not None and meter.n_tokens >= self.max_tokens
            if ended or size >= self.stretch_tokens:
                yield held
                held, size = [], 0
            if ended:
                return
        if held:
            yield held


def _identity(source: str) -> dict[str, Any]:
    """Names and sizes of local files; the hub's own name of a set."""
    if source.startswith("hf:"):
        return {"source": source}
    return {path.name: path.stat().st_size for path in local_files(source)}
