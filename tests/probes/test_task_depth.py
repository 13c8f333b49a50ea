"""Depth on a task: accuracy and exits of a model whose answers are known, beside its controls."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens import tasks
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AdaPonder
from abbie_lens.tasks.evaluate import accuracy
from probes.progress import Cancelled
from probes.task_depth import labels_of
from probes.task_exits import spearman

TASK = tasks.make("k-hop", n_nodes=6, n_ctx=40, train_difficulty=(1, 2), test_difficulty=(1, 3))


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(
        AbbieC(), tokenizer=TASK.tokenizer(), d_vocab=TASK.d_vocab, n_ctx=40, model_name="hopper"
    )


class Oracle:
    """Knows the answer, but only after as many iterations as it needs; `model` in all else."""

    def __init__(self, model):
        self.inner = model

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def solved(self, tokens, k):
        needed, answers = labels_of(TASK, tokens.numpy(), tokens.numpy() >= 0)
        guess = np.where((needed > 0) & (needed <= k), answers, 0)
        return torch.nn.functional.one_hot(torch.from_numpy(guess), TASK.d_vocab) * 50.0

    def __call__(self, tokens, n_iters):
        return self.solved(tokens, n_iters)

    def readout(self, state):
        return self.solved(state.tokens, state.k)


@pytest.fixture(scope="module")
def oracle(model):
    return probes.task_depth(Oracle(model), TASK, 4, n_answers=20, n_rows=12)


@pytest.fixture(scope="module")
def untrained(model):
    return probes.task_depth(model, TASK, 2, n_answers=30, n_rows=6, seed=3)


def test_accuracy_is_the_tasks_own_measure_of_model_and_random_weights(model, untrained):
    for judged, found in ((model, "accuracy"), (model.randomized(3), "control")):
        alone = accuracy(judged, TASK, (0, 1, 2), (1, 3), n_instances=30, seed=3)
        assert getattr(untrained, found) == pytest.approx(alone.accuracy)
    assert untrained.n.min() >= 30 and untrained.chance == pytest.approx(1 / 6)


def test_needed_steps_join_with_the_position_that_predicts_the_answer(untrained):
    batch = TASK.sample(3, 6, (1, 3), split="test", step=1 << 31)
    assert [tuple(row) for row in untrained.tokens] == [
        tuple(TASK.tokenizer().convert_ids_to_tokens(row)) for row in batch.tokens.tolist()
    ]
    assert (untrained.needed[:, :-1] == batch.difficulty[:, 1:]).all()
    assert (untrained.answers >= 0).sum() == batch.counted.sum()


def test_who_solves_d_steps_in_d_iterations_is_seen_to(oracle):
    reached = oracle.depths[:, None] >= oracle.difficulty[None]
    assert (oracle.accuracy == reached).all()
    due = oracle.needed > 0
    k = np.arange(5)[:, None, None]
    assert (oracle.right[:, due] == (k >= oracle.needed)[:, due]).all()
    # The prediction changes last when the answer is found, so a rule on it stops one later.
    exits = oracle.exits("kl")
    assert (exits.exit_step[exits.fired] >= exits.needed[exits.fired]).sum() > 0
    assert exits.difficulty.tolist() == [1, 2, 3]


def test_exits_follow_the_rule_and_its_threshold(oracle):
    fixed = oracle.exits("fixed_k", 3)
    assert (fixed.exit_step == 3).all() and (fixed.right == (fixed.needed <= 3)).all()
    assert np.isnan(fixed.correlation).all()
    assert fixed.means[:, 0].tolist() == [3, 3, 3]
    assert "ρ undefined" in str(fixed.figure().to_dict()["layout"]["annotations"])


def test_correlation_has_its_interval_over_rows(oracle):
    """An exit step that is the needed number of steps has ρ = 1 in every draw."""
    import dataclasses

    values = np.where(np.arange(5)[:, None, None] >= oracle.needed, 0.0, 1.0)
    values = np.broadcast_to(values, oracle.replay.values.shape).copy()
    perfect = dataclasses.replace(oracle, replay=dataclasses.replace(oracle.replay, values=values))
    exits = perfect.exits("kl", 0.5)
    assert (exits.exit_step == exits.needed).all()
    assert exits.correlation == pytest.approx([1, 1, 1])
    assert exits.means[:, 0] == pytest.approx(exits.difficulty)


def test_spearman_is_scipys_and_weights_repeat():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 50), rng.integers(0, 9, 50)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    weight = rng.integers(0, 3, 50)
    repeated = spearmanr(np.repeat(x, weight), np.repeat(y, weight)).statistic
    assert spearman(x, y, weight) == pytest.approx(repeated)
    assert np.isnan(spearman(x, np.ones(50)))


def test_refused_depths_are_blank_and_named(tiny_model):
    model = tiny_model(
        AdaPonder(), tokenizer=TASK.tokenizer(), d_vocab=TASK.d_vocab, n_ctx=40,
        n_head_blocks=0, n_tail_blocks=0,
    )  # fmt: skip
    result = probes.task_depth(model, TASK, 4, n_answers=10, n_rows=4)
    assert np.isnan(result.accuracy[3:]).all() and np.isfinite(result.accuracy[:3]).all()
    assert result.replay.n_iters == 2 and result.exits("kl").exit_step.max() <= 2
    text = next(result.figure().select_annotations({"name": "caption"})).text
    assert "refuses r = 3, 4" in text.replace("<br>", " ")


def test_a_stored_result_draws_the_same(untrained):
    again = probes.Result.from_arrays(*untrained.to_arrays())
    for view in ("grid", "curves", "answers"):
        assert again.figure(view=view) == untrained.figure(view=view)
    assert again.exits("cosine").to_frame().equals(untrained.exits("cosine").to_frame())
    assert len(untrained.to_frame()) == untrained.accuracy.size


def test_grid_marks_training_and_chance(untrained):
    fig = untrained.figure(theme="dark")
    assert {"→ harder than trained"} <= {t.name for t in fig.data if t.name}
    cells = next(t for t in fig.data if t.type == "heatmap")
    assert "chance 0.17" in cells.colorbar.ticktext and (cells.zmin, cells.zmax) == (0, 1)


def test_progress_ends_at_its_total_and_can_stop_the_run(model):
    seen = []
    settings = {"n_answers": 10, "n_rows": 3}
    probes.task_depth(model, TASK, 1, progress=lambda *now: seen.append(now), **settings)
    assert seen[-1][0] == seen[-1][1] and [d for d, _ in seen] == sorted(d for d, _ in seen)
    with pytest.raises(Cancelled):
        probes.task_depth(model, TASK, 1, progress=lambda *now: len(seen) < 0, **settings)


def test_a_model_of_other_words_is_refused_before_anything_runs(tiny_model, tiny_tokenizer):
    other = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    with pytest.raises(InputError, match="tokenizer"):
        probes.task_depth(other, TASK, 2, progress=lambda *now: pytest.fail("it ran"))
    with pytest.raises(InputError, match="n_rows"):
        probes.task_depth(other, TASK, 2, n_rows=1)
