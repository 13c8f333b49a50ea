"""The weight hash: which weights a result came from, equal after saving and loading."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from abbie_lens.files.offload import resident
from abbie_lens.files.weights import state_tensors

_known: WeakKeyDictionary[nn.Module, tuple[tuple, str]] = WeakKeyDictionary()


def weight_hash(model: nn.Module) -> str:
    """SHA-256, in hex, over names, dtypes, shapes and bytes of a model's tensors, tied ones once.

    Computed on the first call and again after the weights have changed in place or been replaced
    (an edit through `tensor.data` is invisible to torch's version counter, and so to this).
    """
    tensors = state_tensors(model)
    version = tuple(
        (n, t.dtype) if t.is_meta else (n, id(t), t.data_ptr(), t._version, t.dtype)
        for n, t in tensors.items()
    )
    known = _known.get(model)
    if known is None or known[0] != version:
        known = _known[model] = (version, tensor_hash(_Resident(model, tensors)))
    return known[1]


def cast_hash(model: nn.Module, dtype: torch.dtype) -> str:
    """The weight hash that the model has once its floating-point tensors are of `dtype`."""
    return tensor_hash(_Resident(model, state_tensors(model), dtype))


class _Resident(Mapping[str, Tensor]):
    """The tensors of a model, offloaded ones read one at a time, floating-point ones cast to `dtype`."""

    def __init__(
        self, model: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype | None = None
    ) -> None:
        self.model, self.tensors, self.dtype = model, tensors, dtype

    def __getitem__(self, name: str) -> Tensor:
        tensor = resident(self.model, name, self.tensors[name])
        return tensor.to(self.dtype) if self.dtype and tensor.is_floating_point() else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, over the sorted names, with dtype, shape and bytes of each tensor."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        raw = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()
