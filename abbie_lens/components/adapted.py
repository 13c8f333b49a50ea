"""A stack with low-rank adapters beside its linear maps: a copy that shares all else, sites included.

Nothing of the original changes, so a thread that reads its weights, and a hook that runs the model, see it as it is.
"""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class Adapter(nn.Module):
    """B A, a map of low rank: `down` A [rank, in], `up` B [out, rank]."""

    def __init__(self, n_in: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(n_in, rank, bias=False)
        self.up = nn.Linear(rank, n_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return self.up(self.down(x))


class AdaptedLinear(nn.Module):
    """x (W + B A)^T + b, with W and b of another linear map."""

    def __init__(self, linear: nn.Linear, adapter: Adapter) -> None:
        super().__init__()
        self.linear, self.adapter = linear, adapter

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return F.linear(x, self.linear.weight, self.linear.bias) + self.adapter(x)

    @property
    def weight(self) -> Tensor:
        """[out, in] W + B A."""
        return self.linear.weight + self.adapter.up.weight @ self.adapter.down.weight

    @property
    def bias(self) -> Tensor | None:
        """[out] b."""
        return self.linear.bias


def adapters(module: nn.Module, rank: int) -> nn.Module:
    """An Adapter for every linear map inside `module`, under the names that those have there."""
    if isinstance(module, nn.Linear):
        return Adapter(module.in_features, module.out_features, rank)
    inside = {
        name: adapters(child, rank)
        for name, child in module.named_children()
        if any(isinstance(part, nn.Linear) for part in child.modules())
    }
    return nn.ModuleDict(inside)


def adapted(module: Module, adapter: nn.Module) -> Module:
    """`module` with adapters, as `adapters` makes them, beside its linear maps."""
    twin = _shallow(module)
    for name, part in adapter.named_children():
        inside = module.get_submodule(name)
        twin._modules[name] = (
            AdaptedLinear(inside, part)  # type: ignore[arg-type]
            if isinstance(part, Adapter)
            else adapted(inside, part)
        )
    return twin


def _shallow(module: Module) -> Module:
    twin = object.__new__(type(module))
    twin.__dict__ = {**vars(module), "_modules": dict(module._modules)}
    # A compiled forward is bound to the module it was made from, and to its weights.
    twin._compiled_call_impl = None
    return twin
