"""A model from its config and tensors that must fit it, each of which is put in its place when it is read.

The model is made without memory and filled tensor by tensor, so that loading takes the model and the largest stored
tensor, not the model twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import CheckpointError
from abbie_lens.files.memory_plan import MemoryPlan, plan_memory
from abbie_lens.files.offload import Offloaded
from abbie_lens.files.placement import Placement
from abbie_lens.files.weights import state_tensors

Model = TypeVar("Model", bound=Any)
Shapes = Mapping[str, tuple[int, ...]]


class Draft(Generic[Model]):
    """A model that has no memory yet."""

    def __init__(self, model_class: type[Model], cfg: LoopedConfig) -> None:
        self.model_class, self.cfg = model_class, cfg
        with torch.device("meta"):
            self.model: Model = model_class(cfg.replace(seed=None))
        self.model.cfg = cfg
        self._slots = state_tensors(self.model)
        holder = {id(tensor): name for name, tensor in self._slots.items()}
        everything = self.model.state_dict(keep_vars=True)
        self.expected: dict[str, tuple[int, ...]] = {
            name: tuple(slot.shape) for name, slot in self._slots.items()
        }
        """Shapes that a checkpoint of this config holds, by name; tied tensors once."""
        self.aliases = {n: holder[id(t)] for n, t in everything.items() if n not in self._slots}
        """Each further name of a tied tensor, with the name that holds it."""
        self.filled: set[str] = set()
        self._wrong: list[str] = []
        self.to(Placement(torch.device("cpu")))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The same under every name."""
        return {**self.expected, **{a: self.expected[h] for a, h in self.aliases.items()}}

    def to(self, placement: Placement) -> Self:
        """Say where its tensors will be, before the first is put."""
        self.placement, self._offloaded = placement, Offloaded(placement)
        return self

    def memory(
        self, stored: Iterable[int], n_iters: int | None = None, n_ctx: int | None = None
    ) -> MemoryPlan:
        """What loading takes where the stored tensors have these sizes in bytes, and a run afterwards. Errors: InputError."""
        sizes: dict[str, int] = {}
        for name, slot in self._slots.items():
            at = self.placement.of(name)
            sizes[at] = sizes.get(at, 0) + slot.numel() * slot.element_size()
        return plan_memory(self.model, self.placement, sizes, stored, n_iters, n_ctx)

    def put(self, name: str, tensor: Tensor) -> bool:
        """Fill one tensor, in the model's dtype; False if the tied one it stands for has other values already.

        A tensor of another shape is noted for `require_fit`.
        """
        name = self.aliases.get(name, name)
        slot = self._slots[name]
        if tuple(tensor.shape) != self.expected[name]:
            self._wrong.append(wrong_shape(name, tuple(tensor.shape), self.expected[name]))
            return True
        if name in self.filled:
            held = self._offloaded.get(name, slot)
            return held.equal(tensor.to(device=held.device, dtype=held.dtype))
        self.filled.add(name)
        with torch.no_grad():
            if self.placement.offloads(name):
                self._offloaded.keep(name, tensor.to(slot.dtype))
                return True
            at = torch.device(self.placement.of(name))
            real = torch.empty(slot.shape, dtype=slot.dtype, device=at).copy_(tensor)
            if isinstance(slot, nn.Parameter):
                real = nn.Parameter(real, requires_grad=slot.requires_grad)
            torch.utils.swap_tensors(slot, real)  # in place: all that hold the slot now hold this
        return True

    def require_fit(self, where: object) -> None:
        """Errors: CheckpointError naming every tensor whose shape is not the config's."""
        require_fit(self._wrong, where)

    def finish(self, tokenizer: Any = None) -> Model:
        """The model in eval mode. Tensors that were not put are those of a fresh model of this config."""
        model = self.model
        if missing := self.expected.keys() - self.filled:
            with torch.random.fork_rng(devices=[]):  # must not move the caller's random numbers
                fresh = state_tensors(self.model_class(self.cfg))
            for name in missing:
                self.put(name, fresh[name])
        for module in model.modules():
            if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
                module.reset_buffers(self.placement.main)
        self._offloaded.attach(model)
        model.tokenizer = tokenizer
        return model.eval()

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While tensors are put: an error takes away what was written so far."""
        try:
            yield
        except BaseException:
            self._offloaded.discard()
            raise


def wrong_shape(name: str, found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What is said of a tensor that has another shape than the config's."""
    return f"{name} is {list(found)}, the config says {list(expected)}"


def require_fit(wrong: list[str], where: object) -> None:
    """Errors: CheckpointError naming all."""
    if wrong:
        raise CheckpointError(f"{where}: weights do not fit the config: {'; '.join(wrong)}.")


def check_shapes(stored: Shapes, expected: Shapes, where: object) -> None:
    """Errors: CheckpointError naming every tensor whose shape is not the config's."""
    require_fit(
        [
            wrong_shape(name, shape, expected[name])
            for name, shape in stored.items()
            if name in expected and shape != expected[name]
        ],
        where,
    )
