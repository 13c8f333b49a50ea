"""`collect`: chosen sites of a model over a corpus, shard by shard, in any number of processes.

A shard is a stretch of the text, whoever runs it: its windows are batched, and its tokens drawn, by themselves. So the
folder is the same after one process or many, and after any number of kills. Process p of P takes every P-th shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from accelerate import PartialState

from abbie_lens.collecting import manifest, shard
from abbie_lens.collecting.choice import wanted_rows
from abbie_lens.collecting.collection import Collection
from abbie_lens.collecting.config import CollectConfig
from abbie_lens.collecting.gather import Gatherer
from abbie_lens.collecting.progress import CollectProgress, Meter, text_size
from abbie_lens.corpus import Window, cut_windows, read_documents
from abbie_lens.corpus.documents import local_files
from abbie_lens.errors import InputError
from abbie_lens.hooks.memory import site_elements

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

USUAL_WINDOW = 512
OnProgress = Callable[[CollectProgress], None]


def collect(
    model: HookedLoopedTransformer,
    config: CollectConfig,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Collection:
    """Run the model over the text and store the chosen sites; the collection in `config.out`.

    With `resume` a collection that was stopped goes on, whole shards kept. Under torchrun or accelerate launch every
    process takes its share, with its model on its own device. Memory does not grow with the text. Errors: InputError
    for a text that can't be read, values too large for `dtype`, a full disk; SiteError; ExistsError without `resume`.
    """
    if model.tokenizer is None:
        raise InputError("model: it has no tokenizer; collecting reads text.")
    n_iters = model.depth(config.n_iters)
    window = min(config.window or USUAL_WINDOW, model.cfg.n_ctx)
    if config.window is not None and config.window > model.cfg.n_ctx:
        raise InputError(f"window={config.window}: the model's context holds {model.cfg.n_ctx}.")
    rows = wanted_rows(model, config.sites, n_iters)
    token_bytes = config.share * sum(
        max(len(kept), 1) * site_elements(model.cfg, name, 1, 1) * config.torch_dtype.itemsize
        for name, kept in rows.items()
    )
    processes = PartialState(cpu=model.device.type == "cpu")
    begun = {
        "settings": {**config.settled(), "n_iters": n_iters, "window": window},
        "model": model.info().to_dict(),
        "text": _identity(config.data),
        "rows": rows,
        "complete": False,
    }
    if processes.is_main_process:
        manifest.begin(config.folder, begun, resume)
        shard.sweep(config.folder)
    processes.wait_for_everyone()

    whole = set(shard.finished(config.folder))
    meter = Meter(text_size(config.data), config.max_tokens, token_bytes)
    gather = Gatherer(model, config, rows, n_iters, window)
    was_training = model.training
    model.eval()
    n_shards = 0
    try:
        documents = meter.documents(read_documents(config.data))
        for number, windows in enumerate(
            _shards(cut_windows(documents, model.tokenizer, window), config, meter)
        ):
            n_shards = number + 1
            if number % processes.num_processes == processes.process_index and number not in whole:
                meter.work_begins()
                shard.write(config.folder, number, *gather(windows))
            if on_progress is not None:
                on_progress(meter())
    finally:
        model.train(was_training)
    processes.wait_for_everyone()
    if processes.is_main_process:
        totals = {
            "n_shards": n_shards,
            "n_tokens": meter.n_tokens,
            "n_documents": meter.n_documents,
        }
        manifest.write(config.folder, {**begun, "complete": True, **totals})
    processes.wait_for_everyone()
    return Collection.open(config.folder)


def _shards(
    windows: Iterable[Window], config: CollectConfig, meter: Meter
) -> Iterator[list[Window]]:
    """Windows by shard, until the text or `max_tokens` ends."""
    held: list[Window] = []
    size = 0
    for window in windows:
        held.append(window)
        size += len(window)
        meter.passed(window)
        ended = config.max_tokens is not None and meter.n_tokens >= config.max_tokens
        if ended or size >= config.shard_tokens:
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
