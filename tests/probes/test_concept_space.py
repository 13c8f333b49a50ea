"""Entry into concept space and exit from it, on models in which both are planted."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AbbieD
from probes import bundle
from probes.concept_probes import probe_entry_and_exit
from probes.concept_space import entry_and_exit
from probes.labels import COUNTED
from tests.abbie_lens.families import LOOPS, make

R = 3
TEXTS = ["the cat sat on the mat", "the rat ran;"]


@pytest.fixture(scope="module")
def speaker(tiny_tokenizer):
    return lambda loop, **changes: make(
        loop, tokenizer=tiny_tokenizer, d_vocab=300, seed=7, **changes
    )


@pytest.fixture(scope="module")
def found(speaker):
    return entry_and_exit(speaker(AbbieD()), TEXTS, R)


def test_places_are_those_of_the_pass(speaker, found):
    assert found.places == ("embed", "head.0", "z@0", "z@1", "z@2", "z@3", "tail.0")
    assert (found.current_rank[0][found.valid] == 1).all()  # the embedding is nearest to itself
    assert np.isnan(found.current_rank[:, ~found.valid]).all()
    model = speaker(AbbieD())
    tokens, mask = model.tokenize(TEXTS)
    with torch.no_grad():
        log_p = model(tokens, n_iters=R, attention_mask=mask).log_softmax(-1)
    said = log_p[0, :-1].gather(-1, tokens[0, 1:, None])[:, 0].numpy()
    np.testing.assert_allclose(found.next_log_probability[-1, 0, :-1], said, rtol=1e-4, atol=1e-5)
    lens = probes.lens(model, TEXTS, R, kind="logit")
    np.testing.assert_array_equal(found.next_rank[2:6], lens.target_rank)


def test_where_nothing_is_done_the_token_stays_and_where_it_is_planted_the_next_one_enters(speaker):
    """Blocks that add nothing keep the token; a Head that takes it away, and a Tail that brings the next one in, show."""
    model = speaker(AbbieC(), tie_word_embeddings=False)
    with torch.no_grad():
        for block in (*model.head, *model.body, *model.tail):
            block.attn.o_proj.weight.zero_()
            block.mlp.out_proj.weight.zero_()
    still = entry_and_exit(model, TEXTS, R, control=False)
    assert (still.found["current"][:, 0] == 1).all()
    tokens, _ = model.tokenize(TEXTS[0])
    after = torch.roll(tokens, -1, 1)
    hooks = [
        ("head.0.hook_resid_post", lambda x, hook: torch.ones_like(x)),
        ("tail.0.hook_resid_post", lambda x, hook: model.unembed.weight[after]),
    ]
    with torch.no_grad():
        model.unembed.weight.copy_(torch.nn.functional.normalize(model.unembed.weight, dim=-1))
    with model.hooks(fwd_hooks=hooks):
        planted = entry_and_exit(model, TEXTS[0], R, control=False)
    assert planted.found["current"][0, 0] == 1 and planted.found["current"][2:6, 0].max() <= 0.5
    assert (planted.next_rank[-1, 0, :-1] == 1).all() and planted.found["next"][:-1, 0].max() <= 0.5


def test_a_probe_reads_the_current_token_from_the_embedding(speaker, tmp_path):
    model, rng = speaker(AbbieD()), np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "mat,"]
    documents = [" ".join(rng.choice(words, 12)) for _ in range(8)]
    counted = [model.to_str_tokens(text, prepend_bos=False) for text in documents]
    label = COUNTED["current_token"].count(counted, 5)
    told = []
    read = probe_entry_and_exit(model, documents, 1, n_tokens=5, progress=lambda *x: told.append(x))
    assert read.places == ("embed", "head.0", "z@0", "z@1", "tail.0") and told[-1][0] == told[-1][1]
    accuracy = read.accuracy("current")
    assert accuracy.shape == (5, 3) and accuracy[0, 0] == 1 == read.current.embedding[0]
    assert read.current.majority[0] < 0.7 and np.isfinite(accuracy[:, 0]).all()
    after_tail = probes.linear(
        model, documents, label=label, sites=("tail.0.hook_resid_post",), n_iters=1
    )
    np.testing.assert_allclose(accuracy[-1], after_tail.trained[0, 0])
    back = bundle.load(bundle.save({"probes": read}, tmp_path / "out")).results["probes"]
    assert back.to_frame().equals(read.to_frame()) and back.figure(theme="dark").data
    with pytest.raises(InputError, match="which='last'"):
        back.accuracy("last")


@pytest.mark.parametrize(
    "name", ["0pt", "huginn", "spiral", "hrm", "mor", "ponder-2", "parcae", "ouro"]
)
def test_loops_of_every_kind(speaker, name):
    model = speaker(LOOPS[name])
    read = entry_and_exit(model, TEXTS[0], 2, control=False)
    assert len(read.places) == 1 + len(model.head) + 3 + len(model.tail)
    assert np.isfinite(read.current_rank).all() and read.next_rank[..., :-1].min() >= 1


def test_it_reads_back_is_drawn_and_refuses(speaker, found, tmp_path):
    back = bundle.load(bundle.save({"concepts": found}, tmp_path / "out")).results["concepts"]
    assert back.to_frame().equals(found.to_frame()) and back.control.control is None
    assert len(found.to_frame()) == 2 * len(found.places) * found.valid.sum()
    for options in ({"view": "found"}, {"view": "tokens", "of": "next", "batch": 1}):
        assert back.figure(theme="dark", **options).data
    with pytest.raises(InputError, match="of='x'"):
        found.figure(view="tokens", of="x")
    model = speaker(AbbieD())
    with pytest.raises(InputError, match="n=1"):
        probe_entry_and_exit(model, TEXTS, n_tokens=1)
    assert set(found.per_token()) == {"log2_current_rank", "log2_next_rank", "next_log_probability"}
