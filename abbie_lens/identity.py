"""Who a model is: where and in which dtype its weights are, what results say of it, and its random twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, cast

import torch

from abbie_lens.info import ModelInfo

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


class IdentityMixin:
    """Properties of a model with parameters and a `cfg`."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return cast("HookedLoopedTransformer", self).embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return cast("HookedLoopedTransformer", self).embed.weight.dtype

    def info(self) -> ModelInfo:
        """Who this model is: for results and exports."""
        from abbie_lens.files.hashing import weight_hash

        model = cast("HookedLoopedTransformer", self)
        n_params = sum(p.numel() for p in model.parameters())
        return ModelInfo(
            model.cfg.model_name,
            model.cfg.loop.label,
            weight_hash(model),
            n_params,
            model.cfg.n_iters,
            str(model.dtype).removeprefix("torch."),
            model.cfg.loop.counts,
        )

    def randomized(self, seed: int = 0) -> Self:
        """The random-initialisation control: same architecture and tokenizer, fresh weights."""
        model = cast("HookedLoopedTransformer", self)
        fresh = type(model)(
            model.cfg.replace(
                seed=seed, model_name=f"{model.cfg.model_name} (random initialisation)"
            ),
            model.tokenizer,
        )
        return cast("Self", fresh.to(device=model.device, dtype=model.dtype).eval())
