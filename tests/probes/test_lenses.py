"""Lenses against the model's own logits, hand-made logits, and brute-force ranks."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC
from probes import decoding
from probes.lenses import targets as lens_targets

R = 4


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(initializer_range=0.2)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(100, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tail(model, tokens):
    return probes.lens(model, tokens, R, top_k=100)


def probabilities(lens):
    """[k, batch, pos, vocab] put together from a result that kept the whole vocabulary."""
    full = np.empty_like(lens.top_probabilities)
    np.put_along_axis(full, lens.top_ids, lens.top_probabilities, -1)
    return full


def test_tail_lens_at_full_depth_is_the_model(model, tokens, tail):
    with torch.no_grad():
        logits = model(tokens, n_iters=R)
        state = model.begin(tokens, n_iters=R)
        for _ in range(R):
            state = model.step(state)
        read = model.tail_output(torch.stack([state.z, state.h]), tokens=tokens)[0]
        assert (decoding.logits_of(model, read) - logits).abs().max() <= 1e-5
        loss = model(tokens, n_iters=R, return_type="loss", loss_per_token=True)
    assert probabilities(tail)[-1] == pytest.approx(logits.softmax(-1).numpy(), abs=1e-5)
    assert tail.nll[-1, :, :-1] == pytest.approx(loss.numpy(), abs=1e-5)
    assert (tail.final_ids == logits.argmax(-1).numpy()).all()


def test_tail_lens_after_k_is_the_model_of_depth_k(model, tokens, tail):
    for k in range(R + 1):
        with torch.no_grad():
            expected = model(tokens, n_iters=k).softmax(-1).numpy()
        assert probabilities(tail)[k] == pytest.approx(expected, abs=1e-5)


def test_logit_lens_is_norm_and_unembedding_of_the_readout(model, tokens):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, n_iters=R, names_filter="loop.hook_readout")
        z = cache["loop.hook_readout"].double()
        normed = z / (z.square().mean(-1, keepdim=True) + model.cfg.eps).sqrt()
        logits = (normed * model.ln_final.weight) @ model.embed.weight.double().T
        final = model(tokens, n_iters=R)
    lens = probes.lens(model, tokens, R, kind="logit", top_k=100)
    assert probabilities(lens) == pytest.approx(logits.softmax(-1).numpy(), abs=1e-5)
    # Both kinds compare with the model's own prediction, which the logit lens is not.
    assert (lens.final_ids == final.argmax(-1).numpy()).all()
    assert lens.kl_to_final[-1].min() > 1e-4
    assert "skips the Tail" in lens.label and "skips the Tail" in lens.figure().layout.title.text


def test_lenses_coincide_without_a_tail(tiny_model, tokens):
    model = tiny_model(n_tail_blocks=0)
    tail, logit = (probes.lens(model, tokens, 2, kind=kind) for kind in ("tail", "logit"))
    assert logit.entropy == pytest.approx(tail.entropy, abs=1e-5)
    assert logit.kl_to_final[-1] == pytest.approx(0, abs=1e-6)


def test_statistics_by_brute_force(tokens, tail):
    p = probabilities(tail).astype(float)
    following = tokens[:, 1:].numpy()
    for (k, b, t), _ in np.ndenumerate(tail.entropy):
        row = p[k, b, t]
        rank = 1 + (row[None] > row[:, None]).sum(1)
        assert tail.entropy[k, b, t] == pytest.approx(-(row * np.log(row)).sum(), abs=1e-4)
        final = p[-1, b, t]
        kl = (final * np.log(final / row)).sum()
        assert tail.kl_to_final[k, b, t] == pytest.approx(kl, abs=1e-4)
        assert tail.final_rank[k, b, t] == rank[final.argmax()]
        assert tail.random_rank[k, b, t] == rank[tail.random_ids[b, t]]
        if t < 6:
            assert tail.target_rank[k, b, t] == rank[following[b, t]]
            assert tail.nll[k, b, t] == pytest.approx(-np.log(row[following[b, t]]), abs=1e-4)
    assert (tail.final_rank[-1] == 1).all() and (tail.kl_to_final[-1] == 0).all()
    assert np.isnan(tail.nll[:, :, -1]).all() and np.isnan(tail.target_rank[:, :, -1]).all()


def test_small_chunks_change_nothing(model, tokens, tail, monkeypatch):
    rows = []
    whole = decoding.row_chunks
    monkeypatch.setattr(decoding, "MAX_CHUNK", 300)
    monkeypatch.setattr(
        decoding, "row_chunks", lambda n, v: [rows.append(s) or s for s in whole(n, v)]
    )
    chunked = probes.lens(model, tokens, R, top_k=100)
    assert max(s.stop - s.start for s in rows) == 3 and len(rows) == 5
    for name in ("target_rank", "final_rank", "top_ids"):
        np.testing.assert_array_equal(getattr(chunked, name), getattr(tail, name))
    for name in ("entropy", "nll", "kl_to_final"):
        np.testing.assert_allclose(getattr(chunked, name), getattr(tail, name), atol=2e-6)


def test_no_array_of_all_iterations_and_the_vocabulary_is_made(tiny_model):
    model, n = tiny_model(d_vocab=5000), 30
    tokens = torch.arange(n)[None]
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    largest.append(x.numel())
            return out

    with Watch():
        probes.lens(model, tokens, 6)
        probes.halting(model, tokens, 6)
    assert max(largest) <= max(n * 5000, model.embed.weight.numel())


def test_control_is_random_seeded_and_never_the_target(model, tokens):
    target = torch.arange(100).repeat(40)[None]
    drawn = lens_targets.random_controls(target, 100, seed=3)
    assert (drawn != target).all() and drawn.min() == 0 and drawn.max() == 99
    counts = torch.bincount(drawn[0], minlength=100)
    assert counts.min() > 15 and counts.max() < 75
    assert (drawn == lens_targets.random_controls(target, 100, seed=3)).all()
    assert (drawn != lens_targets.random_controls(target, 100, seed=4)).any()


def test_targets_by_name_id_and_position(tiny_model, tiny_tokenizer, tokens):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    wanted = tiny_tokenizer.encode(" cat", add_special_tokens=False)
    assert len(wanted) == 1
    by_name = probes.lens(model, "the cat sat", 2, targets=" cat", top_k=300)
    assert (by_name.target_ids == wanted[0]).all() and by_name.target_name == "token ' cat'"
    assert by_name.token(wanted[0]) == " cat"
    by_id = probes.lens(model, "the cat sat", 2, targets=wanted[0])
    np.testing.assert_array_equal(by_id.target_rank, by_name.target_rank)
    # The NLL stays that of the actual next token.
    np.testing.assert_array_equal(by_id.nll, probes.lens(model, "the cat sat", 2).nll)
    given = torch.full_like(torch.as_tensor(by_id.target_ids.copy()), -1)
    given[0, 1] = 5
    some = probes.lens(model, "the cat sat", 2, targets=given)
    assert (
        np.isfinite(some.target_rank[:, 0, 1]).all() and np.isnan(some.target_rank[:, 0, 0]).all()
    )


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("the cat", "the' *, *' cat"),
        ("", "one token"),
        (300, "0 to 299"),
        (-1, "0 to 299"),
        (torch.zeros(1, 2, dtype=torch.long), "shape"),
        (torch.zeros(1, 3), "float32"),
    ],
)
def test_targets_that_are_none(tiny_model, tiny_tokenizer, targets, message):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    with pytest.raises(InputError, match=message):
        probes.lens(model, "the cat sat", 1, targets=targets)


def test_bad_arguments_are_named(model, tokens, tail):
    with pytest.raises(InputError, match="kind='tuned'"):
        probes.lens(model, tokens, 1, kind="tuned")
    with pytest.raises(InputError, match="top_k=101"):
        probes.lens(model, tokens, 1, top_k=101)
    with pytest.raises(InputError, match="metric"):
        tail.figure(metric="colour")
    with pytest.raises(InputError, match="position=7"):
        tail.figure(view="ranks", position=7)


def test_padding_changes_nothing_and_is_left_out(model, tokens):
    padded = torch.cat([tokens[0, :4], torch.zeros(3, dtype=torch.long)])
    mask = torch.tensor([[1] * 4 + [0] * 3, [1] * 7])
    both = probes.lens(model, torch.stack([padded, tokens[1]]), R, attention_mask=mask)
    alone = probes.lens(model, tokens[0, :4], R)
    assert both.entropy[:, 0, :4] == pytest.approx(alone.entropy[:, 0], abs=1e-5)
    assert np.isnan(both.entropy[:, 0, 4:]).all() and np.isnan(both.nll[:, 0, 3]).all()
    assert len(both.to_frame()) == 11 * (R + 1)
    assert both.figure(batch=0).data[0].z.shape == (R + 1, 4)


def test_divergence_is_reported_and_what_came_before_is_kept(tiny_model, tokens):
    model = tiny_model(AbbieC())
    with model.hooks([("loop.hook_state@2", lambda h, hook: h * float("inf"))]):
        lens = probes.lens(model, tokens, R)
    assert (lens.diverged_at == 2).all()
    assert np.isnan(lens.entropy[2:]).all() and np.isfinite(lens.entropy[:2]).all()
    assert (lens.top_ids[2:] == -1).all() and (lens.final_ids == -1).all()
    assert np.isnan(lens.final_rank).all() and np.isnan(lens.kl_to_final).all()
    assert lens.figure() and lens.figure(view="ranks") and len(lens.to_frame())


def test_figure_shows_the_values_and_escapes_the_tokens(tiny_model, tiny_tokenizer):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    lens = probes.lens(model, "<b>the</b> & cat", 3, targets="<")
    fig = lens.figure(metric="entropy", selectable=True)
    np.testing.assert_array_equal(fig.data[0].z, lens.entropy[:, 0])
    assert fig.data[0].y[0] == 0 and fig.layout.yaxis.range[0] < fig.layout.yaxis.range[1]
    selectable = fig.data[1]
    assert len(selectable.x) == lens.entropy[:, 0].size and selectable.marker.opacity == 0
    assert list(selectable.text) == [t for row in fig.data[0].customdata for t in row]
    assert [list(c) for c in selectable.customdata[:2]] == [[0, 0], [0, 1]]
    texts = [t for row in fig.data[0].text for t in row]
    raw = [lens.token(i) for i in lens.top_ids[:, 0, :, 0].ravel()]
    assert len(texts) == len(raw) and all("<" not in t for t in texts)
    for figure in (fig, lens.figure(view="ranks"), lens.figure(view="ranks", position=1)):
        shown = figure.to_plotly_json()
        hovers = str(shown["data"]) + str(shown["layout"].get("title"))
        assert "</b> &" not in hovers and "&lt;b" in hovers


def test_narrow_cells_show_no_text(model):
    many = probes.lens(model, torch.arange(60), 1)
    assert many.figure().data[0].text is None
    assert many.figure(width=2400).data[0].text is not None


def test_rank_quartiles_are_over_positions(tail):
    expected = np.nanquantile(tail.target_rank[:, 1], [0.25, 0.5, 0.75], axis=-1).T
    np.testing.assert_allclose(tail.rank_quartiles("target_rank", 1), expected)
    drawn = {t.name: t for t in tail.figure(view="ranks", batch=1).data if t.name}
    np.testing.assert_array_equal(drawn["next token"].y, expected[:, 1])


def test_table_has_a_row_per_token_and_iteration(tail):
    frame = tail.to_frame()
    row = frame[(frame.batch == 1) & (frame.position == 2) & (frame.iteration == 3)].iloc[0]
    assert row.entropy == tail.entropy[3, 1, 2] and row.top2_id == tail.top_ids[3, 1, 2, 1]
    assert row.top1 == tail.token(row.top1_id) and row.kind == "tail"
    assert len(frame) == 2 * 7 * (R + 1)
