"""What a run is asked for, checked: tokens, their mask, the depth, a state to begin from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from abbie_lens.errors import InputError

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


class AskedMixin:
    """Methods of a model with `cfg` and `as_tokens`."""

    def checked(
        self,
        tokens: Any,
        attention_mask: Tensor | None,
        n_iters: int | None,
        initial_state: Tensor | None = None,
        seed: int | None = None,
    ) -> tuple[Tensor, Tensor | None, int]:
        """Token ids [batch, pos], their mask, and the depth, of what a run was asked for. Errors: InputError, DepthError."""
        model = cast("HookedLoopedTransformer", self)
        tokens, attention_mask = model.as_tokens(tokens, attention_mask)
        n_iters = model.depth(n_iters)
        if (initial_state is not None or seed is not None) and not model.cfg.loop.draws_state:
            raise InputError(
                f"initial_state, seed: {model.cfg.loop.family} draws no initial state; replace the whole State to restart from another."
            )
        expected = (*tokens.shape, model.cfg.d_model)
        if initial_state is not None and initial_state.shape != expected:
            raise InputError(
                f"initial_state: shape {tuple(initial_state.shape)}; expected [batch, pos, d_model] = {expected}."
            )
        return tokens, attention_mask, n_iters

    def depth(self, n_iters: int | None) -> int:
        """The planned depth: `n_iters`, or the trained one if None. Errors: InputError, DepthError."""
        model = cast("HookedLoopedTransformer", self)
        n_iters = model.cfg.n_iters if n_iters is None else n_iters
        if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 0:
            raise InputError(f"n_iters={n_iters!r}: expected an integer >= 0.")
        model.cfg.loop.check_depth(n_iters)
        return n_iters
