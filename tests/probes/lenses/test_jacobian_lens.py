"""Jacobian lenses against TransformerLens' own, and against finite differences of the whole map."""

import numpy as np
import pytest
import torch
from transformer_lens.tools.analysis import JacobianLens as TheirLens

import probes
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.source import bridge
from abbie_lens.errors import InputError
from probes.lenses import FittedLens, JacobianConfig, fit_jacobian
from probes.lenses.texts import inputs_of
from probes.progress import Cancelled
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import make, walk

TEXTS = ["the cat sat on the mat, and the rat ran;", "then the cat ran. the rat sat on the mat"]
GIVEN = dict(n_texts=2, window=12, skip_first=2)


def test_at_one_iteration_it_is_transformer_lens_own(tiny_tokenizer):
    source = decoders.make("gpt2", seed=3, vocab_size=300)
    theirs_bridge = bridge(decoders.make("gpt2", seed=3, vocab_size=300))
    theirs_bridge.tokenizer = tiny_tokenizer
    model = LoopedBridge(source, Loop(1, 3), tiny_tokenizer, "tiny")
    ours = fit_jacobian(
        model, TEXTS, JacobianConfig(n_iters=1, blocks="all", batch_size=1, **GIVEN)
    )
    texts = [model.to_tokens(text)[:, :12] for text in TEXTS]
    theirs_bridge.to_tokens = lambda text, **_: texts[TEXTS.index(text)]
    theirs = TheirLens.fit(
        theirs_bridge, TEXTS, corpus="two", skip_first_positions=2, max_seq_len=12, show_progress=False
    )  # fmt: skip
    rows = {"head.0.hook_resid_post": 0, "loop.hook_readout@0": 0, "body.0.hook_resid_post@0": 1}
    rows |= {"body.1.hook_resid_post@0": 2, "loop.hook_readout@1": 2}
    for address, layer in rows.items():
        found, expected = ours.matrices[ours.row(address)], theirs.jacobians[layer]
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max(), address
    # The last block is what the final norm reads.
    torch.testing.assert_close(ours.matrices[ours.row("tail.0.hook_resid_post")], torch.eye(32))


@pytest.mark.parametrize("name", ["abbie-d", "0pt", "ponder", "lt", "hrm", "std"])
def test_it_is_the_derivative_of_the_run(name, tiny_tokenizer):
    """Σ over V of y moves by |V| J v if every h_{k,t} of V moves by v."""
    model = make(name, tokenizer=tiny_tokenizer, d_vocab=300).double()
    config = JacobianConfig(n_iters=2, batch_size=2, n_texts=1, window=10, skip_first=2)
    lens = fit_jacobian(model, TEXTS, config)
    from probes.lenses.jacobian import _texts

    window = next(_texts(model, TEXTS, config))
    inputs = inputs_of(model, [window], 2)
    valid = torch.zeros(inputs.tokens.shape[1], dtype=torch.bool)
    valid[2:-1] = True
    v = torch.randn(lens.matrices.shape[-1], generator=torch.Generator().manual_seed(0)).double()
    states = walk(model, inputs.tokens, 2)

    def total(k, eps):
        state, moved = states[k], torch.zeros_like(states[k].z)
        moved[:, valid] = eps * v
        if k == 2:
            return model.tail_output(state.z + moved)[:, valid].sum(1)
        state = model.cfg.loop.restart(model, state, state.h + moved)
        for _ in range(k, 2):
            state = model.step(state)
        return model.tail_output(state.z)[:, valid].sum(1)

    with torch.no_grad():
        for k in range(3):
            slope = (total(k, 1e-5) - total(k, -1e-5))[0] / 2e-5 / int(valid.sum())
            found = lens.apply(f"loop.hook_readout@{k}", v)
            np.testing.assert_allclose(
                found, slope, rtol=1e-4, atol=1e-5 * float(slope.abs().max())
            )


def test_it_reads_h_and_is_of_its_depth_alone(tiny_model, tiny_tokenizer, tmp_path):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, initializer_range=0.2)
    lens = fit_jacobian(model, TEXTS, JacobianConfig(n_iters=2, **GIVEN), out=tmp_path / "lens")
    read = FittedLens.load(tmp_path / "lens")
    found = probes.lens(model, "the cat sat", 2, kind="jacobian", fitted=read, top_k=300)
    states = walk(model, model.to_tokens("the cat sat"), 2)
    for k, x in enumerate([states[0].h, states[1].h, states[2].z]):
        with torch.no_grad():
            p = model.unembed(model.ln_final(x @ lens.matrices[k].T)).softmax(-1)
        top = np.take_along_axis(p.numpy(), found.top_ids[k], -1)
        np.testing.assert_allclose(found.top_probabilities[k], top, atol=1e-5)
    assert len(lens.metrics["relative_error"]) == 3 and "Mean of 2 texts" in found.fitted
    with pytest.raises(InputError, match="n_iters=1: this jacobian lens was made for n_iters=2"):
        probes.lens(model, "the cat", 1, kind="jacobian", fitted=lens)


def test_the_standard_error_is_that_of_the_texts(tiny_model, tiny_tokenizer, tmp_path):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, initializer_range=0.2)
    alone = [
        fit_jacobian(model, [t], JacobianConfig(n_iters=1, n_texts=1, window=12, skip_first=2))
        for t in TEXTS
    ]
    assert alone[0].metrics["relative_error"] == [None, None]
    config = JacobianConfig(n_iters=1, batch_size=1, **GIVEN)
    with pytest.raises(Cancelled):
        fit_jacobian(model, TEXTS, config, out=tmp_path / "j", progress=lambda n, _: n < 40)
    both = fit_jacobian(model, TEXTS, config, out=tmp_path / "j", resume=True)
    each = torch.stack([lens.matrices for lens in alone])
    torch.testing.assert_close(both.matrices, each.mean(0), rtol=1e-5, atol=1e-6)
    error = (each.var(0) / 2).sum((1, 2)).sqrt() / both.matrices.square().sum((1, 2)).sqrt()
    np.testing.assert_allclose(both.metrics["relative_error"], error, rtol=1e-3)


def test_texts_that_are_too_short_are_told(tiny_model, tiny_tokenizer):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    with pytest.raises(InputError, match="skip_first=16"):
        fit_jacobian(model, ["the cat"], JacobianConfig(n_iters=1))
    with pytest.raises(InputError, match="n_texts=0"):
        JacobianConfig(n_texts=0)
