"""What holds for every task: known answers and steps, splits that share nothing, balance, tokenizers, speed."""

import importlib.util
import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens import tasks
from abbie_lens.errors import ConfigError, InputError

_spec = importlib.util.spec_from_file_location("solvers", Path(__file__).with_name("solvers.py"))
solvers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(solvers)


def rows_of(task, batch):
    """Words of each row after `<|endoftext|>`, padding left out."""
    for tokens, real in zip(batch.tokens, batch.real, strict=True):
        assert tokens[0] == 0 and real[0] and (tokens[~real] == 0).all() and tokens[real][1:].all()
        yield task.text(tokens).split()


def assert_solved(task, batch, **solver_settings):
    for row, words in enumerate(rows_of(task, batch)):
        solved = list(solvers.SOLVERS[task.name](words, **solver_settings))
        assert solved, "a row holds at least one question"
        where = [index + 1 for index, _, _ in solved]
        assert np.flatnonzero(batch.counted[row]).tolist() == where
        assert [words[i - 1] for i in where] == [answer for _, answer, _ in solved]
        assert batch.difficulty[row, where].tolist() == [steps for _, _, steps in solved]
    assert (batch.difficulty[~batch.counted] == 0).all()


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**62 - 1), data=st.data())
def test_an_independent_solver_agrees_on_answers_and_steps(name, seed, data):
    task = tasks.make(name)
    low = data.draw(st.integers(1, task.hardest))
    assert_solved(task, task.sample(seed, 6, (low, task.hardest), split="test"))


OTHER_SETTINGS = [
    ("k-hop", dict(n_nodes=52, n_ctx=200, test_difficulty=(2, 26)), {}),
    ("modular-sum", dict(modulus=7, n_chains=2), dict(modulus=7)),
    ("addition", dict(order="least-first", n_digits=7), dict(order="least-first")),
    ("dyck", dict(n_kinds=2, test_difficulty=(3, 12)), {}),
    ("s5", dict(degree=3, test_difficulty=(9, 20)), {}),
    ("tracking", dict(n_objects=9, n_ctx=64), {}),
]


@pytest.mark.parametrize(("name", "changes", "solver_settings"), OTHER_SETTINGS)
def test_the_solver_agrees_under_other_settings(name, changes, solver_settings):
    task = tasks.make(name, **changes)
    for difficulty in (None, task.hardest):
        batch = task.sample(5, 20, difficulty, split="test")
        assert_solved(task, batch, **solver_settings)
        read = task.labels(batch.tokens, batch.real)
        assert read.difficulty.equals(batch.to_frame().difficulty)


@pytest.mark.parametrize("name", ["k-hop", "modular-sum"])
def test_facts_stand_in_no_order(name):
    """That a fact follows directly on the one it continues happens by chance alone."""
    task, met, seen = tasks.make(name), 0, 0
    for words in rows_of(task, task.sample(0, 200)):
        facts = [c for _, c in solvers.clauses(words[: task.opening_length])]
        ends = (0, 1) if name == "k-hop" else (1, 0)
        for fact, following in itertools.pairwise(facts):
            seen += 1
            met += following[ends[0]] == fact[ends[1]]
    by_chance = 1 / len(facts)
    assert met / seen < by_chance + 5 * np.sqrt(by_chance / seen)


def test_a_carry_is_a_fair_coin():
    """So that no digit above a chain of nines can be guessed."""
    task = tasks.make("addition")
    ones = [
        answer == "0"
        for words in rows_of(task, task.sample(0, 400, task.hardest))
        for _, clause in solvers.clauses(words)
        for a, b, answer in zip(clause[:8], clause[9:17], clause[19:], strict=True)
        if int(a) + int(b) == 9
    ]
    assert len(ones) == 400 * 3 * 5
    assert abs(np.mean(ones) - 0.5) < 5 * np.sqrt(0.25 / 1200)


def test_every_asked_difficulty_occurs_and_none_beyond(task):
    for difficulty in range(1, task.hardest + 1):
        batch = task.sample(1, 20, difficulty)
        assert batch.difficulty.max() == difficulty
        assert (batch.difficulty == difficulty).sum() >= 20


def test_training_stays_within_its_difficulty_and_the_test_goes_beyond(task):
    train, test = (task.sample(0, 200, split=split).difficulty for split in ("train", "test"))
    assert train.max() == task.train_difficulty[1] < task.test_difficulty[1] == test.max()


def test_rows_are_a_function_of_settings_split_seed_and_step(task):
    first = task.sample(3, 16, step=5, split="test")
    again = tasks.decode(json.loads(json.dumps(tasks.encode(task)))).sample(
        3, 16, step=5, split="test"
    )
    assert (first.tokens == again.tokens).all() and (first.difficulty == again.difficulty).all()
    others = [dict(step=6, split="test"), dict(step=5, split="train")]
    assert not any((task.sample(3, 16, **o).tokens == first.tokens).all() for o in others)


def test_no_row_of_the_test_occurs_in_training(task):
    """Same seed, same difficulty: only the streams keep the splits apart."""
    hard = task.test_difficulty
    seen = {
        row.tobytes()
        for step in range(4)
        for row in task.sample(0, 100, hard, split="train", step=step).tokens
    }
    asked = {
        row.tobytes()
        for step in range(4)
        for row in task.sample(0, 100, hard, split="test", step=step).tokens
    }
    assert len(seen) > 395 and len(asked) > 395
    assert not seen & asked


def test_no_constant_guess_beats_chance(task):
    # The first digit of a sum needs 1 step and is 0 or 1: chance is stated for the others.
    easiest = 2 if task.name == "addition" else 1
    for difficulty in {easiest, task.train_difficulty[1], task.hardest}:
        batch = task.sample(7, 600, difficulty)
        answers = batch.tokens[batch.difficulty == difficulty]
        share = np.bincount(answers).max() / len(answers)
        spread = 5 * np.sqrt(task.chance / len(answers))
        assert task.chance - spread < share < task.chance + spread


def test_a_typed_row_has_the_tokens_that_were_drawn(task):
    tokenizer = task.tokenizer()
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert len(tokenizer) == task.d_vocab
    batch = task.sample(0, 10, split="test")
    for tokens, real in zip(batch.tokens, batch.real, strict=True):
        typed = tokenizer.encode(task.text(tokens), add_special_tokens=False)
        assert [0, *typed] == tokens[real].tolist()
        assert " ".join(tokenizer.decode([i]) for i in typed) == task.text(tokens)
    assert all(len(word) <= 5 for word in task.words)


def test_the_tokenizer_is_saved_and_loaded_with_a_model(task, tiny_model, tmp_path):
    import abbie_lens

    model = tiny_model(tokenizer=task.tokenizer(), d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    model.save_pretrained(tmp_path / "m")
    loaded = abbie_lens.load(tmp_path / "m")
    batch = task.sample(0, 1)
    assert loaded.to_tokens(task.text(batch.tokens[0])).tolist() == [
        batch.tokens[0][batch.real[0]].tolist()
    ]


def test_training_batches_are_those_of_the_train_split(task):
    batches = tasks.TaskBatches(task, batch_size=4, seed=9)
    ahead = {step: batches(step) for step in range(5)}
    for step in reversed(range(5)):
        tokens, counted = tasks.TaskBatches(task, 4, 9)(step)
        assert (tokens == ahead[step][0]).all() and (counted == ahead[step][1]).all()
        assert tokens.shape == counted.shape == (4, task.n_ctx) and tokens.dtype == np.int64
        assert (tokens == task.sample(9, 4, split="train", step=step).tokens).all()
    assert not (ahead[0][0] == ahead[1][0]).all()


def test_drawing_keeps_up_with_training(task):
    """At least 200,000 tokens a second of one core; the best of three, other work may be running."""
    batches = tasks.TaskBatches(task, batch_size=64, seed=0)
    batches(0)
    seconds = []
    for trial in range(3):
        begun = time.process_time()
        for step in range(5):
            batches(5 * trial + step)
        seconds.append(time.process_time() - begun)
    assert 5 * 64 * task.n_ctx / min(seconds) > 200_000


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, (3, 2), (1, 10**6), "2", (1, 2, 3)])
def test_impossible_difficulties_are_named(task, wrong):
    with pytest.raises(InputError, match="difficulty="):
        task.sample(0, 1, wrong)


@pytest.mark.parametrize(
    ("argument", "value"), [("seed", -1), ("step", -1), ("n", 0), ("split", "dev")]
)
def test_impossible_arguments_are_named(task, argument, value):
    with pytest.raises(InputError, match=f"{argument}="):
        task.sample(**{"seed": 0, "n": 1, argument: value})


def test_impossible_settings_are_named():
    with pytest.raises(ConfigError, match=r"'k-hopp'.*Nearest: k-hop"):
        tasks.make("k-hopp")
    with pytest.raises(ConfigError, match=r"unknown setting 'n_node'.*Nearest: n_nodes"):
        tasks.make("k-hop", n_node=4)
    with pytest.raises(ConfigError, match=r"train_difficulty=\(4, 1\)"):
        tasks.make("k-hop", train_difficulty=(4, 1))
    with pytest.raises(ConfigError, match=r"n_ctx=20: expected an integer >= 60"):
        tasks.make("k-hop", n_ctx=20)
    with pytest.raises(ConfigError, match="n_nodes=8"):
        tasks.make("k-hop", n_nodes=8)
