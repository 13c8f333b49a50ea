"""`collect`: chosen sites of a model over a corpus, in shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abbie_lens.collecting import shard
from abbie_lens.collecting.choice import wanted_rows
from abbie_lens.collecting.collection import Collection
from abbie_lens.collecting.config import CollectConfig
from abbie_lens.collecting.gather import Gatherer
from abbie_lens.collecting.stretches import OnProgress, Stretches
from abbie_lens.corpus import window_size
from abbie_lens.hooks.memory import site_elements

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


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
    n_iters = model.depth(config.n_iters)
    window = window_size(model, config.window)
    rows = wanted_rows(model, config.sites, n_iters)
    token_bytes = config.share * sum(
        max(len(kept), 1) * site_elements(model.cfg, name, 1, 1) * config.torch_dtype.itemsize
        for name, kept in rows.items()
    )
    begun = {
        "settings": {**config.settled(), "n_iters": n_iters, "window": window},
        "model": model.info().to_dict(),
        "rows": rows,
    }
    gather = Gatherer(model, config, rows, n_iters, window)
    was_training = model.training
    model.eval()
    try:
        Stretches(
            config.folder, config.data, window, config.shard_tokens, config.max_tokens, token_bytes,
            shard.finished, shard.sweep,
        ).run(
            model.tokenizer, begun,
            lambda number, windows: shard.write(config.folder, number, *gather(windows)),
            cpu=model.device.type == "cpu", resume=resume, on_progress=on_progress,
        )  # fmt: skip
    finally:
        model.train(was_training)
    return Collection.open(config.folder)
