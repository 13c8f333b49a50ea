"""Tokens that the tests of loop families run on."""

import pytest
import torch


@pytest.fixture(scope="session")
def tokens():
    """[2, 9] token ids; no chunk size but 1, 3 and 9 divides their number."""
    return torch.randint(0, 100, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def walk():
    """`walk(model, tokens, n_iters, **given)`: the States after 0 … n_iters iterations."""

    @torch.no_grad()
    def states(model, tokens, n_iters, **given):
        found = [model.begin(tokens, n_iters, **given)]
        for _ in range(n_iters):
            found.append(model.step(found[-1]))
        return found

    return states
