"""What the references are written in: norms, rotations and attention as formulas, on plain tensors.

Nothing here is the library's: a mistake that both make would have to be made twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Config = dict[str, Any]
Outputs = dict[str, Tensor]
STATE, READOUT = "loop.hook_state", "loop.hook_readout"
Weights = Mapping[str, Tensor]
ACTIVATION = {
    "silu": lambda x: x * x.sigmoid(),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "relu": lambda x: x.clamp_min(0),
}


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    """x W^T, plus b where the checkpoint has one."""
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def rms(x: Tensor, eps: float, weight: Tensor | float = 1.0) -> Tensor:
    """x over its root mean square."""
    return x / ((x * x).mean(-1, keepdim=True) + eps).sqrt() * weight


def layer_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    """x with mean 0 and variance 1, scaled and shifted."""
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    return centred / (variance + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def frequencies(width: int, theta: float, scaling: Mapping[str, Any] | None = None) -> Tensor:
    """[width / 2] radians per position, with the `llama3` rule where `scaling` asks for it."""
    speeds = [theta ** (-2 * i / width) for i in range(width // 2)]
    if scaling and scaling.get("rope_type") == "llama3":
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
        for i, speed in enumerate(speeds):
            wavelength = 2 * math.pi / speed
            if wavelength > original / low:
                speeds[i] = speed / factor
            elif wavelength > original / high:
                smooth = (original / wavelength - low) / (high - low)
                speeds[i] = (1 - smooth) * speed / factor + smooth * speed
    return torch.tensor(speeds)


def turn(x: Tensor, speeds: Tensor, adjacent: bool = False) -> Tensor:
    """x [batch, pos, head, channel] turned by position; channels beyond 2 len(speeds) stay."""
    n = 2 * len(speeds)
    moving, still = x[..., :n], x[..., n:]
    angle = torch.arange(x.shape[1])[:, None, None] * speeds
    a, b = (
        (moving[..., ::2], moving[..., 1::2])
        if adjacent
        else (moving[..., : n // 2], moving[..., n // 2 :])
    )
    turned = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
    joined = torch.stack(turned, -1).flatten(-2) if adjacent else torch.cat(turned, -1)
    return torch.cat([joined, still], -1)


def causal(n: int, prefix: Tensor | None = None) -> Tensor:
    """[batch or 1, query, key] who sees whom; tokens of the prefix [batch, pos] see each other."""
    mask = torch.arange(n)[:, None] >= torch.arange(n)[None]
    if prefix is None:
        return mask[None]
    return mask | ((prefix[:, :, None] == 1) & (prefix[:, None, :] == 1))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q [batch, pos, head, c], k and v [batch, pos, group, c] -> [batch, pos, head * c]."""
    each = q.shape[2] // k.shape[2]
    k, v = (torch.stack([t[:, :, g // each] for g in range(q.shape[2])], 2) for t in (k, v))
    scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~mask[:, None], -math.inf).softmax(-1)
    return torch.einsum("bhqk,bkhc->bqhc", weights, v).flatten(2)


def heads(x: Tensor, n: int) -> Tensor:
    """[batch, pos, n * c] -> [batch, pos, n, c]."""
    return x.unflatten(-1, (n, -1))


def softplus(x: Tensor) -> Tensor:
    """ln(1 + e^x)."""
    return F.softplus(x)


def gated(w: Weights, fused: str, out: str, x: Tensor, act: str = "silu") -> Tensor:
    """The MLP whose first matrix has the rows [gate; up]."""
    gate, up = linear(w, fused, x).chunk(2, -1)
    return linear(w, out, ACTIVATION[act](gate) * up)
