"""relax: a relaxed recursive transformer from a plain one, its adapters the truncated SVD of what sharing leaves out.

    W^{k,b} = W'^b + B^{k,b} A^{k,b} + rest,   W^{k,b} of layer k N_b + b of the plain model's Body

    average    W'^b = mean over k of W^{k,b}
    lower      W'^b = layer b: the first N_b layers
    stepwise   W'^b = layer round(b (L - 1) / (N_b - 1)), spread from the first layer to the last; the first if N_b = 1

B A is the best approximation of the difference of that rank (Eckart-Young), B and A sharing its singular values evenly.
At full rank nothing of the linear maps is left out. Norms and biases, which have no adapters, are those of W' alone: the
result equals the plain model where its layers agree in them.

Source: arXiv 2410.20672, read in a summary; the rounding of `stepwise` is our choice.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.loops.relaxed import Relaxed

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

SHARED = ("average", "lower", "stepwise")


@torch.no_grad()
def relax(
    plain: HookedLoopedTransformer, n_body_blocks: int, loop: Relaxed, shared: str = "average"
) -> HookedLoopedTransformer:
    """A model of `loop` with `n_body_blocks` from `plain`, whose Body is applied once and divides into as many iterations
    as the loop has adapters for.

    Head, Tail, embeddings and final norm are `plain`'s. `shared` says what W' is. Errors: InputError for a model that
    loops, or a Body that does not divide so.
    """
    cfg = plain.cfg
    if cfg.loop.family != "std":
        raise InputError(
            f"plain: a model of {cfg.loop.family}; expected std, a stack without a loop."
        )
    if shared not in SHARED:
        raise InputError(f"shared={shared!r}: expected one of {SHARED}.")
    if n_body_blocks < 1 or n_body_blocks * loop.max_iters != cfg.n_body_blocks:
        raise InputError(
            f"n_body_blocks={n_body_blocks}: expected {cfg.n_body_blocks} layers = n_body_blocks x "
            f"max_iters={loop.max_iters}."
        )
    changes = dict(n_body_blocks=n_body_blocks, n_iters=loop.max_iters, loop=loop)
    relaxed = type(plain)(dataclasses.replace(cfg, **changes), plain.tokenizer)
    relaxed.to(device=plain.device, dtype=plain.dtype).train(plain.training)
    theirs, ours = plain.state_dict(), relaxed.state_dict()
    for name, tensor in ours.items():
        if name in theirs and not name.startswith("body."):
            tensor.copy_(theirs[name])
    for b in range(n_body_blocks):
        names = [n.removeprefix(f"body.{b}.") for n in ours if n.startswith(f"body.{b}.")]
        for name in names:
            layers = [theirs[f"body.{k}.{name}"] for k in range(cfg.n_body_blocks)]
            w = ours[f"body.{b}.{name}"].copy_(_shared(layers, b, n_body_blocks, shared))
            where = f"{b}.{name.removesuffix('.weight')}"
            if f"loop.adapters.0.{where}.up.weight" not in ours:
                continue  # a norm or a bias
            for k in range(loop.max_iters):
                up, down = (ours[f"loop.adapters.{k}.{where}.{n}.weight"] for n in ("up", "down"))
                left, right = _factors(layers[k * n_body_blocks + b] - w, loop.rank)
                up.zero_()[:, : left.shape[1]] = left
                down.zero_()[: right.shape[0]] = right
    return relaxed


def _shared(layers: list[Tensor], b: int, n_blocks: int, how: str) -> Tensor:
    """W' of block b, from one tensor of all layers."""
    if how == "average":
        return torch.stack(layers[b::n_blocks]).double().mean(0)
    if how == "lower" or n_blocks == 1:
        return layers[b]
    return layers[round(b * (len(layers) - 1) / (n_blocks - 1))]


def _factors(difference: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B [out, rank'] and A [rank', in] with B A the nearest matrix of that rank; rank' at most the smaller side."""
    u, s, v = torch.linalg.svd(difference.double(), full_matrices=False)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:rank]
