"""Training a tuned lens: A_k and b_k of every row, from zero, to give the model's own final prediction (ANALYSES 4).

The loss of a row is KL(p_r ‖ softmax(U N(x + A x + b))), the mean over tokens. Rows share nothing, so each is as if trained
alone. Whole documents are held out; every so many steps the loss there is taken, and a row keeps the matrices with the
least, zero among them: a row that learnt nothing of use is the logit lens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from abbie_lens.corpus import Window
from abbie_lens.errors import InputError
from abbie_lens.halting import measures
from probes import decoding
from probes.lenses import divergence, rows
from probes.lenses.adam import Adam
from probes.lenses.divergence import Seen, mean_kl
from probes.lenses.texts import Data, Texts, named, windows_of
from probes.lenses.tuned_lens import TunedLens, translated
from probes.lenses.unfinished import Unfinished
from probes.progress import Callback, Progress

_WARM_UP = 10


@dataclass(frozen=True)
class TunedConfig:
    """How a tuned lens is trained."""

    n_iters: int = 16
    """r: rows 0…r are trained towards the prediction at r."""
    blocks: rows.Blocks = False
    steps: int = 250
    batch_size: int = 2
    """Windows a step."""
    window: int | None = None
    """Tokens read at once; None: the context, at most 512."""
    learning_rate: float = 1e-3
    """Of Adam, after 10 steps of warm-up falling linearly to 0."""
    held_out_tokens: int = 4096
    check_every: int = 50
    """Steps between two looks at the held-out documents; progress is kept then."""
    seed: int = 0

    def __post_init__(self) -> None:
        rows.check(self.blocks)
        for name in ("n_iters", "steps", "batch_size", "held_out_tokens", "check_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}={value!r}: expected an integer >= 1.")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate={self.learning_rate!r}: expected a number > 0.")


def train_tuned(
    model: Any,
    data: Data,
    config: TunedConfig | None = None,
    *,
    out: Path | None = None,
    resume: bool = False,
    progress: Callback | None = None,
) -> TunedLens:
    """Train a tuned lens on `data`: a file, glob or hf: source, or documents. Metrics: held-out KL by row and lens.

    out: the folder that is to hold it; a run that was stopped goes on there with `resume`, as if it had not been.
    Errors: InputError for fewer than two documents or blocks without rows of their own; ExistsError, CheckpointError
    for `out`; Cancelled.
    """
    config = config or TunedConfig()
    said = {**asdict(config), "data": named(data)}
    kept = Unfinished(out, {"settings": said, "weights": model.info().weight_hash}, resume)
    texts = Texts(model, data, config.window, config.seed)
    held_out = texts.held_out(config.held_out_tokens)

    def judged(lens: TunedLens) -> Tensor:
        return torch.tensor(kl_by_row(model, held_out, lens, config.batch_size, only=True)["tuned"])

    run = _Run.again(model, config.n_iters, kept.load())
    if run is None:
        seen = Seen(model, next(texts.batches(config.batch_size)), config.n_iters, config.blocks)
        addresses = [row.address for row in seen.rows]
        lens = TunedLens.zero(model, config.n_iters, addresses, _sizes(seen))
        run = _Run(lens, lens, judged(lens), Adam((lens.matrices, lens.biases)))
    batches = texts.batches(config.batch_size, skip=run.adam.step)
    steps = Progress(config.steps, progress)
    steps.step(run.adam.step)
    while run.adam.step < config.steps:
        seen = Seen(model, next(batches), config.n_iters, config.blocks)
        gradients = _gradients(model, seen, run.lens)
        values = (run.lens.matrices, run.lens.biases)
        matrices, biases = run.adam(values, gradients, _rate(config, run.adam.step))
        run.lens = replace(run.lens, matrices=matrices, biases=biases)
        run.n_tokens += len(seen.last)
        if run.adam.step % config.check_every == 0 or run.adam.step == config.steps:
            run.keep_the_better(judged(run.lens))
            kept.save(*run.tensors_and_facts(), run.adam.step)
        steps.step()
    measured = _metrics(model, held_out, run.best, config.batch_size)
    lens = replace(
        run.best, settings={**said, "n_tokens": run.n_tokens}, metrics={"held_out": measured}
    )
    if out is not None:
        lens.save(out)
        kept.drop()
    return lens


def measure_tuned(
    model: Any, lens: TunedLens, data: Data, at_most: int, batch_size: int = 4
) -> dict[str, Any]:
    """KL by row and lens on another text: its first documents, each up to an equal share of `at_most` tokens."""
    windows = windows_of(model, data, lens.settings.get("window"), at_most)
    return {"data": named(data)} | _metrics(model, windows, lens, batch_size)


def kl_by_row(
    model: Any, windows: list[Window], lens: TunedLens, batch_size: int, *, only: bool = False
) -> dict[str, list[float]]:
    """Mean KL(p_r ‖ p_row) in nats, [row]: of this lens and, unless `only` it, of logit and tail lens."""
    readers: dict[str, Callable[[Seen], Any]] = {
        "tuned": lambda seen: [
            lens.apply(row.address, x) for row, x in zip(seen.rows, seen.x, strict=True)
        ]
    }
    if not only:
        readers |= {"logit": divergence.by_logit, "tail": divergence.by_tail}
    return mean_kl(model, windows, lens.n_iters, lens.blocks, batch_size, readers)


@dataclass
class _Run:
    """A training between two steps."""

    lens: TunedLens
    best: TunedLens
    best_kl: Tensor
    adam: Adam
    n_tokens: int = 0

    def keep_the_better(self, kl: Tensor) -> None:
        """Of every row the matrices with the least held-out KL so far."""
        better = kl < self.best_kl
        self.best_kl = torch.where(better, kl, self.best_kl)
        where = better.to(self.lens.matrices.device)
        self.best = replace(
            self.best,
            matrices=torch.where(where[:, None, None], self.lens.matrices, self.best.matrices),
            biases=torch.where(where[:, None], self.lens.biases, self.best.biases),
        )

    def tensors_and_facts(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"moment.{i}": m for i, m in enumerate(self.adam.moments)}
        tensors["best_kl"] = self.best_kl
        for name, lens in (("lens", self.lens), ("best", self.best)):
            tensors |= {f"{name}.{field}": getattr(lens, field) for field in TunedLens.tensors}
        facts = {"step": self.adam.step, "n_tokens": self.n_tokens}
        return tensors, facts | {"addresses": list(self.lens.addresses)}

    @classmethod
    def again(cls, model: Any, n_iters: int, kept: Any) -> _Run | None:
        if kept is None:
            return None
        tensors, facts = kept
        zero = TunedLens.zero(model, n_iters, facts["addresses"])
        lens, best = (
            replace(zero, **{f: tensors[f"{name}.{f}"].to(model.device) for f in TunedLens.tensors})
            for name in ("lens", "best")
        )
        adam = Adam((lens.matrices, lens.biases), facts["step"])
        adam.moments = [tensors[f"moment.{i}"].to(model.device) for i in range(4)]
        return cls(lens, best, tensors["best_kl"], adam, facts["n_tokens"])


def _gradients(model: Any, seen: Seen, lens: TunedLens) -> tuple[Tensor, Tensor]:
    """Of the mean loss, to matrices and biases; 0 for a row in which the stream is not finite."""
    total = torch.zeros_like(lens.matrices), torch.zeros_like(lens.biases)
    for part, log_r in seen.parts():
        p = log_r.exp_()
        for i, x in enumerate(seen.x):
            leaves = [t[i].detach().requires_grad_() for t in (lens.matrices, lens.biases)]
            with torch.enable_grad():
                read = translated(x[part], leaves[0], leaves[1], lens.scales[i])
                logits = decoding.logits_of(model, read)
            # The derivative of KL(p ‖ softmax(logits)) to the logits: nothing else of it need be recorded.
            slope = (logits.detach().float().softmax(-1) - p).div_(len(seen.last)).to(logits.dtype)
            for into, gradient in zip(
                total, torch.autograd.grad(logits, leaves, slope), strict=True
            ):
                into[i] += gradient.nan_to_num(0.0, 0.0, 0.0)
    return total


def _rate(config: TunedConfig, step: int) -> float:
    return config.learning_rate * min(1.0, (step + 1) / _WARM_UP) * (1 - step / config.steps)


def _metrics(model: Any, windows: list[Window], lens: TunedLens, batch_size: int) -> dict[str, Any]:
    return {
        "what": "mean KL(p_r ‖ p_row) in nats over tokens of documents that were not trained on, by row",
        "n_tokens": sum(map(len, windows)),
        "n_documents": len({window.document for window in windows}),
        "kl": kl_by_row(model, windows, lens, batch_size),
    }


def _sizes(seen: Seen) -> Tensor:
    """[row] root mean square of the stream's finite entries; 1 where there are none or all are 0."""
    squares = [measures.wide(x).square() for x in seen.x]
    means = torch.stack([s[s.isfinite()].mean().sqrt().float() for s in squares])
    return torch.where(means.isfinite() & (means > 0), means, torch.ones_like(means))
