"""A looped model cut out of a plain one is, at its start, its definition in the plain model's own blocks."""

import pytest
import torch

from abbie_lens import errors, load
from abbie_lens.conversion.retrofit import cut
from abbie_lens.loops import AbbieD, Retrofit, Std
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, final_norm

HEAD, BODY, TAIL = [0, 1], [3, 4], [6]
close = dict(atol=5e-5, rtol=1e-5)


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def plain():
    """Seven different blocks in one stack, some of them in each stage."""
    return make(Std(), n_head_blocks=2, n_body_blocks=3, n_tail_blocks=2, n_iters=1, seed=4)


def stack(plain):
    return [*plain.head, *plain.body, *plain.tail]


@pytest.mark.parametrize("adapter", ["sum", "input", "random"])
@torch.no_grad()
def test_the_cut_model_is_its_definition(plain, tokens, adapter):
    model = cut(plain, HEAD, BODY, TAIL, adapter=adapter)
    chosen = {name: [stack(plain)[b] for b in numbers] for name, numbers in
              (("head", HEAD), ("body", BODY), ("tail", TAIL))}  # fmt: skip
    a = model.loop.adapter.weight
    h = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(3))
    e = blocks(chosen["head"], plain.embed.weight[tokens])
    for state in walk(model, tokens, 3, initial_state=h):
        torch.testing.assert_close(state.h, h, **close)
        logits = final_norm(plain, blocks(chosen["tail"], h)) @ plain.unembed.weight.T
        torch.testing.assert_close(model.readout(state), logits, **close)
        h = blocks(chosen["body"], torch.cat([h, e], -1) @ a.T)


@pytest.mark.parametrize("adapter", ["sum", "input"])
@torch.no_grad()
def test_one_iteration_is_the_plain_model_of_the_chosen_blocks(plain, tokens, adapter):
    model = cut(plain, [0, 1], [2, 3, 4], [5, 6], adapter=adapter)
    zeros = torch.zeros(2, 9, 32)
    expected = plain(tokens)
    torch.testing.assert_close(model(tokens, n_iters=1, initial_state=zeros), expected, **close)
    # The state it draws itself is small, but not nothing.
    drawn = model(tokens, n_iters=1)
    same = adapter == "input"
    torch.testing.assert_close(drawn, expected, atol=5e-5 if same else 0.5, rtol=0)
    assert same == torch.allclose(drawn, expected, atol=5e-5)
    deeper = model(tokens, n_iters=3)
    assert same == torch.allclose(deeper, expected, atol=5e-5)


@torch.no_grad()
def test_what_it_keeps_and_what_is_its_own(plain, tokens, tmp_path):
    before = plain(tokens)
    model = cut(plain, HEAD, BODY, TAIL, n_iters=3, loop=Retrofit(init_scale=0.0))
    cfg = model.cfg
    assert (cfg.n_head_blocks, cfg.n_body_blocks, cfg.n_tail_blocks, cfg.n_iters) == (2, 2, 1, 3)
    assert plain.cfg.tie_word_embeddings and not cfg.tie_word_embeddings
    assert cut(plain, [], [0], [], untie=False).cfg.tie_word_embeddings
    for parameter in model.parameters():
        parameter.zero_()
    assert torch.equal(plain(tokens), before), "weights are copied"
    model = cut(plain, HEAD, BODY, TAIL)
    again = load(model.save_pretrained(tmp_path / "cut"), device="cpu")
    assert torch.equal(again(tokens), model(tokens))


@torch.no_grad()
def test_positions_are_kept(tokens):
    plain = make(Std(), positional_embedding_type="standard", n_iters=1)
    model = cut(plain, [0], [1, 2], [3], adapter="input")
    torch.testing.assert_close(model(tokens, n_iters=1), plain(tokens), **close)


@torch.no_grad()
def test_a_loop_trained_as_one_gives_its_blocks_too(tokens):
    looped = make(AbbieD())
    model = cut(looped, [0], [1, 2], [3], adapter="input")
    torch.testing.assert_close(model(tokens, n_iters=1), looped(tokens, n_iters=1), **close)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (dict(head=[0], body=[7], tail=[6]), r"body=\[7\]: 7 is none of the blocks 0 to 6"),
        (dict(head=[0], body=[], tail=[6]), r"body=\[\]: expected at least one"),
        (dict(head=[-1], body=[1], tail=[]), r"head=\[-1\]: -1 is none"),
        (dict(head=[0], body=[1], tail=[], adapter="zero"), "adapter='zero': expected one of"),
    ],
)
def test_what_cannot_be_cut_is_named(plain, given, says):
    with pytest.raises(errors.InputError, match=says):
        cut(plain, **given)


def test_blocks_with_value_embeddings_are_refused():
    with pytest.raises(errors.InputError, match="value embeddings"):
        cut(make("parcae"), [0], [2], [4])
