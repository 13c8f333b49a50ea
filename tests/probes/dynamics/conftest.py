"""Linear maps whose spectrum is prescribed, as models."""

import pytest
import torch

SPECTRA = {
    "real": torch.diag(torch.tensor([0.9, -0.5, 0.3, 0.1], dtype=torch.float64)),
    "pair": torch.block_diag(
        torch.tensor([[0.0, -0.9], [0.9, 0.0]], dtype=torch.float64),
        torch.diag(torch.tensor([0.4, 0.2], dtype=torch.float64)),
    ),
    "defective": torch.tensor(
        [[0.8, 1, 0, 0], [0, 0.8, 1, 0], [0, 0, 0.8, 0], [0, 0, 0, 0.1]], dtype=torch.float64
    ),
}
"""Matrices with eigenvalues 0.9, -0.5, 0.3, 0.1; ±0.9 i, 0.4, 0.2; 0.8 three times with one eigenvector, 0.1."""
MODULI = {
    "real": [0.9, 0.5, 0.3, 0.1],
    "pair": [0.9, 0.9, 0.4, 0.2],
    "defective": [0.8, 0.8, 0.8, 0.1],
}


@pytest.fixture(scope="session")
def skewed():
    """`skewed(name)`: the matrix of that spectrum in a basis that is not orthogonal."""

    def make(name):
        basis = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return basis @ SPECTRA[name] @ torch.linalg.inv(basis)

    return make


@pytest.fixture(scope="session")
def linear(iterated, skewed):
    """`linear(name)`: h -> A h, three tokens."""
    starts = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def make(name):
        matrix = skewed(name)
        return iterated(lambda h, k: h @ matrix.T, starts)

    return make
