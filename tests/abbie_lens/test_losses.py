"""The next-token loss against its definition, with and without padding."""

import pytest
import torch

from abbie_lens.losses import next_token_nll


@pytest.mark.parametrize("pad", [None, "left", "right"])
def test_loss_is_the_definition(pad):
    g = torch.Generator().manual_seed(0)
    logits, tokens = torch.randn(2, 6, 9, generator=g), torch.randint(0, 9, (2, 6), generator=g)
    mask = None if pad is None else torch.ones(2, 6, dtype=torch.long)
    if pad:
        mask[1, slice(0, 2) if pad == "left" else slice(4, 6)] = 0
    expected = torch.full((2, 5), float("nan"))
    for b in range(2):
        for t in range(5):
            if mask is None or (mask[b, t] and mask[b, t + 1]):
                expected[b, t] = -logits[b, t].log_softmax(-1)[tokens[b, t + 1]]
    per_token = next_token_nll(logits, tokens, mask, per_token=True)
    torch.testing.assert_close(per_token, expected, equal_nan=True)
    torch.testing.assert_close(next_token_nll(logits, tokens, mask), expected.nanmean())


def test_no_token_to_predict_is_nan():
    assert next_token_nll(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.long)).isnan()
