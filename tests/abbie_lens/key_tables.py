"""Weights of a public format as ours, by a table of names in which every stored tensor has a place."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Place = str | None | Callable[[re.Match[str], Tensor], dict[str, Tensor]]
"""Our name, with the pattern's groups in it; None for a tensor that is not used; or what makes ours of theirs."""

STAGES = {"prelude": "head", "core_block": "body", "coda": "tail"}


def translate(weights: dict[str, Tensor], table: dict[str, Place]) -> dict[str, Tensor]:
    """Our tensors by name. AssertionError for a stored tensor that no pattern of the table names."""
    ours: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        found = [(m, place) for p, place in table.items() if (m := re.fullmatch(p, key))]
        assert len(found) == 1, f"{key}: named by {len(found)} rows of the table"
        match, place = found[0]
        if callable(place):
            ours |= place(match, tensor)
        elif place is not None:
            ours[_staged(match.expand(place))] = tensor
    return ours


def rows(places: Sequence[str], sizes: Sequence[int] | None = None) -> Place:
    """Our tensors one under the other in theirs, of these numbers of rows or equally many."""

    def split(match: re.Match[str], tensor: Tensor) -> dict[str, Tensor]:
        parts = tensor.chunk(len(places)) if sizes is None else tensor.split(list(sizes))
        names = [_staged(match.expand(place)) for place in places]
        return dict(zip(names, parts, strict=True))

    return split


def raven(n_heads: int, n_kv_heads: int, d_head: int, norms: Sequence[str]) -> dict[str, Place]:
    """Blocks, embedding, adapter and final norm of the format that Huginn and the retrofitted models share.

    `norms`: ours for their norm_1, norm_2, …
    """
    block = r"transformer\.(prelude|core_block|coda)\.(\d+)\."
    qkv = [rf"\1.\2.attn.{n}_proj.weight" for n in "qkv"]
    biases = [rf"\1.\2.attn.{n}_proj.bias" for n in "qk"]

    def flat(match: re.Match[str], tensor: Tensor) -> dict[str, Tensor]:
        names = [_staged(match.expand(name)) for name in biases]
        return {name: half.flatten() for name, half in zip(names, tensor, strict=True)}

    normed = {
        block + rf"norm_{i}\.weight": rf"\1.\2.{name}.weight" for i, name in enumerate(norms, 1)
    }
    return {
        **normed,
        block + r"attn\.Wqkv\.weight": rows(
            qkv, [n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head]
        ),
        block + r"attn\.qk_bias": flat,
        block + r"attn\.proj\.weight": r"\1.\2.attn.o_proj.weight",
        block + r"mlp\.fc\.weight": rows(
            [r"\1.\2.mlp.gate_proj.weight", r"\1.\2.mlp.in_proj.weight"]
        ),
        block + r"mlp\.proj\.weight": r"\1.\2.mlp.out_proj.weight",
        r"transformer\.wte\.weight": "embed.weight",
        r"transformer\.ln_f\.weight": "ln_final.weight",
        r"transformer\.adapter\.weight": "loop.adapter.weight",
    }


def fill(model: torch.nn.Module, ours: dict[str, Tensor]) -> None:
    """Put the tensors into the model; each of the model's must be there."""
    if "unembed.weight" not in ours:
        ours = {**ours, "unembed.weight": ours["embed.weight"]}
    model.load_state_dict(ours, strict=True)


def _staged(name: str) -> str:
    stage, _, rest = name.partition(".")
    return f"{STAGES.get(stage, stage)}.{rest}"
