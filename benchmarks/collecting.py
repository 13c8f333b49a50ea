"""Collecting over a corpus: against the forward passes alone, and its memory against the length of the text."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from abbie_lens import HookedLoopedTransformer, zoo
from abbie_lens.collecting import CollectConfig, collect
from abbie_lens.corpus import batches, cut_windows, padded, read_documents
from abbie_lens.loops import AbbieD
from abbie_lens.training import load_tokenizer
from benchmarks.shapes import TINY, Shape
from benchmarks.timing import Pairs, paired, peak_bytes

SHORT, LONG = 5, 488
"""Batches: of 2,048 tokens, 10,240 and 999,424."""
SMALL = replace(TINY, d_model=32, d_vocab=4096, pos=256, batch=8)
"""So that the text and its shards count, not the weights."""


def collect_throughput(shape: Shape, pairs: int) -> Pairs:
    """Tokens/s of `collect`, text in, every h_k of every token out / of the same forward passes with their loss alone."""
    model = _model(shape)
    with tempfile.TemporaryDirectory() as folder:
        text = _text(Path(folder) / "text.txt", 4 * shape.batch * shape.pos)
        windows = list(cut_windows(read_documents(str(text)), model.tokenizer, shape.pos))
        inputs = [
            padded([windows[n] for n in numbers], model.tokenizer)[:2]
            for numbers in batches(windows, shape.batch * shape.pos)
        ]
        runs = iter(range(10**6))

        @torch.no_grad()
        def forwards() -> None:
            for tokens, mask in inputs:
                where = model.device
                loss = model(
                    tokens.to(where), attention_mask=None if mask is None else mask.to(where),
                    return_type="loss", loss_per_token=True,
                )  # fmt: skip
                loss.cpu()

        def collecting() -> None:
            out = Path(folder) / str(next(runs))
            collect(
                model, CollectConfig(str(text), str(out), batch_size=shape.batch, window=shape.pos)
            )

        return paired(collecting, forwards, pairs, device=shape.device)


def collect_memory(shape: Shape, pairs: int) -> Pairs:
    """Peak memory of `collect` over 488 batches of text (a million tokens) / over 5 (ten thousand), a process each."""
    peaks = np.array([[_apart(shape, n) for n in (LONG, SHORT)] for _ in range(min(pairs, 3))])
    return Pairs(peaks[:, 0], peaks[:, 1])


def _apart(shape: Shape, n_batches: int) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_of_collecting, shape, n_batches).result()


def peak_of_collecting(shape: Shape, n_batches: int) -> float:
    """Bytes that this process held at most, after collecting."""
    model = _model(shape)
    with tempfile.TemporaryDirectory() as folder:
        n_tokens = n_batches * shape.batch * shape.pos
        text = _text(Path(folder) / "text.txt", n_tokens)
        collect(
            model,
            CollectConfig(
                str(text),
                str(Path(folder) / "out"),
                max_tokens=n_tokens,
                shard_tokens=2 * shape.batch * shape.pos,
            ),
        )
    return peak_bytes()


def _model(shape: Shape) -> HookedLoopedTransformer:
    tokenizer = load_tokenizer(zoo.path(zoo.DEFAULT))
    model = replace(shape, d_vocab=len(tokenizer)).model(AbbieD())
    model.tokenizer = tokenizer
    return model


def _text(path: Path, n_tokens: int) -> Path:
    """About so many tokens of the bundled sample, again and again, in documents of a few thousand characters."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("\f".join(_pieces(zoo.sample_text(), 4 * n_tokens)))
    return path


def _pieces(sample: str, size: int) -> Iterator[str]:
    """Documents of 4,000 characters, until they have `size`."""
    start = 0
    while size > 0:
        piece = sample[start : start + min(4000, size)]
        yield piece
        size -= len(piece)
        start = (start + len(piece)) % len(sample)
