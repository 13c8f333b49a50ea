"""A looped Llama and its training loop as one writes them by hand: no hooks, no lock, no State.

Parameters carry our names, so that our weights load as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shapes import Shape


class PlainAttention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            self.add_module(name, nn.Linear(d_model, d_model, bias=False))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (t * cos + _turned(t) * sin for t in (q, k))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(z.transpose(1, 2).flatten(2))


class PlainMLP(nn.Module):
    """SwiGLU."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_mlp, bias=False)
        self.in_proj = nn.Linear(d_model, d_mlp, bias=False)
        self.out_proj = nn.Linear(d_mlp, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(F.silu(self.gate_proj(x)) * self.in_proj(x))


class PlainBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln1 = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.attn = PlainAttention(shape.d_model, shape.n_heads)
        self.ln2 = nn.RMSNorm(shape.d_model, eps=1e-6)
        self.mlp = PlainMLP(shape.d_model, shape.d_mlp)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x), cos, sin)
        return x + self.mlp(self.ln2(x))


class PlainLooped(nn.Module):
    """AbbIE-D (`between`) with tied embeddings: tokens [batch, pos] -> logits [batch, pos, d_vocab]."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_iters = shape.n_iters
        self.embed = nn.Embedding(shape.d_vocab, shape.d_model)
        self.head, self.body, self.tail = (
            nn.ModuleList(PlainBlock(shape) for _ in range(n)) for n in shape.blocks
        )
        self.ln_final = nn.RMSNorm(shape.d_model, eps=1e-6)
        width = shape.d_model // shape.n_heads
        frequency = 10000.0 ** (-torch.arange(0, width, 2) / width)
        angle = torch.outer(torch.arange(shape.pos), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        cos, sin = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        h = self.embed(tokens)
        for block in self.head:
            h = block(h, cos, sin)
        z = h
        for _ in range(self.n_iters):
            z = h
            for block in self.body:
                z = block(z, cos, sin)
            h = z + h
        for block in self.tail:
            z = block(z, cos, sin)
        return F.linear(self.ln_final(z), self.embed.weight)


class PlainLoop:
    """zero_grad, forward, backward, clip, step: a bare training loop over batches held in memory."""

    def __init__(
        self,
        model: PlainLooped,
        batches: list[Tensor],
        learning_rate: Callable[[int], float],
        *,
        weight_decay: float,
        grad_clip: float,
        bf16: bool,
    ) -> None:
        self.model, self.batches, self.learning_rate = model, batches, learning_rate
        self.grad_clip, self.bf16 = grad_clip, bf16
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=learning_rate(0),
            betas=(0.9, 0.95),
            fused=True,
        )

    def step(self, step: int) -> Tensor:
        """Take step number `step`; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        batch = self.batches[step]
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(batch[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
