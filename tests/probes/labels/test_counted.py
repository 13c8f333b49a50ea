"""Labels whose classes are counted from the text."""

import numpy as np
import pytest

import probes
from abbie_lens.errors import InputError
from probes.labels import COUNTED, find_label

TOKENS = ["<|endoftext|>", " the", " cat", " the", " mat", " the", " cat", "\n"]


def test_most_frequent_tokens_are_told_apart_and_special_ones_are_not():
    label = COUNTED["current_token"].count([TOKENS], n=2)
    assert label.classes == (" the", " cat")
    assert label(TOKENS).tolist() == [-1, 0, 1, 0, -1, 0, 1, -1]
    assert COUNTED["next_token"].count([TOKENS], 2)(TOKENS).tolist() == [0, 1, 0, -1, 0, 1, -1, -1]
    moved = COUNTED["previous_token"].count([TOKENS], 2)(TOKENS)
    assert moved.tolist() == [-1, -1, 0, 1, 0, -1, 0, 1]


def test_ties_do_not_depend_on_the_order_of_the_documents():
    documents = [["b", "a"], ["c", "b", "a"], ["d", "c"]]
    one, other = (COUNTED["current_token"].count(d, 2) for d in (documents, documents[::-1]))
    assert one.classes == other.classes == ("a", "b")


def test_frequency_bands_hold_equal_shares_of_the_text():
    rng = np.random.default_rng(0)
    tokens = [str(number) for number in rng.zipf(1.5, 4000)]
    label = COUNTED["token_frequency"].count([tokens])
    share = np.bincount(label(tokens), minlength=5) / len(tokens)
    most = max(map(tokens.count, set(tokens))) / len(tokens)
    assert (np.abs(share - 0.2) <= most).all() and share.sum() == 1
    assert label(["1"])[0] == 4 and label(["never seen"])[0] == -1


@pytest.mark.parametrize(
    "n, documents, said", [(1, [TOKENS], "n=1"), (5, [["a", "a"]], "1 different")]
)
def test_fewer_than_two_tokens_are_refused(n, documents, said):
    with pytest.raises(InputError, match=said):
        COUNTED["current_token"].count(documents, n)


def test_names_that_need_more_than_a_text_say_what():
    with pytest.raises(InputError, match="label='upos': needs a treebank"):
        find_label("upos")
    with pytest.raises(InputError, match="Nearest: next_token"):
        find_label("next_tokens")


def test_a_probe_reads_which_token_this_is_from_its_embedding(tiny_model, tiny_tokenizer):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    rng = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on"]
    documents = [" ".join(rng.choice(words, 30)) for _ in range(6)]
    result = probes.linear(model, documents, label="current_token", n_iters=1)
    assert result.label == "current_token" and len(result.classes) >= 4
    assert result.embedding[0] > 0.95 > result.majority[0]
