"""What a training step minimises: a module around the model, so that one wrapper serves every process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from abbie_lens.losses import next_token_nll
from abbie_lens.model import HookedLoopedTransformer
from abbie_lens.state import State

from .recipe import Recipe


class Objective(nn.Module):
    """The recipe's loss of one batch, with the family's own penalty and that of the Jacobian."""

    def __init__(self, model: HookedLoopedTransformer, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(
        self,
        tokens: Tensor,
        counted: Tensor | None,
        n_iters: int | Sequence[int],
        progress: float,
    ) -> tuple[Tensor, Tensor]:
        """tokens [batch, pos], `counted` [batch, pos] tokens to predict (None: all), `progress` 0 to 1 of the run.

        `n_iters`: one depth, or one for each row. Returns (what is minimised, its next-token NLL in nats, detached).
        """
        if not isinstance(n_iters, int):
            return self._by_row(tokens, counted, n_iters, progress)
        model, recipe = self.model, self.recipe
        trained = recipe.trained_depths(n_iters)
        first = 0 if recipe.backprop_depth is None else n_iters - recipe.backprop_depth
        state = model.begin(tokens, n_iters)
        losses = []
        for k in range(n_iters + 1):
            if k:
                with torch.no_grad() if k <= first else nullcontext():
                    state = model.step(state)
            if k in trained and k >= first:
                losses.append(next_token_nll(model.readout(state), tokens, counted=counted))
        nll = torch.stack(losses).mean()
        loss = nll
        penalty = model.cfg.loop.penalty(state, progress)
        if penalty is not None:
            loss = loss + penalty
        if recipe.jacobian_weight and progress >= recipe.jacobian_from:
            w = recipe.jacobian_weight
            loss = (1 - w) * loss + w * jacobian_penalty(model, state)
        return loss, nll.detach()

    def _by_row(
        self, tokens: Tensor, counted: Tensor | None, depths: Sequence[int], progress: float
    ) -> tuple[Tensor, Tensor]:
        """Rows of one depth run together, so that any loop's truncation, penalty and trained read-outs count from
        each row's own end and no row is computed past it. A token weighs the same whatever its row's depth."""
        if len(set(depths)) == 1:
            return self(tokens, counted, depths[0], progress)
        own = torch.tensor(depths, device=tokens.device)
        total, total_nll = tokens.new_zeros((), dtype=torch.float32), 0.0
        n_all = len(tokens) if counted is None else counted[:, 1:].sum()
        for depth in sorted(set(depths)):
            rows = own == depth
            asked = None if counted is None else counted[rows]
            n = rows.sum() if asked is None else asked[:, 1:].sum()
            if n == 0:  # no token of these rows is predicted
                continue
            loss, nll = self(tokens[rows], asked, depth, progress)
            total = total + loss * (n / n_all)
            total_nll = total_nll + nll * (n / n_all)
        return total, torch.as_tensor(total_nll)


def jacobian_penalty(model: HookedLoopedTransformer, state: State) -> Tensor:
    """‖v^T J‖² averaged over sequences, J = dh_{k+1}/dh_k at the detached state, v a random unit vector.

    Its expectation is ‖J‖_F² / n, n the numbers in one sequence's state. Source: arXiv 2605.26733.
    """
    # The fused kernels have no second derivative on CPUs.
    with sdpa_kernel(SDPBackend.MATH):
        h = state.h.detach().requires_grad_()
        v = torch.randn_like(h)
        v = v / v.flatten(1).norm(dim=1)[:, None, None]
        state = model.cfg.loop.restart(model, state, h)
        (u,) = torch.autograd.grad(model.step(state).h, h, v, create_graph=True)
    return u.square().sum() / len(u)
