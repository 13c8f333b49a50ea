"""Numbers of attention patterns, against patterns known on paper and against those of the cache."""

import numpy as np
import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes.dynamics.attention import MEASURES, attention
from probes.dynamics.patterns import Layout, by_query, concentration
from probes.result import Result
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import LOOPS, make

IDS = [[5, 6, 7, 8, 9, 10]]
N = 6


def numbers(pattern, before=None, window=2, mask=None):
    valid = (
        torch.ones(1, pattern.shape[-1], dtype=torch.bool) if mask is None else torch.tensor(mask)
    )
    layout = Layout.of(valid)
    found = by_query(pattern, before, layout, valid, window)
    found["concentration"] = concentration(pattern, layout, valid)
    return {name: value[0, 0].numpy() for name, value in found.items()}


def uniform(n=N):
    return (torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None])[None, None]


def first(n=N):
    return torch.eye(n)[[0]].expand(n, n)[None, None]


def itself(n=N):
    return torch.eye(n)[None, None]


def test_patterns_known_on_paper():
    t = np.arange(N)
    even, sunk, own = numbers(uniform(), itself()), numbers(first()), numbers(itself())
    np.testing.assert_allclose(even["entropy"][1:], 1, rtol=1e-6)
    np.testing.assert_allclose(even["sink"][1:], 1 / (t[1:] + 1), rtol=1e-6)
    np.testing.assert_allclose(even["local"][2:], 2 / (t[2:] + 1), rtol=1e-6)
    np.testing.assert_allclose(even["overlap"][1:], 1 / (t[1:] + 1), rtol=1e-6)
    assert np.isnan(even["local"][:2]).all() and np.isnan(even["entropy"][0])
    for one in (sunk, own):
        np.testing.assert_array_equal(one["entropy"][1:], 0)
        assert np.isnan(one["overlap"]).all()
    assert (sunk["sink"][1:] == 1).all() and (own["sink"][1:] == 0).all()
    assert (own["local"][2:] == 1).all() and (sunk["local"][2:] == 0).all()
    assert sunk["concentration"] == 1 and 0 < even["concentration"] < 0.5
    np.testing.assert_allclose(own["concentration"], 1 - np.log(N - 1) / np.log(N), rtol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_counts_neither_as_query_nor_as_key(side):
    n, at = 4, slice(2, 6) if side == "left" else slice(0, 4)
    padded, mask = torch.full((1, 1, N, N), 1 / N), torch.zeros(1, N, dtype=torch.bool)
    padded[..., at, :] = 0
    padded[0, 0, at, at] = uniform(n)[0, 0]
    mask[0, at] = True
    got, alone = numbers(padded, padded, mask=mask.tolist()), numbers(uniform(n), uniform(n))
    for name, value in alone.items():
        shown = got[name] if value.ndim == 0 else got[name][at]
        np.testing.assert_allclose(shown, value, rtol=1e-6, equal_nan=True)
        if value.ndim:
            assert np.isnan(np.delete(got[name], np.arange(N)[at])).all()


def test_every_number_is_the_mean_of_its_definition_over_the_caches_patterns(tiny_model):
    model = tiny_model(AbbieD(), initializer_range=0.4).double()
    found = attention(model, IDS, 4, window=3, control=False, patterns=True)
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor(IDS), n_iters=4)
    for b in range(2):
        a = cache[f"body.{b}.attn.hook_pattern"][:, 0].double().numpy()
        np.testing.assert_allclose(found.pattern[:, b], a, rtol=1e-4, atol=1e-7)
        logs = np.log(a, where=a > 0, out=np.zeros_like(a))
        entropy = -(a * logs).sum(-1)[..., 1:] / np.log(np.arange(2, N + 1))
        np.testing.assert_allclose(found.entropy[:, b], entropy.mean(-1), rtol=1e-5)
        np.testing.assert_allclose(found.sink[:, b], a[..., 1:, 0].mean(-1), rtol=1e-5)
        local = np.stack([a[..., t, t - 2 : t + 1].sum(-1) for t in range(3, N)], -1)
        np.testing.assert_allclose(found.local[:, b], local.mean(-1), rtol=1e-5)
        changed = np.abs(a[1:] - a[:-1]).sum(-1)[..., 1:] / 2
        np.testing.assert_allclose(found.overlap[1:, b], 1 - changed.mean(-1), rtol=1e-5)
    assert np.isnan(found.overlap[0]).all()
    np.testing.assert_allclose(np.nanmean(found.token_sink, (1, 2)), found.sink.mean((1, 2)))
    np.testing.assert_array_equal(
        found.sink_rate, (found.sink >= found.sink_from).reshape(4, -1).mean(1)
    )


@pytest.mark.parametrize("name", LOOPS)
def test_every_family_is_measured_or_refused_by_name(name):
    model, mask = make(name), [[1, 1, 1, 1], [1, 1, 1, 0]]
    ids = [[5, 6, 7, 8], [9, 10, 11, 0]]
    if model.cfg.loop.family in ("spiral", "ponder-2"):
        with pytest.raises(InputError, match="other rows than the tokens"):
            attention(model, ids, 3, attention_mask=mask, control=False)
        return
    found = attention(model, ids, 3, attention_mask=mask, control=False, window=2)
    for measure in MEASURES:
        values = found.measure(measure)[1:]
        assert ((values >= -1e-6) & (values <= 1 + 1e-6) | np.isnan(values)).all(), measure
    assert np.isnan(found.token_entropy[:, ~found.valid]).all()
    if "loop.hook_mask" in model.hook_dict:  # who is left out has no attention in that iteration
        out = np.isnan(found.token_entropy[-3:, :, 1:]) & found.valid[:, 1:]
        _, cache = model.run_with_cache(
            torch.tensor(ids), n_iters=3, attention_mask=torch.tensor(mask)
        )
        took = cache["loop.hook_mask"][..., 1:, 0].detach().numpy() > 0
        np.testing.assert_array_equal(out, ~took & found.valid[:, 1:])
    else:
        assert np.isfinite(found.token_entropy[:, found.valid & (np.arange(4) > 0)]).all()


def test_bridged_models_by_canonical_names(tiny_tokenizer):
    source = decoders.make("llama", seed=3, vocab_size=300)
    model = LoopedBridge(source, Loop(1, 3, "damped"), tiny_tokenizer, "llama")
    found = attention(model, ["the cat sat on", "the"], 3)
    assert found.sites[0] == "body.0.attn.hook_pattern" and found.control is not None
    assert np.isfinite(found.entropy).all() and np.isfinite(found.overlap[1:]).all()


def test_patterns_are_kept_only_if_asked_for(tiny_model):
    found = attention(tiny_model(AbbieD()), IDS, 2, control=False)
    assert found.pattern.size == 0
    with pytest.raises(InputError, match="patterns=True"):
        found.figure(view="pattern")


def test_numbers_by_token_frame_file_and_figures(tiny_model):
    ticks = []
    found = attention(
        tiny_model(AbbieD()), IDS, 4, seed=3, patterns=True,
        progress=lambda done, total: ticks.append((done, total)),
    )  # fmt: skip
    assert ticks[-1] == (10, 10)
    assert {v.shape for v in found.per_token().values()} == {(4, 1, N)}
    frame = found.to_frame()
    assert len(frame) == 2 * 4 * 2 * 4 and len(found.token_frame()) == 4 * N
    cell = frame.query("weights == 'random' and block == 'body.1' and head == 2 and iteration == 3")
    assert cell["sink"].item() == found.control.sink[3, 1, 2]
    again = Result.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.pattern, found.pattern)
    views = [
        {"view": "measures"}, {"view": "heads", "measure": "sink"}, {"view": "patterns", "block": 1},
        {"view": "pattern", "iteration": -1, "head": 3},
    ]  # fmt: skip
    for theme in ("light", "dark"):
        assert all(found.figure(theme=theme, **view).data for view in views)
    for wrong in ({"view": "pattern", "head": 4}, {"view": "patterns", "block": 2}, {"view": "x"}):
        with pytest.raises(InputError):
            found.figure(**wrong)


@pytest.mark.parametrize(
    ("options", "named"), [({"window": 0}, "window"), ({"sink_from": 2}, "sink_from")]
)
def test_bad_arguments_are_named(tiny_model, options, named):
    with pytest.raises(InputError, match=named):
        attention(tiny_model(AbbieD()), IDS, 4, **options)
