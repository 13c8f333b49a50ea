"""A model from its config and a dictionary of tensors that must fit it."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import CheckpointError
from abbie_lens.files.undrawn import Undrawn
from abbie_lens.files.weights import state_tensors

Model = TypeVar("Model", bound=Any)


def blueprint(
    model_class: type[Model], cfg: LoopedConfig
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """What a checkpoint of this config holds, found without allocating memory.

    Returns the shapes by name, and each further name of a tied tensor with the name that holds it.
    """
    with torch.device("meta"), Undrawn():
        empty = model_class(cfg.replace(seed=None))
    held = state_tensors(empty)
    holder = {id(tensor): name for name, tensor in held.items()}
    everything = empty.state_dict(keep_vars=True)
    aliases = {n: holder[id(t)] for n, t in everything.items() if n not in held}
    return {name: tuple(tensor.shape) for name, tensor in held.items()}, aliases


def check_shapes(
    tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], where: object
) -> None:
    """Raise CheckpointError naming every tensor whose shape is not the config's."""
    wrong = [
        f"{name} is {list(tensor.shape)}, the config says {list(expected[name])}"
        for name, tensor in tensors.items()
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    if wrong:
        raise CheckpointError(f"{where}: weights do not fit the config: {'; '.join(wrong)}.")


def assemble(
    model_class: type[Model],
    cfg: LoopedConfig,
    tokenizer: Any,
    tensors: dict[str, Tensor],
    device: torch.device,
) -> Model:
    """The model in eval mode on `device`, its parameters in `cfg.dtype`.

    Names absent from `tensors` keep their random initialisation.
    """
    with Undrawn():  # which takes as long as reading
        model = model_class(cfg, tokenizer=tokenizer)
    if not state_tensors(model).keys() <= tensors.keys():
        with torch.random.fork_rng(devices=[]):  # loading must not move the caller's random numbers
            model = model_class(cfg, tokenizer=tokenizer)
    with torch.no_grad():
        for name, tensor in state_tensors(model).items():
            if name in tensors:
                tensor.copy_(tensors[name])
    return model.to(device).eval()
