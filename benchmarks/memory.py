"""Memory: what loading a model takes, and a lens, in a process that does nothing else."""

from __future__ import annotations

import ctypes
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from abbie_lens import load
from abbie_lens.files.layout import WEIGHTS
from abbie_lens.loops import AbbieD
from benchmarks.shapes import CPU, TINY, Shape
from benchmarks.timing import Pairs, peak_bytes
from probes import lens

_M_MMAP_THRESHOLD = -3
LENS = replace(CPU, n_iters=8)
"""Logits of all iterations would be 300 MB, of four times the vocabulary 1.2 GB."""


def load_peak(shape: Shape, pairs: int) -> Pairs:
    """Peak of resident memory that loading a saved AbbIE-D adds / bytes of its file."""
    with tempfile.TemporaryDirectory() as parent:
        folder = shape.model(AbbieD()).save_pretrained(Path(parent) / "model")
        small = TINY.model(AbbieD()).save_pretrained(Path(parent) / "small")
        peaks = []
        for _ in range(pairs):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                peaks.append(pool.submit(_peak, folder, small, shape.device).result())
        stored = (folder / WEIGHTS).stat().st_size
    return Pairs(np.array(peaks, dtype=float), np.full(pairs, float(stored)))


def lens_peak(shape: Shape, pairs: int) -> Pairs:
    """Peak of resident memory that the Tail lens of AbbIE-D adds to the model with four times the vocabulary / with the vocabulary."""
    wide = replace(shape, d_vocab=4 * shape.d_vocab)
    peaks = np.empty((pairs, 2))
    for i in range(pairs):
        # Side by side: it is no time that is measured, and each is a process of its own.
        with ExitStack() as stack:
            pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(2)]
            asked = [
                stack.enter_context(pool).submit(_lens_peak, which)
                for pool, which in zip(pools, (wide, shape), strict=True)
            ]
            peaks[i] = [one.result() for one in asked]
    return Pairs(peaks[:, 0], peaks[:, 1])


def _lens_peak(shape: Shape) -> int:
    _give_back()
    small = TINY.model(AbbieD())
    lens(small, TINY.tokens(), 1)  # what the first lens imports is no part of it
    model, tokens = shape.model(AbbieD()), shape.tokens()
    model.info()  # reads every weight
    before = psutil.Process().memory_info().rss
    lens(model, tokens, shape.n_iters)
    return peak_bytes() - before


def _give_back() -> None:
    """Let glibc return every block above 1 MiB when it is freed: what stays otherwise depends on what was freed before."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _peak(folder: Path, small: Path, device: str) -> int:
    load(small, device=device)  # what loading imports is no part of a model
    before = psutil.Process().memory_info().rss
    model = load(folder, device=device)
    peak = peak_bytes()
    del model
    return peak - before
