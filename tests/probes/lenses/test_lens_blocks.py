"""Rows of blocks against the cache, against TransformerLens on the unrolled model, and batched against one by one."""

import numpy as np
import pytest
import torch
from transformer_lens.tools.analysis.logit_lens import logit_lens

import probes
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, Std
from probes import decoding
from probes.lenses import TunedLens
from tests.abbie_lens.families import LOOPS, make

R = 2


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(100, (2, 7), generator=torch.Generator().manual_seed(0))


def probabilities(lens):
    """[row, batch, pos, vocab] put together from a result that kept the whole vocabulary."""
    full = np.empty_like(lens.top_probabilities)
    np.put_along_axis(full, lens.top_ids, lens.top_probabilities, -1)
    return full


@pytest.mark.parametrize("loop", [Std(), AbbieC()], ids=["std", "abbie-c"])
def test_the_logit_lens_is_transformer_lens_own_on_the_unrolled_model(tiny_model, tokens, loop):
    model = tiny_model(loop, initializer_range=0.2)
    ours = probes.lens(model, tokens, R, kind="logit", blocks="all", top_k=100)
    _, cache = model.run_with_cache(tokens, n_iters=R)
    unrolled = cache.unroll()
    theirs = logit_lens(unrolled.model, cache=unrolled, positions=None).values
    blocks = [i for i in range(len(ours.addresses)) if i not in ours.readouts]
    # Theirs: the embedding, then the stream after every layer.
    assert len(blocks) == len(theirs) - 1 == 1 + 2 * R + 1
    np.testing.assert_allclose(
        probabilities(ours)[blocks], theirs[1:].softmax(-1).detach().numpy(), atol=1e-5
    )


@pytest.mark.parametrize("name", LOOPS)
def test_block_rows_are_what_the_cache_holds(name):
    model = make(name)
    tokens = torch.arange(5)[None] % model.cfg.d_vocab
    if model.cfg.loop.family in ("spiral", "ponder-2"):
        with pytest.raises(InputError, match="reads other rows than the tokens"):
            probes.lens(model, tokens, R, kind="logit", blocks=True)
        return
    lens = probes.lens(model, tokens, R, kind="logit", blocks=True, top_k=1)
    plain = probes.lens(model, tokens, R, kind="logit", top_k=1)
    np.testing.assert_array_equal(lens.entropy[lens.readouts], plain.entropy)
    assert plain.addresses == tuple(f"loop.hook_readout@{k}" for k in range(R + 1))
    _, cache = model.run_with_cache(tokens, n_iters=R)
    low = getattr(model.cfg.loop, "low_cycles", None)
    for address, probability in zip(lens.addresses, lens.top_probabilities[..., 0], strict=True):
        site, _, k = address.partition("@")
        if low is not None and site.startswith("body.") and model.rows(site, R) != R:
            address = f"{site}@{(int(k) + 1) * low - 1}"  # the last low cycle of the outer one
        with torch.no_grad():
            expected = decoding.logits_of(model, cache[address]).softmax(-1).amax(-1)
        np.testing.assert_allclose(probability, expected.numpy(), rtol=1e-4)


def test_rows_stand_in_the_order_of_computing(tiny_model, tokens):
    lens = probes.lens(tiny_model(), tokens, R, kind="logit", blocks="all")
    assert lens.names == (
        *("head.0", "0", "0 body.0", "0 body.1", "1", "1 body.0", "1 body.1", "2", "tail.0"),
    )
    np.testing.assert_allclose(lens.depths, [-0.5, 0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2, 2.5])
    np.testing.assert_allclose(lens.kl_to_final[-1], 0, atol=1e-6)
    tail = probes.lens(tiny_model(), tokens, R, blocks="all")
    assert tail.names == lens.names[:-1] and tail.figure() and tail.figure(view="ranks")
    table = lens.to_frame()
    assert table["block"].unique().tolist() == ["head.0", "", "body.0", "body.1", "tail.0"]
    assert table.groupby("block")["iteration"].apply(list)["head.0"][0] != 0
    grid = lens.figure().data[0]
    assert len(grid.z) == len(lens.names) and "body.1" in str(lens.figure().layout.yaxis.ticktext)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batched_is_one_by_one(tiny_model, tokens, side):
    model = tiny_model(initializer_range=0.2)
    short = [tokens[0, :4], torch.zeros(3, dtype=torch.long)]
    mask = [torch.ones(4, dtype=torch.long), torch.zeros(3, dtype=torch.long)]
    order = slice(None, None, -1 if side == "left" else 1)
    both = torch.stack([torch.cat(short[order]), tokens[1]])
    masks = torch.stack([torch.cat(mask[order]), torch.ones(7, dtype=torch.long)])
    batched = probes.lens(model, both, R, blocks=True, attention_mask=masks)
    keep = masks[0].bool().numpy()
    for row, alone in ((0, tokens[0, :4]), (1, tokens[1])):
        one = probes.lens(model, alone, R, blocks=True)
        where = keep if row == 0 else slice(None)
        np.testing.assert_allclose(batched.entropy[:, row, where], one.entropy[:, 0], atol=1e-5)
        np.testing.assert_allclose(
            batched.kl_to_final[:, row, where], one.kl_to_final[:, 0], atol=1e-5
        )


@pytest.mark.parametrize("kind", ["tail", "logit"])
def test_no_array_is_larger_than_a_chunk(tiny_model, monkeypatch, kind):
    """Not even [position, vocabulary] of one iteration."""
    model, n = tiny_model(d_vocab=3000), 20
    monkeypatch.setattr(decoding, "MAX_CHUNK", 12_000)
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor) and x.shape[-2:] != (32, 3000):  # a view of U
                    largest.append(x.numel())
            return out

    model.info()  # the weights' hash reads their bytes
    with Watch():
        probes.lens(model, torch.arange(n)[None], 3, kind=kind, blocks=True)
    assert 12_000 <= max(largest) < n * 3000


def test_bad_blocks_are_named(tiny_model, tokens):
    with pytest.raises(InputError, match="blocks='some'"):
        probes.lens(tiny_model(), tokens, 1, blocks="some")


def test_a_factor_on_the_logits_is_measured(tiny_tokenizer):
    """Granite divides its logits after the unembedding: norm and unembedding alone are not its read-out."""
    import transformers as hf

    torch.manual_seed(0)
    source = hf.GraniteForCausalLM(
        hf.GraniteConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2, logits_scaling=4.0,
        )
    ).eval()  # fmt: skip
    model = LoopedBridge(source, Loop(1, 2), tiny_tokenizer, "granite")
    lens = probes.lens(model, "the cat sat", R, top_k=300, blocks="all")
    with torch.no_grad():
        expected = model("the cat sat", n_iters=R).softmax(-1).numpy()
    assert model.logit_factor == pytest.approx(0.25)
    np.testing.assert_allclose(probabilities(lens)[-1], expected, atol=1e-5)


def test_half_precision_reads_as_the_model_does(tiny_model, tokens):
    model = tiny_model(initializer_range=0.2).to(torch.bfloat16)
    lens = probes.lens(model, tokens, R, top_k=100)
    with torch.no_grad():
        expected = model(tokens, n_iters=R).float().softmax(-1).numpy()
    np.testing.assert_allclose(probabilities(lens)[-1], expected, atol=0.02)
    zero = TunedLens.zero(model, R, lens.addresses)
    tuned = probes.lens(model, tokens, R, kind="tuned", fitted=zero)
    np.testing.assert_array_equal(
        tuned.top_ids, probes.lens(model, tokens, R, kind="logit").top_ids
    )


@pytest.mark.gpu
def test_on_a_gpu_lenses_are_the_same(tiny_model, tokens):
    model = tiny_model(initializer_range=0.2)
    for kind in ("tail", "logit", "tuned"):
        addresses = [f"loop.hook_readout@{k}" for k in range(R + 1)]
        fitted = TunedLens.zero(model.to("cpu"), R, addresses) if kind == "tuned" else None
        blocks = kind != "tuned"
        here = probes.lens(model, tokens, R, kind=kind, fitted=fitted, blocks=blocks)
        there = probes.lens(model.to("cuda"), tokens, R, kind=kind, fitted=fitted, blocks=blocks)
        np.testing.assert_allclose(there.entropy, here.entropy, atol=1e-3)
        np.testing.assert_allclose(there.kl_to_final, here.kl_to_final, atol=1e-3)
        np.testing.assert_array_equal(there.random_ids, here.random_ids)
