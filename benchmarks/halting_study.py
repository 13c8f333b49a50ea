"""`python -m benchmarks.halting_study --novels FILE`: what learned gates save and where, into docs/halting-study.md.

Studies of the bundled models with a gate, on text they were not trained on: rows of a task's test split, or passages of novels. Their
numbers are stored beside the page as JSON; without `--novels` the page alone is written anew from what is stored.
"""

from __future__ import annotations

import argparse
import lzma
import tempfile
from pathlib import Path
from typing import Any

from abbie_lens import load, tasks, zoo
from abbie_lens.files.plain_json import read_object, write_object
from abbie_lens.tasks import Task
from probes.early_exit.report import numbers, page
from probes.early_exit.study import study
from probes.early_exit.study_config import StudyConfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
STORED = DOCS / "halting-study"
TASK_MODELS = ("ouro-khop", "adaponder-khop")
NOVEL_MODELS = ("adaponder-novels-5m",)
ROWS, PASSAGE, EVERY = 400, 6000, 12


def main() -> None:
    """Measure where text is given; write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--novels", help="held-out novels, form feeds between them (.txt.xz)")
    given = parser.parse_args()
    STORED.mkdir(exist_ok=True)
    if given.novels:
        measure(Path(given.novels))
    write()


def write() -> None:
    """The page from the stored numbers."""
    stored = [read_object(path) for path in sorted(STORED.glob("*.json"))]
    (DOCS / "halting-study.md").write_text(page(stored), encoding="utf-8")


def measure(novels: Path) -> None:
    """Run every study and store its numbers."""
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "passages.txt"
        texts.write_text("\f".join(_passages(novels)), encoding="utf-8")
        for name in NOVEL_MODELS:
            about = f"{EVERY}th passage of {PASSAGE:,} characters of the held-out novels"
            _one(name, texts, f"every {about}", folder, None)
        for name in TASK_MODELS:
            rows = Path(folder) / f"{name}.txt"
            task, text = _rows(name)
            rows.write_text(text, encoding="utf-8")
            about = (
                f"the answers in {ROWS} rows of the test split of {task.name}, each row a document"
            )
            _one(name, rows, about, folder, task)


def _one(name: str, text: Path, about: str, folder: str, task: Task | None) -> None:
    model = load(name)
    config = StudyConfig(
        str(text), str(Path(folder) / name), model.depth(None), counted="answers" if task else "all"
    )
    result = study(model, config, task=task)
    write_object(STORED / f"{name}.json", {"text": about, **numbers(result)})
    print(f"{name}: {result.n_tokens:,} tokens", flush=True)


def _passages(novels: Path) -> list[str]:
    with lzma.open(novels, "rt", encoding="utf-8") as stream:
        books = stream.read().split("\f")
    cut = [book[i : i + PASSAGE] for book in books for i in range(0, len(book), PASSAGE)]
    return [passage for passage in cut[::EVERY] if passage.strip()]


def _rows(name: str) -> tuple[Task, str]:
    """The task of a bundled model, and rows of its test split at the difficulties it trained on."""
    settings: dict[str, Any] = read_object(zoo.path(name) / "accuracy.json")["task"]
    task = tasks.decode({k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    batch = task.sample(0, ROWS, task.train_difficulty, split="test")
    rows = [task.text(row[real]) for row, real in zip(batch.tokens, batch.real, strict=True)]
    return task, "\f".join(rows)


if __name__ == "__main__":
    main()
