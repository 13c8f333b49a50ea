"""The derivative of one iteration at a frozen context: the whole sequence's, or every token's own block.

    step        f(h) = step(h) at a given State: all that it carries besides h stays as it is
    direction   g(x) = u(f(s u(x))),  s = ‖h_k‖ of every token,  u(x) = x/‖x‖,  at x = u(h_k)

J v is a product in forward mode. w J, in reverse mode, costs a quarter of it once the pass is recorded, and J and its
transpose have the same spectrum: whoever wants eigenvalues alone takes that. The diagonal block of token t, ∂h_{k+1,t}/∂h_{k,t}, is its action on
a change of h_{k,t} alone, read off at t alone. `OthersFrozen` gives all of them in one product where the model's attention
lets it, which is tried against the definition; otherwise every token takes a product of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from abbie_lens.errors import InputError
from probes.dynamics.frozen import OthersFrozen
from probes.dynamics.restarts import restarted

Map = Literal["step", "direction"]
MAPS: tuple[Map, ...] = ("step", "direction")
CHUNK = 32
"""Tangents that go through the model at a time."""
AGREEMENT = 1e-6
"""Relative difference up to which two ways to compute a product in float64 are the same."""


def step_map(model: Any, state: Any) -> Callable[[Tensor], Tensor]:
    """h [batch, pos, d] -> the next h, for the context of `state`."""
    return lambda h: model.step(restarted(model, state, h)).h


def map_at(model: Any, state: Any, of: Map) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The map `of` at the context of `state`, and its point there: h_k, or u(h_k), [batch, pos, d]. Errors: InputError."""
    if of not in MAPS:
        raise InputError(f"map={of!r}: expected one of {', '.join(MAPS)}.")
    # A drawn h_0 is one tensor for the whole batch.
    f, h = step_map(model, state), state.h.detach().contiguous()
    if of == "step":
        return f, h
    size = h.norm(dim=-1, keepdim=True)
    return lambda x: unit(f(size * unit(x))), h / size


def unit(x: Tensor) -> Tensor:
    """u(x) = x/‖x‖ over the last axis."""
    return x / x.norm(dim=-1, keepdim=True)


class StepJacobian:
    """J of one iteration, `step` or `direction`, at h_k of `state`; the model should be in float64.

    Errors: InputError for an unknown map.
    """

    def __init__(self, model: Any, state: Any, of: Map = "step") -> None:
        self._lock = getattr(model, "lock", None) or nullcontext()
        self._f, self.point = map_at(model, state, of)
        """[batch, pos, d] where the map is differentiated."""
        self._in_one_pass: bool | None = None
        self._recorded: dict[bool, tuple[Tensor, Tensor]] = {}

    @property
    def in_one_pass(self) -> bool:
        """Whether all diagonal blocks are applied in one product; measured at the middle and the last position."""
        if self._in_one_pass is None:
            self._in_one_pass = self._agrees()
        return self._in_one_pass

    def apply(self, v: Tensor) -> Tensor:
        """J v of tangents v [n, batch, pos, d] of the whole sequence."""
        with self._lock, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            return self._products(v)

    def blocks(self, v: Tensor) -> Tensor:
        """[n, batch, pos, d] -> the same: every token's diagonal block times its own vector."""
        if self.in_one_pass:
            with self._lock, torch.no_grad(), OthersFrozen(v.shape[-2]):
                return self._products(v)
        return self._one_by_one(self.apply, v, range(v.shape[-2]))

    def apply_transposed(self, w: Tensor) -> Tensor:
        """w J of cotangents w [n, batch, pos, d] of the whole sequence."""
        return self._pulled_back(w, frozen=False)

    def blocks_transposed(self, w: Tensor) -> Tensor:
        """[n, batch, pos, d] -> the same: every token's own vector times its diagonal block."""
        if self.in_one_pass:
            return self._pulled_back(w, frozen=True)
        return self._one_by_one(self.apply_transposed, w, range(w.shape[-2]))

    def dense_blocks(self) -> Tensor:
        """[batch, pos, d, d] the diagonal blocks themselves, d products."""
        width = self.point.shape[-1]
        basis = torch.eye(width, dtype=self.point.dtype, device=self.point.device)
        rows = self.blocks_transposed(basis[:, None, None].expand(width, *self.point.shape))
        return rows.permute(1, 2, 0, 3)

    def dense(self) -> Tensor:
        """[batch, pos d, pos d] the whole Jacobian of every sequence, pos d products."""
        batch, pos, width = self.point.shape
        basis = torch.eye(pos * width, dtype=self.point.dtype, device=self.point.device)
        w = basis.view(-1, 1, pos, width).expand(-1, batch, -1, -1)
        return self.apply_transposed(w).flatten(2).transpose(0, 1)

    def _products(self, v: Tensor) -> Tensor:
        product = lambda t: jvp(self._f, (self.point,), (t,))[1]  # noqa: E731
        if v.shape[0] == 1:
            return product(v[0])[None]
        return vmap(product, chunk_size=CHUNK)(v)

    def _pulled_back(self, w: Tensor, frozen: bool) -> Tensor:
        x, y = self._record(frozen)
        if y.grad_fn is None:
            return torch.zeros_like(w)
        with self._lock:
            rows = [
                torch.autograd.grad(y, x, one, retain_graph=True, materialize_grads=True)[0]
                for one in w
            ]
        return torch.stack(rows)

    def _record(self, frozen: bool) -> tuple[Tensor, Tensor]:
        if frozen not in self._recorded:
            with (
                self._lock,
                torch.enable_grad(),
                OthersFrozen(self.point.shape[-2]) if frozen else nullcontext(),
            ):
                x = self.point.clone().requires_grad_()
                self._recorded[frozen] = x, self._f(x)
        return self._recorded[frozen]

    @staticmethod
    def _one_by_one(product: Callable[[Tensor], Tensor], v: Tensor, positions: Any) -> Tensor:
        """The definition: a vector at one position, read off there; zeros at the others."""
        out = torch.zeros_like(v)
        for t in positions:
            alone = torch.zeros_like(v)
            alone[:, :, t] = v[:, :, t]
            out[:, :, t] = product(alone)[:, :, t]
        return out

    def _agrees(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        shape, pos = (1, *self.point.shape), self.point.shape[-2]
        w = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.point)
        try:
            found = self._pulled_back(w, frozen=True)
        except ValueError:
            return False
        at = sorted({pos // 2, pos - 1})
        expected = self._one_by_one(self.apply_transposed, w, at)[:, :, at]
        defined = torch.isfinite(expected)
        if not bool(defined.any()):
            return False
        off = (found[:, :, at] - expected)[defined].abs().max()
        return bool(off <= AGREEMENT * expected[defined].abs().max())
