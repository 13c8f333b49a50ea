"""The document of finished retrofits, written from what their runs measured and stored: no figure is typed by hand."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abbie_lens.conversion.lesson import Lesson
from abbie_lens.conversion.teach import AFTER, BEFORE, LESSON
from abbie_lens.errors import InputError
from abbie_lens.files.plain_json import read_object
from abbie_lens.training.evaluate import bootstrap_means

CONFIDENCE = 0.95
N_BOOTSTRAP = 4000


@dataclass(frozen=True)
class Run:
    """One finished run: its settings and sums of held-out NLL."""

    name: str
    lesson: Lesson
    trained_parameters: int
    depths: tuple[int, ...]
    """That were measured."""
    before: np.ndarray
    after: np.ndarray
    """[block, depth] sums of NLL."""
    count: np.ndarray
    document: np.ndarray
    """[block] tokens, and which document they are of."""

    def column(self, when: str, r: int) -> np.ndarray:
        """[block] sums at depth r, `before` or `after` training."""
        if r not in self.depths:
            raise InputError(f"{self.name}: r = {r} was not measured, only {self.depths}.")
        return getattr(self, when)[:, self.depths.index(r)]


def read_runs(folder: Path) -> list[Run]:
    """The finished runs that `folder` holds, one a folder, the controls last.

    Errors: InputError where there is none to compare, or they were measured on different text.
    """
    found = [entry.parent for entry in sorted(folder.glob(f"*/{AFTER}"))]
    runs = [_read(each) for each in found]
    if not any(not run.lesson.control for run in runs):
        raise InputError(f"{folder}: holds no finished retrofit; expected folders with {AFTER}.")
    for run in runs[1:]:
        for name in ("count", "document"):
            if not np.array_equal(getattr(run, name), getattr(runs[0], name)):
                raise InputError(f"{run.name}: measured on other windows than {runs[0].name}.")
        for name in ("source", "start", "stop"):
            if getattr(run.lesson, name) != getattr(runs[0].lesson, name):
                raise InputError(
                    f"{run.name}: another {name} than {runs[0].name}'s; report them apart."
                )
    return sorted(runs, key=lambda run: run.lesson.control)


def _read(folder: Path) -> Run:
    lesson = Lesson.from_dict(read_object(folder / LESSON))
    before, after = read_object(folder / BEFORE), read_object(folder / AFTER)
    return Run(
        folder.name,
        lesson,
        after["trained_parameters"],
        tuple(after["n_iters"]),
        np.array(before["total"]),
        np.array(after["total"]),
        np.array(after["count"]),
        np.array(after["document"]),
    )


def write_report(folder: Path, file: Path) -> Path:
    """Write the document of the runs in `folder`, and beside it, in a folder of its name, the numbers it is made of.

    Errors: as `read_runs`.
    """
    runs = read_runs(folder)
    for run in runs:
        kept = file.with_suffix("") / run.name
        if kept.resolve() == (folder / run.name).resolve():
            continue  # written again from what was kept
        kept.mkdir(parents=True, exist_ok=True)
        for name in (LESSON, BEFORE, AFTER):
            shutil.copyfile(folder / run.name / name, kept / name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document(runs), "utf-8")
    return file


def document(runs: list[Run]) -> str:
    """Markdown: settings, held-out NLL by depth, the differences that answer the question, and the answer."""
    first = runs[0]
    n_documents = len(np.unique(first.document))
    return f"""# Teaching {Path(first.lesson.source).name} to loop

Written by `abbie-lens retrofit RUNS --report FILE` from the runs' own numbers, which are in the folder beside this file.
Blocks {first.lesson.start} to {first.lesson.stop - 1} are the Body. Losses are nats a token on {int(first.count.sum()):,} held-out tokens of
{n_documents} documents, evenly spaced; {100 * CONFIDENCE:g} % intervals by block bootstrap over documents, differences paired.
With adapters r = 1 stays the source, as it was. A control trains the same weights on the same text at r = 1: what is left
against it is the loop's.

## Runs

{_settings(runs)}

## Held-out loss by depth

{_losses(runs)}

## Differences

{_differences(runs)}

## What it says

{_answers(runs)}
"""


def _settings(runs: list[Run]) -> str:
    lines = [
        "| run | rule | trained | parameters | at r | tokens | learning rate | batch | precision |",
        "|---|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for run in runs:
        c = run.lesson
        what = f"adapters of rank {c.rank}" if c.train == "adapters" else "the Body"
        lines.append(
            f"| {run.name} | {'none' if c.control else c.loop} | {what} | {run.trained_parameters:,} | {c.depth} "
            f"| {c.train_tokens:,} | {c.learning_rate:g} | {c.batch_size} x {c.n_ctx} | {c.precision} |"
        )
    return "\n".join(lines)


def _interval(run: Run, sums: np.ndarray) -> tuple[float, float, float]:
    """Mean a token and its bounds, of [block] sums."""
    draws = bootstrap_means(sums[:, None], run.count, run.document, N_BOOTSTRAP, 0)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(sums.sum() / run.count.sum()), float(low), float(high)


def _losses(runs: list[Run]) -> str:
    lines = ["| run | r | before | interval | after | interval |", "|---|--:|--:|:-:|--:|:-:|"]
    for run in runs:
        for r in run.depths:
            cells = []
            for when in ("before", "after"):
                mean, low, high = _interval(run, run.column(when, r))
                cells.append(f"{mean:.3f} | {low:.3f} – {high:.3f}")
            lines.append(f"| {run.name} | {r} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _questions(runs: list[Run]) -> list[tuple[str, Run, np.ndarray]]:
    """What is compared, in words, and the difference's sums [block]."""
    controls = [run for run in runs if run.lesson.control]
    asked = []
    for run in runs:
        source = run.column("before", 1)
        if run.lesson.control:
            asked.append((f"{run.name} − source", run, run.column("after", 1) - source))
            continue
        r = run.lesson.n_iters
        trained = run.column("after", r)
        asked.append(
            (f"{run.name}, r = {r}: after − before", run, trained - run.column("before", r))
        )
        asked.append((f"{run.name}: r = {r} − r = 1", run, trained - run.column("after", 1)))
        if run.lesson.train == "body":  # with adapters r = 1 is the source
            asked.append((f"{run.name}, r = {r} − source", run, trained - source))
        for control in controls:
            difference = trained - control.column("after", 1)
            asked.append((f"{run.name}, r = {r} − {control.name}", run, difference))
    return asked


def _differences(runs: list[Run]) -> str:
    lines = ["| difference | nats | interval |", "|---|--:|:-:|"]
    for words, run, sums in _questions(runs):
        mean, low, high = _interval(run, sums)
        lines.append(f"| {words} | {mean:+.3f} | {low:+.3f} – {high:+.3f} |")
    return "\n".join(lines)


def _answers(runs: list[Run]) -> str:
    lines = []
    for words, run, sums in _questions(runs):
        if run.lesson.control or ": after" in words:
            continue
        _, low, high = _interval(run, sums)
        said = "lower" if high < 0 else "higher" if low > 0 else "not told apart"
        lines.append(f"* {words}: **{said}**.")
    if not any(run.lesson.control for run in runs):
        lines.append("* Without a control, a gain may be the text's and not the loop's.")
    return "\n".join(lines)
