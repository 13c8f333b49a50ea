"""Reading out any states, whole stacks of them in one pass, whether a run made them or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from abbie_lens.components.value_embed import ValueEmbedding
from abbie_lens.context import make_context
from abbie_lens.errors import InputError
from abbie_lens.state import State

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


class DecodingMixin:
    """`decode` and `tail_output` for models with a Tail and a read-out."""

    def decode(
        self, z: Tensor, attention_mask: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Tail, final norm and unembedding of any z [..., batch, pos, d_model], all leading axes in one pass.

        Returns logits [..., batch, pos, d_vocab]; `attention_mask` [batch, pos]. `tokens` [batch, pos] are read by a
        Tail with value embeddings alone. Errors: InputError where they are needed and missing.
        """
        model = cast("HookedLoopedTransformer", self)
        with model.lock:
            return model._readout(self._decoding(z, attention_mask, tokens))[0].view(
                *z.shape[:-1], -1
            )

    def tail_output(
        self, z: Tensor, attention_mask: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """What the final norm reads of any z, [..., batch, pos, d_model]: `decode` without norm and unembedding.

        Arguments and errors are those of `decode`.
        """
        model = cast("HookedLoopedTransformer", self)
        with model.lock:
            state = self._decoding(z, attention_mask, tokens)
            return model.tail(state.z, state).view(z.shape)

    def _decoding(self, z: Tensor, attention_mask: Tensor | None, tokens: Tensor | None) -> State:
        """The State of which `z`, its leading axes as one batch, is read out."""
        model = cast("HookedLoopedTransformer", self)
        flat = z.reshape(-1, *z.shape[-2:])
        if tokens is None:
            if any(isinstance(part, ValueEmbedding) for part in model.tail.modules()):
                raise InputError(
                    "tokens: the Tail has value embeddings; decode needs [batch, pos]."
                )
            tokens = torch.zeros(z.shape[-3:-1], dtype=torch.long, device=z.device)
        tokens = tokens.repeat(flat.shape[0] // tokens.shape[0], 1)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat(flat.shape[0] // attention_mask.shape[0], 1)
        context = make_context(model.cfg, tokens, attention_mask, None, model.dtype, 0)
        return State(tokens, attention_mask, 0, 0, flat, flat, context)
