"""Accuracy against models whose answers are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from abbie_lens import tasks
from abbie_lens.errors import DepthError, InputError
from abbie_lens.tasks import evaluate

KHOP = tasks.make("k-hop")


class Oracle(torch.nn.Module):
    """Follows at most n_iters hops of a k-hop row, and refuses more than `most` iterations."""

    def __init__(self, task=KHOP, most=100):
        super().__init__()
        self.cfg = SimpleNamespace(d_vocab=task.d_vocab, n_ctx=task.n_ctx)
        self.tokenizer, self.device, self.most = task.tokenizer(), "cpu", most
        self.hop, self.pairs = task.vocabulary[">"], task.opening_length
        self.modes, self.asked = [], []

    def forward(self, tokens, n_iters):
        if n_iters > self.most:
            raise DepthError(f"n_iters={n_iters}: at most {self.most}")
        self.modes.append((self.training, torch.is_inference_mode_enabled()))
        self.asked.append(tokens.numpy().tobytes())
        logits = torch.zeros(*tokens.shape, self.cfg.d_vocab)
        for row, words in zip(logits, tokens.tolist(), strict=True):
            follows = dict(
                zip(
                    words[1 : self.pairs + 1 : 3],
                    words[2 : self.pairs + 1 : 3],
                    strict=True,
                )
            )
            here, hops = 0, 0
            for position, word in enumerate(words):
                if word != self.hop:
                    here, hops = word, 0
                elif hops < n_iters:
                    here, hops = follows[here], hops + 1
                row[position, here] = 1
        return logits


def test_a_model_that_makes_one_hop_an_iteration_solves_what_it_can_reach():
    result = evaluate.accuracy(
        Oracle(), KHOP, (1, 2, 4, 8), (1, 5), n_instances=50, batch_size=16, confidence=0.9
    )
    reach = np.array(result.n_iters)[:, None] >= np.array(result.difficulty)
    assert (result.accuracy == reach).all()
    assert ((result.low <= result.accuracy) & (result.accuracy <= result.high)).all()
    assert (result.high - result.low > 0).all() and (result.n >= 50).all()
    assert result.chance == KHOP.chance and tasks.decode(result.task) == KHOP


def test_a_refused_depth_is_undefined_and_the_others_are_not():
    result = evaluate.accuracy(Oracle(most=3), KHOP, (2, 4, 3), 2, n_instances=10, batch_size=4)
    assert np.isnan(result.accuracy[1]).all() and np.isnan(result.low[1]).all()
    assert (result.accuracy[[0, 2]] == 1).all()


def test_other_errors_of_the_model_are_not_swallowed():
    class Broken(Oracle):
        def forward(self, tokens, n_iters):
            raise InputError("tokens: unlucky")

    with pytest.raises(InputError, match="unlucky"):
        evaluate.accuracy(Broken(), KHOP, (1,), 1, n_instances=1)


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_a_real_model_without_training_is_near_chance_at_best(name, tiny_model):
    task = tasks.make(name)
    model = tiny_model(tokenizer=task.tokenizer(), d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    result = evaluate.accuracy(model, task, (0, 2), task.hardest, n_instances=60, batch_size=16)
    assert result.accuracy.shape == (2, 1) and np.isfinite(result.accuracy).all()
    assert (result.low <= task.chance + 0.2).all()
    assert not model.training


def test_the_same_questions_whatever_the_range_or_the_depths():
    first, second = Oracle(), Oracle()
    wide = evaluate.accuracy(first, KHOP, (1, 2), (1, 3), n_instances=100, batch_size=8)
    narrow = evaluate.accuracy(second, KHOP, (2,), 3, n_instances=100, batch_size=8)
    assert wide.n[2] == narrow.n[0]
    assert first.asked[-2 * len(second.asked) :: 2] == second.asked
    assert len(set(first.asked)) == len(first.asked) // 2, "no row is asked for twice at one depth"


def test_the_model_is_read_in_eval_mode_and_given_back_as_it_was():
    model = Oracle().train()
    heard = []
    evaluate.accuracy(
        model, KHOP, (1,), (1, 2), n_instances=20, batch_size=2, progress=lambda *x: heard.append(x)
    )
    assert model.training and set(model.modes) == {(False, True)}
    assert heard[-1] == (40, 40) and heard == sorted(heard)


def test_json_and_back():
    result = evaluate.accuracy(Oracle(most=1), KHOP, (1, 2), (1, 2), n_instances=5, batch_size=2)
    text = json.dumps(result.to_dict(), allow_nan=False)
    again = evaluate.TaskEvaluation.from_dict(json.loads(text))
    for name in evaluate.ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(result, name))
    assert again.to_dict() == result.to_dict()
    table = result.to_frame()
    assert len(table) == 4
    assert table.set_index(["n_iters", "difficulty"]).accuracy[1, 2] == result.accuracy[0, 1]


def test_intervals_of_independent_answers_are_wilsons():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662."""
    low, high = evaluate.wilson(np.array(81 / 263), np.array(263), 0.95)
    assert (round(float(low), 4), round(float(high), 4)) == (0.2553, 0.3662)


def test_intervals_cover_although_answers_of_a_row_go_together():
    generator = np.random.default_rng(0)
    covered, naive = 0, 0
    for _ in range(400):
        tally = evaluate.Tally(1)
        asked = generator.integers(1, 8, size=60)
        tally.add(asked * (generator.random(60) < 0.3), asked)  # a row is right or wrong as a whole
        share, low, high = tally.interval(0.95)[:, 0]
        covered += low <= 0.3 <= high
        alone = evaluate.wilson(share, np.array(tally.n), 0.95)
        naive += alone[0] <= 0.3 <= alone[1]
    assert covered / 400 > 0.92
    assert naive / 400 < 0.8, "treating the answers as independent would have passed as well"


@pytest.mark.parametrize(
    ("argument", "value"),
    [("n_iters", ()), ("n_iters", (-1,)), ("n_instances", 0), ("difficulty", 9), ("confidence", 1)],
)
def test_impossible_arguments_are_named(argument, value):
    with pytest.raises(InputError, match=f"{argument}="):
        evaluate.accuracy(Oracle(), KHOP, **{argument: value})


def test_a_model_of_another_task_is_refused():
    with pytest.raises(InputError, match="d_vocab=19"):
        evaluate.accuracy(Oracle(), tasks.make("k-hop", n_nodes=20, n_ctx=120), (1,))
    model = Oracle()
    model.tokenizer = tasks.make("s5").tokenizer()
    with pytest.raises(InputError, match="another number for '>'"):
        evaluate.accuracy(model, KHOP, (1,))
