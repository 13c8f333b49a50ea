"""`study`: halting rules judged over a corpus, stretch by stretch, from one deep run of every window.

Shards keep each rule's value by token and iteration (`shards`); thresholds are chosen on a sample of them, and what they do is
summed over all, one shard in memory at a time (`sums`). So neither memory nor the result depends on kills or processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from abbie_lens import halting as rules_module
from abbie_lens import tasks
from abbie_lens.collecting.stretches import OnProgress, Stretches
from abbie_lens.corpus import Window, cut_windows, padded, read_documents, window_size
from abbie_lens.errors import InputError
from abbie_lens.halting import HaltingPolicy
from abbie_lens.tasks.base import Task
from probes.early_exit import costs, live_points, shards, thresholds
from probes.early_exit.answers import counted
from probes.early_exit.conclude import Gathered, conclude
from probes.early_exit.shards import Tokens
from probes.early_exit.study_config import StudyConfig
from probes.early_exit.study_result import ORACLE, HaltingStudy
from probes.early_exit.sums import Ranks, Sums, binned, covariates, edges_of
from probes.early_exit.watch import named
from probes.inputs import prepare
from probes.labels import get_label

ORACLE_RULE: dict[str, Any] = {
    "name": ORACLE, "title": "Oracle", "formula": "argmin_k NLL_k + τ k", "unit": "nats an iteration",
    "stops": "below", "threshold": 0.0, "min_iters": 0, "max_iters": None,
}  # fmt: skip


def study(
    model: Any,
    config: StudyConfig,
    *,
    rules: Sequence[str | HaltingPolicy] | None = None,
    timed: bool = False,
    kv: str = "reuse",
    task: Task | None = None,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> HaltingStudy:
    """Judge `rules` (None: all that say something of the model) on the text; the result, also in `config.out`.

    timed: run every point live with the keys rule `kv`, on the first windows, for milliseconds and NLL of the same runs.
    task: what `config.counted="answers"` takes the answers from. A study that was stopped goes on with `resume`; under torchrun every process takes its share. Errors: InputError for a text that can't be read or an
    unknown rule; ExistsError without `resume`; DepthError.
    """
    if rules is None:
        rules = [name for name in rules_module.rules_for(model) if name != "fixed_k"]
    policies = named(rules)
    window = window_size(model, config.window)
    replay = shards.Replayer(
        model,
        policies,
        config.n_iters,
        config.batch_size * window,
        config.label,
        config.seed,
        counted(config.counted, task),
    )
    begun = {
        "settings": {**config.settled(), "window": window},
        "task": {} if task is None or config.counted == "all" else tasks.encode(task),
        "model": model.info().to_dict(),
        "rules": [policy.describe() for policy in policies],
    }
    folder = config.folder

    def work(number: int, windows: list[Window]) -> None:
        replay(windows).save(shards.path(folder, number))

    def finish() -> None:
        _judge(model, policies, config, window, timed, kv).write(folder)

    Stretches(
        folder, config.data, window, config.stretch_tokens, config.max_tokens, 0.0,
        shards.done, shards.sweep,
    ).run(
        model.tokenizer, begun, work, cpu=model.device.type == "cpu", resume=resume,
        on_progress=on_progress, finish=finish,
    )  # fmt: skip
    return HaltingStudy.read(folder)


def tokens_of(folder: Path) -> Iterator[Tokens]:
    """The shards of a study, tokens whose NLL is undefined left out. Errors: CheckpointError for a damaged one."""
    for number in shards.done(folder):
        tokens = Tokens.load(shards.path(folder, number))
        yield tokens.take(tokens.defined)


def _judge(
    model: Any, policies: list[HaltingPolicy], config: StudyConfig, window: int, timed: bool, kv: str
) -> HaltingStudy:  # fmt: skip
    folder, r = config.folder, config.n_iters
    sample, ids, n_all = _first_pass(folder, config.sample)
    if not len(sample):
        raise InputError(f"data={config.data!r}: no token has a defined NLL at every iteration.")
    described = tuple(policy.describe() for policy in policies)
    levels = _levels(described, sample, config.targets)
    n_rules, n_points = levels.shape
    edges = edges_of(covariates(sample, ids))
    counts = tuple(np.zeros(len(e) + 1) for e in edges)
    for tokens in tokens_of(folder):
        for row, e, count in zip(covariates(tokens, ids), edges, counts, strict=True):
            count += np.bincount(binned(row, e), minlength=len(count))
    ranks_of = Ranks.of(edges, counts)
    classes = (*get_label(config.label).classes, "other")
    sums = Sums(levels.size, r, len(classes))
    documents: set[int] = set()
    for tokens in tokens_of(folder):
        ranks = ranks_of(covariates(tokens, ids))
        documents.update(np.unique(tokens.document).tolist())
        sums.add_tokens(tokens, ranks)
        for i in range(n_rules):
            for j in range(n_points):
                steps = _steps(described, i, tokens, float(levels[i, j]))
                sums.add(i * n_points + j, steps, tokens, ranks)
    fixed_flops, flops = costs.flops_by_exit(model, policies, r, window)
    live = live_points.nothing(levels.shape, r)
    if timed:
        windows = cut_windows(read_documents(config.data), model.tokenizer, window)
        first = [w for w, _ in zip(windows, range(config.batch_size), strict=False)]
        tokens, mask, _ = padded(first, model.tokenizer)
        inputs = prepare(
            model, tokens.to(model.device), r, None if mask is None else mask.to(model.device)
        )
        live = live_points.measure(model, inputs, policies, levels, kv)
    gathered = Gathered(
        sums=sums, rules=(*described, ORACLE_RULE), thresholds=levels, classes=classes,
        fixed_flops=fixed_flops, flops=np.concatenate([flops, fixed_flops[None]]),
        live=live,
        n_undefined=n_all - int(sums.fixed[0, :, 0].sum()), n_documents=len(documents),
    )  # fmt: skip
    return conclude(gathered, model.info(), config)


def _first_pass(folder: Path, size: int) -> tuple[Tokens, np.ndarray, int]:
    """A uniform sample, how often every token id occurs, and how many tokens were replayed."""
    held: Tokens | None = None
    ids = np.zeros(0, np.int64)
    n_all = 0
    for number in shards.done(folder):
        tokens = Tokens.load(shards.path(folder, number))
        n_all += len(tokens)
        tokens = tokens.take(tokens.defined)
        more = np.bincount(tokens.ids, minlength=len(ids))
        more[: len(ids)] += ids
        ids = more
        both = tokens if held is None else Tokens.joined([held, tokens])
        held = both.take(np.argsort(both.draws, kind="stable")[:size])
    if held is None:
        raise InputError("no token has a next one in its window.")
    return held, ids, n_all


def _levels(
    rules: tuple[dict[str, Any], ...], sample: Tokens, targets: Sequence[float]
) -> np.ndarray:
    """[rule and oracle, 1 + target] thresholds: the rule's own, and those of target mean depths."""
    rows = [
        [rule["threshold"], *(thresholds.at_depth(rule, values, t) for t in targets)]
        for rule, values in zip(rules, sample.values, strict=True)
    ]
    return np.array([*rows, [0.0, *(_price(sample.nll, t) for t in targets)]])


def _price(nll: np.ndarray, depth: float) -> float:
    """τ at which the oracle's mean depth on nll [k, token] is closest to `depth`; depth falls as τ rises."""
    low, high = 0.0, float(nll.max() - nll.min()) + 1
    for _ in range(40):
        middle = (low + high) / 2
        if _oracle(nll, middle).mean() > depth:
            low = middle
        else:
            high = middle
    return high


def _oracle(nll: np.ndarray, price: float) -> np.ndarray:
    return (nll + price * np.arange(len(nll))[:, None]).argmin(0)


def _steps(
    rules: tuple[dict[str, Any], ...], i: int, tokens: Tokens, threshold: float
) -> np.ndarray:
    if i == len(rules):
        return _oracle(tokens.nll, threshold)
    return thresholds.exit_steps(rules[i], tokens.values[i], threshold)
