"""The MLP: act(x W_gate) * (x W_in) W_out when gated, act(x W_in) W_out otherwise."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.config import LoopedConfig
from abbie_lens.hooks.points import Site

ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


class MLP(nn.Module):
    """Position-wise network with TransformerLens' sites: `hook_pre` before the activation, `hook_post` before W_out."""

    def __init__(self, cfg: LoopedConfig) -> None:
        super().__init__()
        self.act = ACTIVATION[cfg.act_fn]
        self.gated = cfg.gated_mlp
        self.in_proj = nn.Linear(cfg.d_model, cfg.mlp_width, bias=cfg.use_bias)
        self.out_proj = nn.Linear(cfg.mlp_width, cfg.d_model, bias=cfg.use_bias)
        self.hook_pre, self.hook_post = Site(), Site()
        if self.gated:
            self.gate_proj = nn.Linear(cfg.d_model, cfg.mlp_width, bias=cfg.use_bias)
            self.hook_pre_linear = Site()

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]."""
        if self.gated:
            gate = self.act(self.hook_pre(self.gate_proj(x)))
            linear = self.hook_pre_linear(self.in_proj(x))
            # In place where no gradient needs the gate: fresh memory costs more than the arithmetic.
            post = gate * linear if torch.is_grad_enabled() else gate.mul_(linear)
        else:
            post = self.act(self.hook_pre(self.in_proj(x)))
        return self.out_proj(self.hook_post(post))

    @property
    def W_out(self) -> Tensor:
        """[d_mlp, d_model], TransformerLens' layout."""
        return self.out_proj.weight.T

    @property
    def W_in(self) -> Tensor:
        """[d_model, d_mlp]."""
        return self.in_proj.weight.T
