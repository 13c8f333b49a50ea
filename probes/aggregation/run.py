"""`aggregate`: an analysis of every window of a text, folded stretch by stretch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from abbie_lens.collecting.stretches import OnProgress, Stretches
from abbie_lens.corpus import Window, window_size
from abbie_lens.files.plain_json import read_object, write_object
from probes.aggregation import part
from probes.aggregation.config import AggregateConfig
from probes.aggregation.fold import Analyse, Fold
from probes.aggregation.part import Part
from probes.aggregation.result import CorpusAnalysis, conclude
from probes.control import fresh_weights

if TYPE_CHECKING:
    from abbie_lens.info import ModelInfo

ROWS = "rows.json"


def aggregate(
    model: Any,
    config: AggregateConfig,
    analyse: Analyse,
    *,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> CorpusAnalysis:
    """Run `analyse` on every window of the text and fold its `per_token()` values; the result, also in `config.out`.

    All variants see the same windows. A run that was stopped goes on with `resume`; under torchrun every process takes
    its share. Memory grows with the number of documents alone, by two sums a metric and iteration. Errors: InputError
    for a text that can't be read, or a result without values by token; ExistsError without `resume`.
    """
    window = window_size(model, config.window)
    fold = Fold(_variants(model, config), config, analyse, window)
    name = name_of(analyse)
    begun = {
        "settings": {**config.settled(), "window": window},
        "model": model.info().to_dict(),
        "analysis": {"name": name, **getattr(analyse, "keywords", {})},
    }

    def work(number: int, windows: list[Window]) -> None:
        made, rows = fold(windows)
        write_object(config.folder / ROWS, rows)
        made.save(part.path(config.folder, number))

    Stretches(
        config.folder, config.data, window, config.stretch_tokens, config.max_tokens, 0.0,
        part.done, part.sweep,
    ).run(
        model.tokenizer, begun, work, cpu=model.device.type == "cpu", resume=resume,
        on_progress=on_progress, finish=lambda: close(config, model.info(), name),
    )  # fmt: skip
    return CorpusAnalysis.read(config.folder)


def name_of(analyse: Analyse) -> str:
    """The function's own."""
    return getattr(getattr(analyse, "func", analyse), "__name__", type(analyse).__name__)


def close(config: AggregateConfig, info: ModelInfo, analysis: str) -> None:
    """Write the result of all parts in the folder."""
    total = part.merged(Part.load(part.path(config.folder, n)) for n in part.done(config.folder))
    rows = read_object(config.folder / ROWS)
    conclude(total, rows, info, analysis, config).write(config.folder)


def _variants(model: Any, config: AggregateConfig) -> dict[str, Any]:
    made = {"trained": model, "shuffled": model}
    if "random" in config.variants:
        made["random"] = fresh_weights(model, config.seed)
    return {name: made[name] for name in config.variants}
