"""A plain decoder with a loop, seen without its weights: shapes are those of a run on tensors that hold nothing.

torch's fake tensors have shapes, dtypes and devices and no memory, so the model's own code says what its sites hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from abbie_lens.bridged.config import BridgedConfig, describe
from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.names import canonical
from abbie_lens.bridged.source import bridge, first_line, read_config
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.memory_plan import run_length
from abbie_lens.hooks.capture import record
from abbie_lens.loops.base import CONCEPT_SPACE

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Imagined:
    """What is known of a looped decoder before its weights are read."""

    source: Any
    """The model of transformers, of fake tensors, as it was before it was bridged."""
    cfg: BridgedConfig
    loop: Loop
    shapes: Mapping[str, Shape]
    """By site, of one row of `n_ctx` tokens."""
    widths: Mapping[str, int]
    """Bytes of an element, by site: token ids are wider than activations may be."""
    n_ctx: int

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of the parameters by their names in the source, tied ones once."""
        return {n: p.numel() * p.element_size() for n, p in self.source.named_parameters()}

    def sites(self, n_iters: int) -> tuple[tuple[str, int, Shape], ...]:
        """Name, rows over the loop (0 outside it), shape of one row."""
        rows = lambda site: n_iters if site.startswith("body.") else 0  # noqa: E731
        return (
            *((site, rows(site), shape) for site, shape in self.shapes.items()),
            *((site, n_iters + 1, (1, self.n_ctx, self.cfg.d_model)) for site in CONCEPT_SPACE),
        )


def imagine(
    folder: Path, loop: Loop, name: str, dtype: str | None, n_ctx: int | None = None
) -> Imagined:
    """The decoder whose config.json `folder` has, looped. Errors: CheckpointError, ConfigError, InputError."""
    from transformers import AutoModelForCausalLM

    config = read_config(folder)
    precision = getattr(torch, dtype) if dtype else getattr(config, "dtype", None) or torch.float32

    def fresh() -> Any:
        try:
            return AutoModelForCausalLM.from_config(config, dtype=precision).eval()
        except (
            Exception
        ) as error:  # ValueError for what is no causal language model, and what each class raises
            raise CheckpointError(
                f"{folder}: transformers cannot read it as a causal language model ({first_line(error)})."
            ) from error

    fork = torch.random.fork_rng(devices=[])
    with fork, FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        source, bridged = fresh(), bridge(fresh(), name)
        n_blocks = len(bridged.blocks)
        loop.fit(n_blocks)
        cfg = describe(bridged, loop, precision, name)
        length = run_length(n_ctx, cfg)
        try:
            tokens = torch.zeros(1, length, dtype=torch.long)
            _, cache = record(bridged, tokens, return_type="logits", use_cache=False)
        except (RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{name}: {cfg.architecture} does not run without values ({first_line(error)})."
            ) from error
        _, others = canonical(bridged.hook_dict, loop.start, loop.stop)
        held = {others.get(site, site): cache[site] for site in cache}
    shapes = {site: tuple(tensor.shape) for site, tensor in held.items()}
    widths = {site: tensor.element_size() for site, tensor in held.items()}
    return Imagined(source, cfg, loop, shapes, widths, length)
