"""The read-out matrix of a bridged model, as our own models offer theirs: for lenses that skip the Tail."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class BridgedUnembed:
    """[..., d_model] -> [..., d_vocab], with the soft cap that some models put on their logits.

    Factors on logits that a model applies elsewhere in its forward (Cohere, Granite) are not in it.
    """

    def __init__(self, component: Any, soft_cap: float) -> None:
        self.component, self.soft_cap = component, soft_cap

    def __call__(self, x: Tensor) -> Tensor:
        return self._capped(self.component(x))

    def plain(self, x: Tensor) -> Tensor:
        """The same map; no site fires."""
        return self._capped(self.component.original_component(x))

    def _capped(self, logits: Tensor) -> Tensor:
        return self.soft_cap * (logits / self.soft_cap).tanh() if self.soft_cap > 0 else logits

    @property
    def weight(self) -> Tensor:
        """[d_vocab, d_model]."""
        return self.component.original_component.weight

    @property
    def W_U(self) -> Tensor:
        """[d_model, d_vocab], TransformerLens' layout."""
        return self.weight.T
