"""Tokens that the tests of loop families run on."""

import pytest
import torch


@pytest.fixture(scope="session")
def tokens():
    """[2, 9] token ids; no chunk size but 1, 3 and 9 divides their number."""
    return torch.randint(0, 100, (2, 9), generator=torch.Generator().manual_seed(1))
