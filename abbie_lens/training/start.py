"""Weights that a run starts from: those of a saved model, in place of random ones."""

from __future__ import annotations

import dataclasses

import torch

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import ConfigError
from abbie_lens.files.layout import read_config
from abbie_lens.files.load import find, load
from abbie_lens.model import HookedLoopedTransformer

FREE = frozenset(["loop", "n_iters", "initializer_range", "seed", "dtype", "model_name"])
"""Fields of LoopedConfig in which a run may differ from the model it starts from."""


def require_fit(cfg: LoopedConfig, init_from: str, but: frozenset[str] = frozenset()) -> None:
    """ConfigError where a model of `cfg` is another function of the weights than `init_from`; `but`: fields not known yet."""
    given = read_config(find(init_from))[0]
    for field in dataclasses.fields(cfg):
        theirs, ours = getattr(given, field.name), getattr(cfg, field.name)
        if field.name not in FREE | but and ours != theirs:
            raise ConfigError(
                f"model.{field.name}={ours!r}: init_from={init_from!r} has {theirs!r}"
            )


def start_from(model: HookedLoopedTransformer, init_from: str) -> None:
    """Copy the weights of `init_from` into `model`. Errors: ConfigError where they do not fit.

    The loop's own parts may be missing there, and then stay as drawn: a gate that is added, an adapter.
    """
    require_fit(model.cfg, init_from)
    given = dict(load(init_from, device="cpu").named_parameters())
    own = dict(model.named_parameters())
    missing = {name for name in own.keys() - given.keys() if not name.startswith("loop.")}
    unused = given.keys() - own.keys()
    wrong = {name for name in own.keys() & given.keys() if own[name].shape != given[name].shape}
    if missing or unused or wrong:
        raise ConfigError(
            f"init_from={init_from!r} does not fit the model: missing {sorted(missing)[:3]}, "
            f"unused {sorted(unused)[:3]}, of another shape {sorted(wrong)[:3]}"
        )
    with torch.no_grad():
        for name, value in given.items():
            own[name].copy_(value)
