"""Random initialisation: normal weights, output projections scaled down by the effective depth."""

from __future__ import annotations

import torch
from torch import nn

from abbie_lens.config import LoopedConfig


def initialise(model: nn.Module, cfg: LoopedConfig) -> None:
    """Draw all matrices from N(0, initializer_range), those that write to the stream divided by sqrt(2 L).

    L counts the blocks of the unrolled stack at the trained depth (GPT-2's rule, arXiv 2502.05171 for loops).
    A module with an `init_std` or `init_bias` of its own is given that, one with `init_identity` the identity.
    """
    if all(parameter.is_meta for parameter in model.parameters()):
        return  # there is nothing to fill
    generator = None if cfg.seed is None else torch.Generator().manual_seed(cfg.seed)
    writers = ("o_proj.weight", "out_proj.weight")
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if parameter.ndim < 2:
            if name.endswith("bias"):
                nn.init.constant_(parameter, getattr(owner, "init_bias", 0.0))
            continue
        if getattr(owner, "init_identity", False):
            nn.init.eye_(parameter)
            continue
        std = getattr(owner, "init_std", cfg.initializer_range)
        if name.endswith(writers):
            std /= (2 * max(cfg.n_layers(), 1)) ** 0.5
        nn.init.normal_(parameter, std=std, generator=generator)
