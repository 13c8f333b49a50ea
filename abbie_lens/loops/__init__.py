"""Loop families: one file each, its equation in the docstring; `decode` and `encode` for config files."""

from __future__ import annotations

import dataclasses
from typing import Any

from abbie_lens.errors import ConfigError, nearest
from abbie_lens.loops.abbie_c import AbbieC
from abbie_lens.loops.abbie_d import AbbieD
from abbie_lens.loops.adaponder import AdaPonder
from abbie_lens.loops.base import Advance, LoopFamily, Start
from abbie_lens.loops.flt import FLT, FLTRes
from abbie_lens.loops.fprm import FPRM
from abbie_lens.loops.hrm import HRM
from abbie_lens.loops.huginn import Huginn
from abbie_lens.loops.loopus import LoopUS
from abbie_lens.loops.lt import LT, LTi, LTia
from abbie_lens.loops.mor import MoR
from abbie_lens.loops.ouro import Ouro
from abbie_lens.loops.parcae import Parcae
from abbie_lens.loops.ponder import Ponder
from abbie_lens.loops.ponder_2 import Ponder2
from abbie_lens.loops.pondernet import PonderNet
from abbie_lens.loops.relaxed import Relaxed
from abbie_lens.loops.retrofit import Retrofit
from abbie_lens.loops.spiral import Spiral
from abbie_lens.loops.std import Std
from abbie_lens.loops.ut_act import UTACT
from abbie_lens.loops.zero_pt import ZeroPt

FAMILIES: dict[str, type[LoopFamily]] = {
    cls.family: cls
    for cls in (
        *(Std, AbbieC, AbbieD, ZeroPt, Huginn),
        *(LT, LTi, LTia, FLT, FLTRes),
        *(Ponder, AdaPonder, Spiral),
        *(Ouro, PonderNet, UTACT),
        *(HRM, Relaxed, FPRM),
        *(Ponder2, MoR, LoopUS),
        *(Parcae, Retrofit),
    )
}

__all__ = [
    "FAMILIES",
    "FLT",
    "FPRM",
    "HRM",
    "LT",
    "UTACT",
    "AbbieC",
    "AbbieD",
    "AdaPonder",
    "Advance",
    "FLTRes",
    "Huginn",
    "LTi",
    "LTia",
    "LoopFamily",
    "LoopUS",
    "MoR",
    "Ouro",
    "Parcae",
    "Ponder",
    "Ponder2",
    "PonderNet",
    "Relaxed",
    "Retrofit",
    "Spiral",
    "Start",
    "Std",
    "ZeroPt",
    "decode",
    "encode",
    "family",
]


def family(name: str) -> type[LoopFamily]:
    """The family called `name`. Errors: ConfigError for an unknown one."""
    if name not in FAMILIES:
        raise ConfigError(
            f"loop family {name!r}: expected one of {sorted(FAMILIES)}.{nearest(str(name), FAMILIES)}"
        )
    return FAMILIES[name]


def encode(loop: LoopFamily) -> dict[str, Any]:
    """Plain JSON types of a family and its settings, tagged by `family`."""
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(loop).items()}
    return {"family": loop.family, **settings}


def decode(plain: dict[str, Any]) -> LoopFamily:
    """Inverse of `encode`. Errors: ConfigError for an unknown family or setting."""
    settings = dict(plain)
    cls = family(settings.pop("family", ""))
    known = {f.name for f in dataclasses.fields(cls)}
    for key in settings.keys() - known:
        raise ConfigError(
            f"loop {cls.family}: unknown setting {key!r}; expected among {sorted(known)}."
        )
    return cls(**settings)
