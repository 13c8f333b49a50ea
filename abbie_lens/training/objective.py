"""What a training step minimises: a module around the model, so that one wrapper serves every process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from abbie_lens.loops.shared.gate import exit_distribution, expected
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
        self,
        tokens: Tensor,
        counted: Tensor | None,
        n_iters: int | Sequence[int],
        progress: float,
        draw: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor]:
        """tokens [batch, pos], `counted` [batch, pos] tokens to predict (None: all), `progress` 0 to 1 of the run.

        `n_iters`: one depth, or one for each row; `draw`: (seed, step) of what the recipe draws.
        Returns (what is minimised, its next-token NLL in nats, detached).
        """
        if not isinstance(n_iters, int):
            return self._by_row(tokens, counted, n_iters, progress, draw)
        model, recipe, loop = self.model, self.recipe, self.model.cfg.loop
        trained = recipe.trained_depths(n_iters, *draw)
        first = 0 if recipe.backprop_depth is None else n_iters - recipe.backprop_depth
        by_exit = recipe.loss == "exit"
        state = begun = loop.scheduled(model.begin(tokens, n_iters), progress)
        losses, cdf = [], []
        for k in range(n_iters + 1):
            if k:
                with torch.no_grad() if k <= first else nullcontext():
                    state = model.step(state)
            if by_exit:
                cdf.append(loop.exit_cdf(model, state))
                if k == 0 < n_iters and not cdf[0].any():
                    # No token exits before the first iteration, so that read-out need not be paid for.
                    losses.append(torch.zeros_like(cdf[0][:, :-1]))
                    continue
            if k in trained and k >= first:
                logits = model.readout(state)
                losses.append(next_token_nll(logits, tokens, None, by_exit, counted))
                state = loop.graded(state, logits, counted)
            if recipe.window and 0 < k < n_iters and k % recipe.window == 0:
                state = detached(state, begun)
        each = torch.stack(losses)
        nll = expected_nll(torch.stack(cdf), each) if by_exit else each.mean()
        if by_exit and recipe.stage == "gate":
            own = loop.gate_loss(state, each.detach())
            if own is not None:
                return own, nll.detach()
        loss = nll
        penalty = loop.penalty(state, progress)
        if penalty is not None:
            loss = loss + penalty
        if recipe.jacobian_weight and progress >= recipe.jacobian_from:
            w = recipe.jacobian_weight
            loss = (1 - w) * loss + w * jacobian_penalty(model, state)
        return loss, nll.detach()

    def _by_row(
        self,
        tokens: Tensor,
        counted: Tensor | None,
        depths: Sequence[int],
        progress: float,
        draw: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Rows of one depth run together, so that any loop's truncation, penalty and trained read-outs count from
        each row's own end and no row is computed past it. A token weighs the same whatever its row's depth."""
        if len(set(depths)) == 1:
            return self(tokens, counted, depths[0], progress, draw)
        own = torch.tensor(depths, device=tokens.device)
        total, total_nll = tokens.new_zeros((), dtype=torch.float32), 0.0
        n_all = len(tokens) if counted is None else counted[:, 1:].sum()
        for depth in sorted(set(depths)):
            rows = own == depth
            asked = None if counted is None else counted[rows]
            n = rows.sum() if asked is None else asked[:, 1:].sum()
            if n == 0:  # no token of these rows is predicted
                continue
            loss, nll = self(tokens[rows], asked, depth, progress, draw)
            total = total + loss * (n / n_all)
            total_nll = total_nll + nll * (n / n_all)
        return total, torch.as_tensor(total_nll)


def expected_nll(cdf: Tensor, nll: Tensor) -> Tensor:
    """sum_k p_k NLL_k, mean over counted tokens: cdf [k, batch, pos] F_0 … F_r, nll [k, batch, pos - 1], NaN where not."""
    p = exit_distribution(cdf)[:, :, :-1]
    counted = ~nll[-1].isnan()
    # Filled, not left out: NaN times a gradient of 0 is NaN.
    return expected(p, nll.nan_to_num(0.0))[counted].mean()


def detached(state: State, begun: State) -> State:
    """`state` without gradient to earlier iterations: as if they had run without, so what `begin` put into the carry,
    an injected input, keeps its own.
    """
    carry = {
        name: value if value is begun.carry.get(name) else _detached(value)
        for name, value in state.carry.items()
    }
    return state.replace(h=state.h.detach(), z=state.z.detach(), carry=carry)


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {name: _detached(inner) for name, inner in value.items()}
    return tuple(map(_detached, value)) if isinstance(value, tuple) else value


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
