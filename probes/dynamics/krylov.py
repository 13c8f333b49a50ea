"""Leading eigenvalues of many matrices at once, of which only products with a vector are known: Arnoldi's iteration.

From s starts at once, v_1 … v_s, m products each, every one orthogonalised against all before it:

    A V_n = V_{n+s} H,   n = s m,   H_n y = θ y:   ‖A V_n y − θ V_n y‖ = ‖the last s rows of H, times y‖

θ are the Ritz values. A complex pair is a pair of them, which power iteration and Rayleigh quotients do not see. How far
θ may be from an eigenvalue is κ times the residual, κ the condition of θ in H_n (1 for a normal matrix, without bound for
a defective one), times the number of Ritz values that lie so near each other. What one start alone gives is Arnoldi's
iteration on H_n. Source: Saad, Numerical Methods for Large Eigenvalue Problems, chapters 3 and 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ritz:
    """Approximate eigenvalues of every matrix, largest modulus first; NaN where its products are not finite."""

    values: Tensor
    """[..., n] complex."""
    error: Tensor
    """[..., n] how far each may be from an eigenvalue, to first order."""
    by_start: Tensor
    """[start, ...] largest modulus that each start alone gives."""
    products: int
    """Products with A that were taken."""

    @property
    def radius(self) -> Tensor:
        """[...] largest modulus."""
        return self.values[..., 0].abs()


def leading(product: Callable[[Tensor], Tensor], starts: Tensor, m: int) -> Ritz:
    """Ritz values after m products from each of `starts` [start, ..., d], or d in all.

    `product` takes and gives [..., d] in float64.
    """
    s, d = starts.shape[0], starts.shape[-1]
    s = min(s, d)
    n = min(s * m, d)
    lead = starts.shape[1:-1]
    generator = torch.Generator().manual_seed(0)
    basis = starts.new_zeros(*lead, n + s, d)
    projected = starts.new_zeros(*lead, n + s, n)
    for i in range(s):
        basis[..., i, :], _ = _next(starts[i], basis[..., :i, :], generator)
    for j in range(n):
        w = product(basis[..., j, :])
        basis[..., j + s, :], along = _next(w, basis[..., : j + s, :], generator)
        projected[..., : j + s + 1, j] = along
    found = ritz(projected[..., :n, :], projected[..., n:, :], n)
    if s == 1:
        return found
    inner, unit = projected[..., :n, :], torch.eye(n, dtype=starts.dtype, device=starts.device)
    alone = [
        leading(lambda x: (inner @ x[..., None])[..., 0], unit[i].expand(1, *lead, n), m).radius
        for i in range(s)
    ]
    return Ritz(found.values, found.error, torch.stack(alone), n)


def ritz(matrix: Tensor, rest: Tensor, products: int) -> Ritz:
    """Eigenvalues of `matrix` [..., n, n]; `rest` [..., s, n] is what the compression leaves out of A V_n."""
    matrix, rest = matrix.cpu(), rest.cpu()
    broken = ~torch.isfinite(matrix).all(-1).all(-1)
    safe = torch.where(broken[..., None, None], torch.zeros_like(matrix), matrix)
    values, vectors = torch.linalg.eig(safe)
    condition = _condition(vectors)
    residual = (rest.to(vectors.dtype) @ vectors).norm(dim=-2) if rest.shape[-2] else 0.0
    rounding = torch.finfo(matrix.dtype).eps * matrix.shape[-1]
    rounding = rounding * torch.linalg.matrix_norm(safe)[..., None]
    one = condition * (residual + rounding)
    apart = (values[..., :, None] - values[..., None, :]).abs()
    near = (apart <= 10 * one[..., None]).sum(-1)
    order = values.abs().argsort(dim=-1, descending=True, stable=True)
    nan = torch.where(broken, float("nan"), 0.0)[..., None]
    values = values.gather(-1, order) + nan
    error = (one * near).gather(-1, order) + nan
    return Ritz(values, error, values[..., 0].abs()[None], products)


def _condition(vectors: Tensor) -> Tensor:
    """[..., n] κ of every eigenvalue: the lengths of its left and right eigenvector over their product."""
    inverse, info = torch.linalg.inv_ex(vectors)
    singular = (info != 0)[..., None] | ~torch.isfinite(inverse.abs()).all(-1)
    found = inverse.norm(dim=-1) * vectors.norm(dim=-2)
    return torch.where(singular, float("inf"), found)


def _next(w: Tensor, basis: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """w [..., d] as a unit vector orthogonal to basis [..., j, d], and its coefficients [..., j + 1].

    In an invariant subspace nothing of w is left: its eigenvalues are exact, and a drawn vector goes on from there,
    or zeros where the basis fills the space.
    """
    size = w.norm(dim=-1)
    rest, along = _orthogonal(w, basis)
    left = rest.norm(dim=-1)
    ended = left <= 100 * torch.finfo(w.dtype).eps * size
    coefficients = torch.cat([along, torch.where(ended, 0, left)[..., None]], -1)
    if bool(ended.any()):
        drawn = torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w)
        full = basis.shape[-2] >= w.shape[-1]
        other = torch.zeros_like(w) if full else _orthogonal(drawn, basis)[0]
        rest = torch.where(ended[..., None], other, rest)
    return rest / rest.norm(dim=-1, keepdim=True).clamp_min(1e-300), coefficients


def _orthogonal(w: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """w [..., d] without what lies along basis [..., j, d], twice for rounding, and what did [..., j]."""
    total = w.new_zeros(basis.shape[:-1])
    for _ in range(2):
        along = (basis @ w[..., None])[..., 0]
        w = w - (along[..., None, :] @ basis)[..., 0, :]
        total = total + along
    return w, total
