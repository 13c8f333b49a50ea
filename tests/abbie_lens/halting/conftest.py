"""A batch of tokens, and padding on both sides."""

import pytest
import torch

from tests.abbie_lens.halting.dense import BATCH, POS


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 100, (BATCH, POS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def mask():
    """Left padding in one row, right padding in another."""
    mask = torch.ones(BATCH, POS, dtype=torch.long)
    mask[0, :4], mask[1, -3:] = 0, 0
    return mask
