"""Loop families: one file each, its equation in the docstring; `decode` and `encode` for config files."""

from __future__ import annotations

import dataclasses
from typing import Any

from abbie_lens.errors import ConfigError, nearest
from abbie_lens.loops.abbie_c import AbbieC
from abbie_lens.loops.abbie_d import AbbieD
from abbie_lens.loops.base import Advance, LoopFamily
from abbie_lens.loops.std import Std

FAMILIES: dict[str, type[LoopFamily]] = {cls.family: cls for cls in (Std, AbbieC, AbbieD)}

__all__ = ["FAMILIES", "AbbieC", "AbbieD", "Advance", "LoopFamily", "Std", "decode", "encode"]


def encode(loop: LoopFamily) -> dict[str, Any]:
    """Plain JSON types of a family and its settings, tagged by `family`."""
    return {"family": loop.family, **dataclasses.asdict(loop)}


def decode(plain: dict[str, Any]) -> LoopFamily:
    """Inverse of `encode`. Errors: ConfigError for an unknown family or setting."""
    settings = dict(plain)
    name = settings.pop("family", None)
    if name not in FAMILIES:
        raise ConfigError(
            f"loop family {name!r}: expected one of {sorted(FAMILIES)}.{nearest(str(name), FAMILIES)}"
        )
    known = {f.name for f in dataclasses.fields(FAMILIES[name])}
    for key in settings.keys() - known:
        raise ConfigError(f"loop {name}: unknown setting {key!r}; expected among {sorted(known)}.")
    return FAMILIES[name](**settings)
