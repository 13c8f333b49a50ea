"""What one block adds to the stream, split into its heads, attention's biases and the MLP, read along directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import wide
from probes.attribution.frozen_norm import FrozenNorm

SITES = ("attn.hook_z", "hook_attn_out", "hook_mlp_out")
GATE = "attn.hook_z_gate"
SPLITS_TO = 100
"""Roundoffs of the model's dtype to which heads must add up to what attention adds, relative to their sizes."""


@dataclass(frozen=True)
class BlockReader:
    """One block of a stage, and the norm that its attention's output passes before it is added, if any."""

    prefix: str
    """`body.1`."""
    sites: tuple[str, ...]
    post: FrozenNorm | None
    n_heads: int

    @classmethod
    def of(cls, model: Any, stage: str, b: int, block: Any) -> BlockReader:
        """Errors: InputError for a block without the sites or the output matrix that splitting needs."""
        prefix = f"{stage}.{b}"
        others = getattr(model, "aliases", {})
        missing = [
            name
            for name in (f"{prefix}.{site}" for site in SITES)
            if others.get(name, name) not in model.hook_dict
        ]
        if missing:
            raise InputError(
                f"model: it has no site {missing[0]}; its attention has no heads to split."
            )
        gated = [GATE] if f"{prefix}.{GATE}" in model.hook_dict else []
        post = getattr(block, "ln1_post", None)
        like = model.embed.weight.new_zeros(model.cfg.d_model)
        frozen = None if post is None else FrozenNorm.of(getattr(post, "plain", post), like)
        return cls(
            prefix, tuple(f"{prefix}.{s}" for s in (*SITES, *gated)), frozen, model.cfg.n_heads
        )

    @property
    def components(self) -> tuple[str, ...]:
        """What is told apart, in the order of the rows of `project`."""
        return (*(f"head {h}" for h in range(self.n_heads)), "attention bias", "mlp")

    def project(self, block: Any, fired: Mapping[str, Tensor], at: Any, read: Tensor) -> Tensor:
        """[component, read, batch, pos] of the block's own outputs in `fired`, at the positions `at`.

        `read` [read, batch, pos, d_model]: how the stream after the block is read. `block` has the weights of this
        iteration. Errors: InputError where heads do not add up to what attention adds.
        """
        z, attention, mlp = (wide(fired[f"{self.prefix}.{site}"][:, at]) for site in SITES)
        z = z.unflatten(-1, (self.n_heads, -1)) if z.ndim == 3 else z
        if f"{self.prefix}.{GATE}" in fired:
            z = z * wide(fired[f"{self.prefix}.{GATE}"][:, at]).view_as(z)
        w, b = _output(block, self.prefix)
        bias = torch.zeros_like(attention[..., 0])[None]
        inner = read
        if self.post is not None:
            scale = self.post.scale(torch.einsum("bphe,hed->bpd", z, w) + b, attention)
            inner = self.post.read_back(read, scale)
            bias = read @ self.post.bias
        heads = torch.einsum("bphe,rbphe->hrbp", z, torch.einsum("rbpd,hed->rbphe", inner, w))
        parts = [*heads, (bias + inner @ b).expand(heads.shape[1:])]
        self._check(torch.stack(parts), (read * attention).sum(-1), fired[self.sites[1]].dtype)
        return torch.stack([*parts, (read * mlp).sum(-1)])

    def _check(self, parts: Tensor, whole: Tensor, dtype: torch.dtype) -> None:
        off, size = (parts.sum(0) - whole).abs(), parts.abs().sum(0) + whole.abs()
        if bool((off > SPLITS_TO * torch.finfo(dtype).eps * size).any()):
            raise InputError(
                f"model: in {self.prefix} the heads' outputs do not add up to what attention adds; it cannot be split."
            )


def _output(block: Any, prefix: str) -> tuple[Tensor, Tensor]:
    """W_O [head, d_head, d_model] and b_O [d_model], wide."""
    try:
        w, b = block.attn.W_O, block.attn.b_O
    except AttributeError as error:
        raise InputError(f"model: {prefix} has no output matrix of its heads ({error}).") from None
    w = wide(w.detach())
    return w, w.new_zeros(w.shape[-1]) if b is None else wide(b.detach())
