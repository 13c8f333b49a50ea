"""Names: every site of a bridge under one canonical name, and all others that lead to it.

TransformerLens knows a hook point by several names (`blocks.5.hook_in`, `blocks.5.hook_resid_pre`). The canonical one says
which stage it is in, `body.1.hook_resid_pre`; all the others, with `blocks.5` or with `body.1`, are accepted for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from transformer_lens.hook_points import HookPoint

_BLOCK = re.compile(r"blocks\.(\d+)\.(.*)")
USUAL = frozenset(
    f"hook_{what}"
    for what in (
        *("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"),
        *("q", "k", "v", "z", "rot_q", "rot_k", "attn_scores", "pattern"),
        *("pre", "pre_linear", "post", "scale", "normalized"),
    )
)
"""Last parts of the names that our own models have too: these are preferred."""


def staged(name: str, start: int, stop: int) -> str:
    """`blocks.{i}.rest` as `head.{i}.rest`, `body.{i - start}.rest` or `tail.{i - stop}.rest`; other names as they are."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        return name
    i, rest = int(match[1]), match[2]
    if i < start:
        return f"head.{i}.{rest}"
    return f"body.{i - start}.{rest}" if i < stop else f"tail.{i - stop}.{rest}"


def canonical(
    points: Mapping[str, HookPoint], start: int, stop: int
) -> tuple[dict[str, HookPoint], dict[str, str]]:
    """Hook points by canonical name, and the canonical name by every other one."""
    names: dict[int, list[str]] = {}
    for name, point in points.items():
        names.setdefault(id(point), []).append(name)
    sites: dict[str, HookPoint] = {}
    others: dict[str, str] = {}
    for known in names.values():
        chosen = staged(min(known, key=_rank), start, stop)
        sites[chosen] = points[known[0]]
        for name in known:
            others |= {name: chosen, staged(name, start, stop): chosen}
    return sites, {name: site for name, site in others.items() if name not in sites}


def _rank(name: str) -> tuple[bool, bool, int, str]:
    """Usual names first, then those of a component (`embed.hook_out`, not `hook_embed`), then the shortest."""
    rest = name.rpartition(".")
    return rest[2] not in USUAL, not rest[0], len(name), name
