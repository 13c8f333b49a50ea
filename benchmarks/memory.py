"""Memory: what loading a model takes, in a process that does nothing else."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from abbie_lens import load
from abbie_lens.files.layout import WEIGHTS
from abbie_lens.loops import AbbieD
from benchmarks.shapes import TINY, Shape
from benchmarks.timing import Pairs, peak_bytes


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


def _peak(folder: Path, small: Path, device: str) -> int:
    load(small, device=device)  # what loading imports is no part of a model
    before = psutil.Process().memory_info().rss
    model = load(folder, device=device)
    peak = peak_bytes()
    del model
    return peak - before
