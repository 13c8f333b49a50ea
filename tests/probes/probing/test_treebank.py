"""Structural probes of a model on a treebank: every baseline in the result, sentences left out are told."""

import dataclasses

import numpy as np
import pytest

import probes
from abbie_lens.errors import InputError
from probes import bundle, labels
from probes.probing.tree_words import LONGEST, TreeWords
from probes.readings import structural as readings

WORDS = ["the", "cat", "sat", "mat", "and", "rat", "ran"]


def treebank(lengths, seed=0):
    """Documents of two sentences; the head of a word is any word before it."""
    rng, lines = np.random.default_rng(seed), []
    for n in lengths:
        for first in (True, False):
            lines += ["# newdoc"] if first else []
            heads = [0, *(int(rng.integers(1, i + 1)) for i in range(1, n))]
            lines += [f"{i}\t{rng.choice(WORDS)}\t_\tX\t_\t_\t{head}\tdep\t_\t_" for i, head in enumerate(heads, start=1)]  # fmt: skip
            lines.append("")
    return labels.parse_conllu("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


@pytest.fixture(scope="module")
def result(model):
    sites = ("loop.hook_state", "head.0.hook_resid_post")
    return probes.structural(model, treebank([5] * 7 + [LONGEST + 1]), sites=sites, n_iters=2, rank=2, steps=3)  # fmt: skip


def test_every_baseline_is_in_the_result(result):
    assert result.trained.shape == result.untrained.shape == result.shuffled.shape == (2, 3, 3, 3)
    np.testing.assert_array_equal(result.head_output, result.trained[0, 0])
    # The Head's last block is what the loop begins with.
    np.testing.assert_array_equal(result.trained[1, 0], result.trained[0, 0])
    assert np.isnan(result.trained[1, 1:]).all()
    assert result.random_tree == pytest.approx(2 / 5)
    assert result.too_long + result.cut == 2 and sum(result.n_sentences) == 14
    frame = result.to_frame()
    assert set(frame.condition) == {"trained", "untrained", "shuffled", "embedding", "head_output", "chain", "random_tree"}  # fmt: skip
    assert len(frame) == 3 * 3 * 4 + 3 * 3 + 1
    assert result.weights["loop.hook_state@2/depth"].shape[0] == 2


def test_it_reads_back_from_a_bundle_and_is_drawn(result, tmp_path):
    kept = bundle.save({"structural": result}, tmp_path / "out")
    back = bundle.load(kept).results["structural"]
    assert back.to_frame().equals(result.to_frame())
    fig = back.figure(theme="dark", site="head.0.hook_resid_post")
    assert {"random tree", "each word joined to the next", "permuted trees"} <= {trace.name for trace in fig.data}  # fmt: skip
    said = " ".join(str(note.text).replace("<br>", " ") for note in fig.layout.annotations)
    assert f"of more than {LONGEST} words" in said or "in two windows" in said
    with pytest.raises(InputError, match="site="):
        result.figure(site="loop.hook_stat")


def test_the_sentence_names_the_best_baseline(result):
    told = np.full_like(result.trained, 0.9)
    better = dataclasses.replace(result, trained=told)
    chained = dataclasses.replace(result, chain=np.ones_like(result.chain))
    assert "90.0%, above the best baseline" in readings.said(better)
    assert "below the best baseline (joining each word to the next 100.0%)" in readings.said(
        dataclasses.replace(chained, trained=told)
    )


def test_words_are_those_of_whole_sentences():
    bank = treebank([3] * 4)
    words, text = TreeWords(bank), bank.documents[1]
    spans = np.array([(w.start, w.end) for s in bank.sentences for w in s.words if s.document == 1])
    whole = words.of(1, [], spans)
    assert whole.tolist() == list(range(6, 12))
    # the text ends in its second sentence, which is therefore not read
    assert words.of(1, [], spans[:-1]).tolist() == [6, 7, 8, -1, -1]
    assert text


def test_bad_input_is_named(model):
    with pytest.raises(InputError, match="piece='all'"):
        probes.structural(model, treebank([3] * 6), piece="all")
    with pytest.raises(InputError, match="at least 4"):
        probes.structural(model, treebank([LONGEST + 1] * 6))
    with pytest.raises(InputError, match="n_iters=0"):
        probes.structural(model, treebank([3] * 6), n_iters=0)
