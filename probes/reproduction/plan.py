"""What a comparison would cost on a GPU, before anything is trained: FLOPs, memory and hours a family.

Training FLOPs: forward products (`abbie_lens.flops`) of every iteration, twice more for those that carry gradient;
loops with a drawn depth are counted at its mean; every read-out that is trained is counted. Hours: FLOPs over the
GPU's dense bfloat16 peak times an assumed utilisation. Memory of one device that holds the whole model: weights,
gradients and two AdamW moments in float32, and the activations that the backward pass keeps of one micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from abbie_lens.errors import InputError, nearest
from abbie_lens.flops import Flops, count_flops
from abbie_lens.model import HookedLoopedTransformer
from abbie_lens.training import TrainConfig
from probes.reproduction.config import ReproduceConfig

PEAKS: Mapping[str, float] = {
    "h100": 989e12,
    "h200": 989e12,
    "a100": 312e12,
    "l40s": 362e12,
    "a10": 125e12,
    "rtx4090": 165e12,
    "rtx3090": 71e12,
}
"""Dense bfloat16 FLOPs a second from the makers' data sheets."""
UTILISATION = 0.35
_STATES = 16
"""Bytes a parameter: float32 weight, gradient, two moments."""
_GRADIENT = 3
"""Forward, and a backward pass of twice its products."""


@dataclass(frozen=True)
class FamilyPlan:
    """One family's training."""

    family: str
    n_params: int
    tokens: int
    forward_flops: float
    """Per token, at the trained depth."""
    training_flops: float
    """Of the whole run."""
    memory_bytes: float
    hours: float


def plan(
    config: ReproduceConfig, gpu: str = "h100", utilisation: float = UTILISATION
) -> list[FamilyPlan]:
    """Every family's cost. Errors: InputError for an unknown GPU or a utilisation outside 0 … 1."""
    if gpu not in PEAKS:
        raise InputError(f"gpu={gpu!r}: expected one of {', '.join(PEAKS)}.{nearest(gpu, PEAKS)}")
    if not 0 < utilisation <= 1:
        raise InputError(f"utilisation={utilisation!r}: expected a number above 0, at most 1.")
    return [_family(config, name, PEAKS[gpu] * utilisation) for name in config.families]


def imagined(config: ReproduceConfig, name: str) -> tuple[TrainConfig, HookedLoopedTransformer]:
    """How a family is trained, and its model without memory."""
    training = config.training_of(name, Path("out"), Path("train.bin"), Path("heldout.bin"))
    with torch.device("meta"):
        model = HookedLoopedTransformer(training.looped_config(config.vocab_size))
    return training, model


def n_params(model: HookedLoopedTransformer) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def _family(config: ReproduceConfig, name: str, flops_per_second: float) -> FamilyPlan:
    training, model = imagined(config, name)
    cfg, recipe = model.cfg, training.loop_recipe(model.cfg.loop)
    depths = [recipe.n_iters(cfg.n_iters, training.seed, step) for step in range(1000)]
    counted = count_flops(model, cfg.n_iters)
    per_step = [_step_flops(counted, r, recipe.backprop_depth, len(recipe.trained_depths(r))) for r in depths]  # fmt: skip
    tokens = training.n_steps(cfg.n_ctx) * training.batch_size * cfg.n_ctx
    total = float(np.mean(per_step)) * tokens
    size = n_params(model)
    memory = _STATES * size + _activations(model, training, max(depths), recipe.backprop_depth)
    return FamilyPlan(
        name, size, tokens, counted.total, total, memory, total / flops_per_second / 3600
    )


def _step_flops(counted: Flops, r: int, backprop_depth: int | None, readouts: int) -> float:
    """FLOPs per token of one training step at depth r."""
    each = [_iteration(counted, k) for k in range(r)]
    first = 0 if backprop_depth is None else max(0, r - backprop_depth)
    ends = counted.head + readouts * (counted.tail + counted.unembed)
    return sum(each[:first]) + _GRADIENT * (sum(each[first:]) + ends)


def _iteration(counted: Flops, k: int) -> float:
    """FLOPs of iteration k; beyond those counted the last is repeated."""
    if not counted.iterations:
        return 0.0
    return counted.iterations[min(k, len(counted.iterations) - 1)]


def _activations(
    model: HookedLoopedTransformer, training: TrainConfig, r: int, backprop_depth: int | None
) -> float:
    """Bytes kept for the backward pass: inputs of every product, bfloat16 under autocast, float32 otherwise.

    A block keeps its two normed inputs and the streams before them (4 d), q, k, v and the heads' output, and three
    widths of the gated MLP; logits are float32 and kept with their softmax.
    """
    cfg = model.cfg
    kept = min(r, backprop_depth) if backprop_depth is not None else r
    passes = model.rows("body.0.hook_resid_pre", kept)
    heads = (2 * cfg.n_heads + 2 * cfg.kv_heads) * cfg.head_width
    block = 4 * cfg.d_model + heads + (3 if cfg.gated_mlp else 2) * cfg.mlp_width
    n_blocks = cfg.n_head_blocks + passes * cfg.n_body_blocks + cfg.n_tail_blocks
    width = 4 if training.precision == "float32" else 2
    tokens = (training.micro_batch_size or training.batch_size) * cfg.n_ctx
    feedbacks = passes - kept  # families that feed predictions back unembed once more a pass
    logits = (1 + (kept if feedbacks else 0)) * 2 * 4 * cfg.d_vocab
    return float(tokens * (n_blocks * block * width + logits))
