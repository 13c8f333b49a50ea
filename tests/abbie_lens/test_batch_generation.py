"""A batch of prompts of unequal length continues as each of them does alone."""

import pytest
import torch

from abbie_lens import halting
from abbie_lens.errors import InputError
from tests.abbie_lens.families import make

LENGTHS = (5, 9, 2)
N_NEW = 6


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(2)
    return [torch.randint(0, 100, (1, n), generator=generator) for n in LENGTHS]


def padded(prompts, left):
    """Tokens [batch, pos] and their mask."""
    width = max(LENGTHS)
    tokens = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, prompt in enumerate(prompts):
        n = prompt.shape[1]
        at = slice(width - n, width) if left else slice(n)
        tokens[row, at], mask[row, at] = prompt[0], 1
    return tokens, mask


KV = ("reuse", "recompute", "first", "last", "cyclic(2)", "full")
CASES = [("abbie-d", kv, ("kl", 0.05)) for kv in KV] + [
    ("ouro", "cyclic(3)", ("direction_distance", 0.4)),
    ("ponder", "reuse", ("direction_distance", 0.1)),
    ("hrm", "reuse", ("direction_distance", 0.02)),
    ("hrm", "reuse", None),
    ("flt", "reuse", None),
    ("mor", "reuse", None),
]


@pytest.mark.parametrize(("name", "kv", "rule"), CASES)
def test_each_row_is_what_it_is_alone(name, kv, rule, prompts):
    """Tokens and depths, whether drawn or greedy; every row with keys of its own depths."""
    model, r = make(name), 2 if name == "mor" else 4
    given = dict(n_iters=r, kv=kv, stop_at_eos=False)
    if rule is not None:
        given |= dict(halting=halting.policy(rule[0], threshold=rule[1]), return_exits=True)
    for seed, temperature in ((None, 0.0), (3, 1.0)):
        given["temperature"] = temperature
        tokens, mask = padded(prompts, left=seed is None)
        out = model.generate(tokens, N_NEW, attention_mask=mask, seed=seed, **given)
        for row, prompt in enumerate(prompts):
            own = None if seed is None else seed + row
            alone = model.generate(prompt, N_NEW, seed=own, **given)
            n = prompt.shape[1] + N_NEW
            if rule is None:
                assert torch.equal(out[row, -n:], alone[0])
                continue
            assert torch.equal(out[0][row, -n:], alone[0][0])
            assert torch.equal(out[1][row, 1 - n :], alone[1])
            assert (out[1][row, : 1 - n] == -1).all()
        if rule is not None:
            assert len(out[1].unique()) > 2, "tokens of one batch stop at different depths"


def test_texts_end_each_at_its_own_token(tiny_model, tiny_tokenizer):
    """What has ended is not run, and its text goes no further."""
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=len(tiny_tokenizer), initializer_range=0.2)
    texts = ["the cat", "the cat sat on the mat", "a"]
    given = dict(
        n_iters=3, seed=4, return_exits=True, halting=halting.policy("fixed_k", threshold=2)
    )
    logits_of = model.unembed.weight
    with torch.no_grad():  # the end token comes soon
        logits_of[tiny_tokenizer.eos_token_id] += 0.5 * logits_of.std()
    out, exits = model.generate(texts, 40, **given)
    alone = [model.generate(text, 40, **given | {"seed": 4 + i}) for i, text in enumerate(texts)]
    assert out == [text for text, _ in alone]
    assert [int((row >= 0).sum()) for row in exits] == [len(row) for _, row in alone]
    assert len({len(row) for _, row in alone}) > 1


def test_a_batch_says_what_it_cannot_do(prompts):
    model = make("abbie-d")
    tokens, mask = padded(prompts, left=True)
    with pytest.raises(InputError, match="stream=True: one prompt at a time; these are 3"):
        model.generate(tokens, 2, attention_mask=mask, stream=True)
    with pytest.raises(InputError, match="with a token in every row"):
        model.generate(tokens, 2, attention_mask=torch.zeros_like(mask))
    with pytest.raises(InputError, match="attention_mask: shape"):
        model.generate(tokens, 2, attention_mask=mask[:, 1:])
