"""What a training step minimises: a module around the model, so that one wrapper serves every process."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from abbie_lens.loops.gate import exit_distribution, expected
from abbie_lens.losses import next_token_nll
from abbie_lens.model import HookedLoopedTransformer
from abbie_lens.state import State

from .recipe import Recipe


class Objective(nn.Module):
    """The recipe's loss of one batch, with the family's own penalty and that of the Jacobian.

    In stage `gate` a family whose gate has a loss of its own minimises that alone.
    """

    def __init__(self, model: HookedLoopedTransformer, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe

    def forward(
        self, tokens: Tensor, counted: Tensor | None, n_iters: int, progress: float
    ) -> tuple[Tensor, Tensor]:
        """tokens [batch, pos], `counted` [batch, pos] tokens to predict (None: all), `progress` 0 to 1 of the run.

        Returns (what is minimised, its next-token NLL in nats, detached).
        """
        model, recipe = self.model, self.recipe
        trained = recipe.trained_depths(n_iters)
        first = 0 if recipe.backprop_depth is None else n_iters - recipe.backprop_depth
        state = model.begin(tokens, n_iters)
        by_exit = recipe.loss == "exit"
        losses, cdf = [], []
        for k in range(n_iters + 1):
            if k:
                with torch.no_grad() if k <= first else nullcontext():
                    state = model.step(state)
            if by_exit:
                cdf.append(model.cfg.loop.exit_cdf(model, state))
                if k == 0 < n_iters and not cdf[0].any():
                    # No token exits before the first iteration, so that read-out need not be paid for.
                    losses.append(torch.zeros_like(cdf[0][:, :-1]))
                    continue
            if k in trained and k >= first:
                losses.append(next_token_nll(model.readout(state), tokens, None, by_exit, counted))
        if by_exit:
            each = torch.stack(losses)
            nll = expected_nll(torch.stack(cdf), each)
            if recipe.stage == "gate":
                own = model.cfg.loop.gate_loss(state, each.detach())
                if own is not None:
                    return own, nll.detach()
        else:
            nll = torch.stack(losses).mean()
        loss = nll
        penalty = model.cfg.loop.penalty(state, progress)
        if penalty is not None:
            loss = loss + penalty
        if recipe.jacobian_weight and progress >= recipe.jacobian_from:
            w = recipe.jacobian_weight
            loss = (1 - w) * loss + w * jacobian_penalty(model, state)
        return loss, nll.detach()


def expected_nll(cdf: Tensor, nll: Tensor) -> Tensor:
    """sum_k p_k NLL_k, mean over counted tokens: cdf [k, batch, pos] F_0 … F_r, nll [k, batch, pos - 1], NaN where not."""
    p = exit_distribution(cdf)[:, :, :-1]
    counted = ~nll[-1].isnan()
    # Filled, not left out: NaN times a gradient of 0 is NaN.
    return expected(p, nll.nan_to_num(0.0))[counted].mean()


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
