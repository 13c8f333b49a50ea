"""teach: a pretrained plain model learns to loop; its adapters alone are the result, measured before and after.

    RUN/start/      the source cut at the window, untrained      RUN/before.json   its held-out loss by depth
    RUN/training/   the run: checkpoints, curve, final model     RUN/after.json    the trained model's
    RUN/adapter/    what was learnt, to be put on the source again

Each part is made once, whole or not at all: run again after an interruption, `teach` goes on where it stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from abbie_lens.conversion.adapter import save_adapter
from abbie_lens.conversion.lesson import Lesson
from abbie_lens.corpus import read_documents
from abbie_lens.errors import ConfigError
from abbie_lens.files.layout import is_model_folder, read_config
from abbie_lens.files.load import load
from abbie_lens.files.plain_json import read_object, write_object
from abbie_lens.training.config import TrainConfig
from abbie_lens.training.evaluate import OnWindows, block_sums
from abbie_lens.training.progress import OnProgress
from abbie_lens.training.recipe import Recipe
from abbie_lens.training.run import train
from abbie_lens.training.tokenizer import load_tokenizer, tokenizer_hash
from abbie_lens.training.tokens import TokenFile, write_tokens

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

LESSON, START, TRAINING, ADAPTER = "lesson.json", "start", "training", "adapter"
BEFORE, AFTER = "before.json", "after.json"
SOURCES = "sources.json"
FREE = frozenset(("train_tokens",))
"""Settings that a resumed run may change, as long as the learning rate does not fall yet."""


def teach(
    lesson: Lesson,
    data: str,
    heldout: str,
    out: Path,
    *,
    tokens: Path | None = None,
    on_progress: OnProgress | None = None,
    on_windows: OnWindows | None = None,
) -> Path:
    """Train as `lesson` says on the text `data`, measure on `heldout`; returns `out`, which is resumed if it has begun.

    `tokens` is a folder for the encoded texts, which several runs may share; by default in `out`. Errors: ConfigError
    where `out` holds another lesson; those of `load`, `cut` and `train`.
    """
    out.mkdir(parents=True, exist_ok=True)
    _claim(lesson, out)
    start = out / START
    if not is_model_folder(start):
        make(lesson).save_pretrained(start)
    texts = _encode(out / "data" if tokens is None else tokens, start, data, heldout)
    _measure(lesson, out / BEFORE, start, texts["heldout"], on_windows)
    final = train(_config(lesson, out, texts), on_progress)
    _measure(lesson, out / AFTER, final, texts["heldout"], on_windows)
    if lesson.train == "adapters" and not (out / ADAPTER).exists():
        save_adapter(load(final, device="cpu"), lesson, out / ADAPTER)
    return out


def make(lesson: Lesson) -> HookedLoopedTransformer:
    """The lesson's untrained model, its windows' length its context. Errors: InputError for blocks that are not there."""
    return lesson.looped(load(lesson.source, device="cpu"))


def _claim(lesson: Lesson, out: Path) -> None:
    file = out / LESSON
    if file.is_file():
        before = Lesson.from_dict(read_object(file)).to_dict()
        for name, value in lesson.to_dict().items():
            if name not in FREE and before[name] != value:
                raise ConfigError(
                    f"{name}={value!r}: {out} was begun with {before[name]!r}; resume it so, or name another folder."
                )
    write_object(file, lesson.to_dict())


def _encode(folder: Path, start: Path, data: str, heldout: str) -> dict[str, Path]:
    """Token files of both texts. Errors: ConfigError where the folder has those of other texts or another tokenizer."""
    tokenizer, file = load_tokenizer(start), folder / SOURCES
    sources = {"train": data, "heldout": heldout, "tokenizer": tokenizer_hash(tokenizer)}
    before = read_object(file) if file.is_file() else sources
    for name, source in sources.items():
        if before.get(name) != source:
            raise ConfigError(
                f"{name}={source!r}: {folder} has the tokens of {before.get(name)!r}; name another folder."
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_object(file, sources)
    made = {name: folder / f"{name}.bin" for name in ("train", "heldout")}
    for name, path in made.items():
        if not path.with_suffix(".json").is_file():
            write_tokens(read_documents(sources[name]), tokenizer, path)
    return made


def _config(lesson: Lesson, out: Path, texts: dict[str, Path]) -> TrainConfig:
    folder = out / TRAINING
    return TrainConfig(
        model=read_config(out / START)[0].to_dict(),
        out=str(folder),
        data=str(texts["train"]),
        heldout=str(texts["heldout"]),
        init_from=str(out / START),
        recipe={"stage": lesson.train},
        train_tokens=lesson.train_tokens,
        batch_size=lesson.batch_size,
        micro_batch_size=lesson.micro_batch_size,
        learning_rate=lesson.learning_rate,
        weight_decay=0.0,
        warmup_steps=lesson.warmup_steps,
        precision=lesson.precision,
        seed=lesson.seed,
        log_every=5,
        eval_every=50,
        checkpoint_every=25,
        eval_n_iters=(lesson.depth,),
        eval_windows=14,
        # `_measure` keeps the sums that differences need; the run's own is a glance.
        final_n_iters=(lesson.depth,),
        final_windows=14,
        resume=(folder / "config.json").is_file(),
    )


def _measure(
    lesson: Lesson, file: Path, folder: Path, text: Path, on_windows: OnWindows | None
) -> None:
    """Write the held-out sums of NLL, from which means and differences are drawn."""
    if file.is_file():
        return
    model = load(folder, device="cpu")
    total, count, document = block_sums(
        model,
        TokenFile.open(text),
        lesson.depths,
        max_windows=lesson.measured_windows,
        batch_size=lesson.micro_batch_size,
        progress=on_windows,
    )
    sums = {"total": total.tolist(), "count": count.tolist(), "document": document.tolist()}
    parts = Recipe(stage=lesson.train).trained_parts(model.cfg.loop)
    trained = sum(p.numel() for n, p in model.named_parameters() if n.startswith(parts))
    write_object(file, {"n_iters": list(lesson.depths), **sums, "trained_parameters": trained})
