"""A diagnose of a real pretrained model in a loop: how long it takes, and how much memory."""

from __future__ import annotations

import time

from abbie_lens import load
from abbie_lens.bridged import Loop
from abbie_lens.errors import CheckpointError
from abbie_lens.zoo import sample_text
from app import exporting
from benchmarks.peers import UnavailableError
from benchmarks.shapes import Shape
from benchmarks.timing import Once, peak_bytes

MODEL = "smollm2-135m"


def smollm2_seconds(shape: Shape, pairs: int) -> Once:
    """Fixed points, lens, trajectories, halting, similarity, attention and states of SmolLM2, damped, in seconds, loading not counted."""
    seconds = _diagnose(shape)
    return Once(seconds, f"One run, peak memory {peak_bytes() / 1e9:.2f} GB.")


def smollm2_memory(shape: Shape, pairs: int) -> Once:
    """The same in a process of its own: GB at its peak, everything included."""
    seconds = _diagnose(shape)
    return Once(peak_bytes() / 1e9, f"One run of {seconds:.1f} s.")


def _diagnose(shape: Shape) -> float:
    """Seconds of what `abbie-lens diagnose` computes on the shape's number of tokens."""
    head, body, _ = shape.blocks
    try:
        model = load(MODEL, device=shape.device, loop=Loop(head, head + body, "damped"))
    except CheckpointError as error:
        raise UnavailableError(str(error).rstrip(".")) from error
    words = model.to_tokens(sample_text(), prepend_bos=False)[0, : shape.pos - 1]
    text = model.to_string(words)
    start = time.perf_counter()
    exporting.results(model, text, shape.n_iters)
    exporting.states(model, text, shape.n_iters)
    return time.perf_counter() - start
