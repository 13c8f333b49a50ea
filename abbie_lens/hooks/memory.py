"""How many bytes a capture will hold, from shapes alone, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterable

import psutil
import torch

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import InputError

ROOM = 0.9
"""Share of the free memory that may be planned with."""


def site_elements(cfg: LoopedConfig, name: str, batch: int, pos: int) -> int:
    """Elements of one row of a site."""
    last = name.rpartition(".")[2]
    per_token = {
        "hook_scale": 1,
        "hook_gate": 1,
        "hook_mask": 1,
        "hook_router": 1,
        "hook_value_gate": cfg.kv_heads,
        "hook_q": cfg.n_heads * cfg.head_width,
        "hook_rot_q": cfg.n_heads * cfg.head_width,
        "hook_z": cfg.n_heads * cfg.head_width,
        "hook_z_gate": cfg.n_heads * cfg.head_width,
        "hook_k": cfg.kv_heads * cfg.head_width,
        "hook_rot_k": cfg.kv_heads * cfg.head_width,
        "hook_v": cfg.kv_heads * cfg.head_width,
        "hook_attn_scores": cfg.n_heads * pos,
        "hook_pattern": cfg.n_heads * pos,
        "hook_pre": cfg.mlp_width,
        "hook_pre_linear": cfg.mlp_width,
        "hook_post": cfg.mlp_width,
    }.get(last, cfg.d_model)
    if name == "unembed.hook_out":
        per_token = cfg.d_vocab
    if (heads := _normed_heads(cfg, name)) is not None:
        joint = cfg.qk_norm == "learned_joint"
        per_token = (1 if joint else heads) if last == "hook_scale" else heads * cfg.head_width
    return batch * pos * per_token


def _normed_heads(cfg: LoopedConfig, name: str) -> int | None:
    """Heads of the queries or keys whose norm the site is in; None for another site."""
    part = name.split(".")[-2:-1]
    return {"q_norm": cfg.n_heads, "k_norm": cfg.kv_heads}.get(part[0] if part else "")


def site_shape(cfg: LoopedConfig, name: str, batch: int, pos: int) -> tuple[int, ...]:
    """Shape of one row of a site, where all tokens are in it."""
    last = name.rpartition(".")[2]
    if last in ("hook_attn_scores", "hook_pattern"):
        return (batch, cfg.n_heads, pos, pos)
    width = site_elements(cfg, name, batch, pos) // (batch * pos)
    if last in ("hook_q", "hook_rot_q", "hook_z", "hook_k", "hook_rot_k", "hook_v"):
        return (batch, pos, width // cfg.head_width, cfg.head_width)
    heads = _normed_heads(cfg, name)
    if heads is not None and cfg.qk_norm != "learned_joint":
        return (batch, pos, heads, width // heads)
    return (batch, pos, width)


def free_bytes(device: torch.device | str) -> int:
    """Bytes free on a device; those of the machine for one that shares its memory."""
    at = torch.device(device)
    if at.type == "cuda":
        return torch.cuda.mem_get_info(at)[0]
    return psutil.virtual_memory().available


def capture_bytes(
    cfg: LoopedConfig, rows: Iterable[tuple[str, int]], batch: int, pos: int, dtype: torch.dtype
) -> int:
    """Bytes that (site, number of rows) pairs hold."""
    return sum(n * site_elements(cfg, name, batch, pos) for name, n in rows) * dtype.itemsize


def require_room(needed: int, states_only: int, device: torch.device) -> None:
    """Errors: InputError, with both sizes and the filter to use, if `needed` bytes are not free on `device`."""
    free = free_bytes(device)
    if needed > ROOM * free:
        raise InputError(
            f"names_filter: this capture needs {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free on {device}. "
            f'The states alone, names_filter=["loop.hook_state", "loop.hook_readout"], need {states_only / 2**20:.1f} MiB.'
        )
