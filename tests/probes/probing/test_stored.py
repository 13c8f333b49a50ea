"""Fitted probes on disk, and laid over a prompt."""

import json

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import ExistsError, InputError
from probes import bundle

WORDS = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


@pytest.fixture(scope="module")
def result(model):
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(WORDS, 30)) for _ in range(8)]
    sites = ("loop.hook_state", "head.0.hook_resid_post")
    return probes.linear(model, documents, label="current_class", sites=sites, n_iters=2)


def test_saved_probes_read_back_bit_for_bit(result, tmp_path):
    fitted = result.fitted()
    assert list(fitted.probes) == [
        *(f"loop.hook_state@{k}" for k in range(3)),
        "head.0.hook_resid_post",
    ]
    again = probes.FittedProbes.load(fitted.save(tmp_path / "probes"))
    assert (again.model, again.label, again.n_iters) == (fitted.model, fitted.label, 2)
    for address, probe in fitted.probes.items():
        other = again.probes[address]
        assert (probe.kind, probe.classes) == (other.kind, other.classes)
        for part in ("mean", "scale", "coef", "intercept"):
            np.testing.assert_array_equal(getattr(probe, part), getattr(other, part))


def test_an_overlay_is_what_each_probe_says_of_its_own_state(model, result):
    fitted = result.fitted()
    found = fitted.predict_on(model, ["the cat sat.", "a rat"])
    tokens, mask = model.tokenize(["the cat sat.", "a rat"])
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, n_iters=2, attention_mask=mask)
    there = mask.bool().numpy()
    for k in range(3):
        probe = fitted.probes[f"loop.hook_state@{k}"]
        expected = probe.probabilities(cache[f"loop.hook_state@{k}"].numpy())
        np.testing.assert_allclose(found.outputs[k][there], expected[there], atol=1e-6)
    assert np.isnan(found.outputs[:, ~there]).all() and (found.said[:, ~there] == -1).all()
    left = probes.FittedProbes.predict_on(
        fitted, model, tokens.flip(1), attention_mask=mask.flip(1), site="head.0.hook_resid_post"
    )
    assert left.outputs.shape[0] == 1 and len(left.to_frame()) == left.outputs.size
    for theme in ("light", "dark"):
        assert found.figure(theme=theme).data and found.figure(theme=theme, of="punctuation").data


def test_results_come_back_from_a_bundle(model, result, tmp_path):
    overlay = result.fitted().predict_on(model, "the <b>cat</b> sat")
    bundle.save({"probes": result, "overlay": overlay}, tmp_path / "b")
    found = bundle.load(tmp_path / "b").results
    np.testing.assert_array_equal(found["overlay"].outputs, overlay.outputs)
    address = "loop.hook_state@1"
    again = found["probes"].fitted().probes[address]
    np.testing.assert_array_equal(again.coef, result.fitted().probes[address].coef)


def test_selectivity_and_confusion_have_figures_and_rows(result):
    np.testing.assert_allclose(
        result.selectivity[..., 0], result.trained[..., 0] - result.control[..., 0]
    )
    figure = result.figure(view="selectivity", site="loop.hook_state")
    (line,) = [t for t in figure.data if t.name]
    np.testing.assert_array_equal(line.y, result.selectivity[0, :, 0])
    grid = result.figure(view="confusion", iteration=1).data[0]
    np.testing.assert_array_equal(grid.customdata, result.confusion[0, 1])
    assert result.confusion[0, 1].sum() == result.counts[:, 2].sum()
    for given, message in (
        (dict(view="matrix"), "view='matrix'"),
        (dict(view="confusion", iteration=3), "iteration=3"),
        (dict(site="loop.hook_stat"), "site="),
    ):
        with pytest.raises(InputError, match=message):
            result.figure(**given)


def test_damaged_folders_and_other_models_are_refused(model, result, tmp_path, tiny_model):
    fitted = result.fitted()
    folder = fitted.save(tmp_path / "p")
    with pytest.raises(ExistsError, match="exists"):
        fitted.save(folder)
    fitted.save(folder, overwrite=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(ExistsError, match="saved probes only"):
        fitted.save(tmp_path / "other", overwrite=True)
    about = json.loads((folder / "probes.json").read_text())
    for change, message in (
        (dict(version=9), "version 9"),
        (dict(kind="tree"), "damaged"),
        (dict(classes=["a"]), "has shape"),
        (dict(format="x"), "is not of"),
    ):
        (folder / "probes.json").write_text(json.dumps(about | change))
        with pytest.raises(InputError, match=message):
            probes.FittedProbes.load(folder)
    with pytest.raises(InputError, match="no saved probes"):
        probes.FittedProbes.load(tmp_path / "absent")
    with pytest.raises(InputError, match="site='tail'"):
        fitted.predict_on(model, "the cat", site="tail")
    wide = tiny_model(tokenizer=model.tokenizer, d_vocab=300, d_model=24)
    with pytest.raises(InputError, match="this probe reads"):
        fitted.predict_on(wide, "the cat")
