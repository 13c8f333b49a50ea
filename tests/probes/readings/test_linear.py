"""Sentences of probes follow from the scores, not from the model."""

import dataclasses

import numpy as np
import pytest

import probes
from probes.readings import linear as readings


@pytest.fixture(scope="module")
def result(tiny_model, tiny_tokenizer):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(["the", "cat,", "sat."], 30)) for _ in range(8)]
    return probes.linear(model, documents, label="current_class", n_iters=1)


def scores(shape, *values):
    return np.broadcast_to(np.array(values), (*shape, 3))


def told(result, trained, embedding):
    shape = result.trained.shape[:2]
    low = {name: scores(shape, 0.1, 0.0, 0.2) for name in ("untrained", "shuffled")}
    flat = {name: np.array([0.1, 0.0, 0.2]) for name in ("majority", "head_output")}
    return dataclasses.replace(
        result, trained=scores(shape, *trained), embedding=np.array(embedding), **low, **flat
    )


@pytest.mark.parametrize(
    "trained, embedding, said",
    [
        ((0.9, 0.85, 0.95), (0.5, 0.4, 0.6), "90.0% of held-out tokens right, above the best baseline (the token embedding 50.0%)"),
        ((0.5, 0.45, 0.55), (0.9, 0.8, 1.0), "below the best baseline (the token embedding 90.0%)"),
        ((0.5, 0.4, 0.6), (0.45, 0.4, 0.5), "within the intervals of the best baseline"),
        ((np.nan,) * 3, (0.5, 0.4, 0.6), "not finite at k = 1"),
    ],
)  # fmt: skip
def test_the_best_baseline_decides(result, trained, embedding, said):
    assert said in readings.said(told(result, trained, embedding))


def test_selectivity_above_nothing_is_said_only_where_its_interval_is(result):
    shape = result.trained.shape[:2]
    for values, said in (
        ((0.3, 0.2, 0.4), "+30.0 points [+20.0 points, +40.0 points]: which random labels"),
        ((0.1, -0.1, 0.3), "no more than random labels"),
        ((np.nan,) * 3, "not defined"),
    ):
        changed = dataclasses.replace(result, selectivity=scores(shape, *values))
        assert said in readings.selective(changed)


def test_confusion_names_the_best_class_and_the_worst_mistake(result):
    counts = np.zeros_like(result.confusion)
    n = counts.shape[-1]
    counts[:, :] = 10 * np.eye(n, dtype=int)
    assert "nothing is mistaken" in readings.confused(dataclasses.replace(result, confusion=counts))
    counts[:, :, 0, 1] = 30
    said = readings.confused(dataclasses.replace(result, confusion=counts))
    assert said.startswith(f"{result.classes[1]} is told best, 100% of its tokens")
    assert f"{result.classes[0]} for {result.classes[1]}, 30 of 40" in said
