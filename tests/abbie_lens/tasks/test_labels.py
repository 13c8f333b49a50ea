"""Labels by position: of drawn rows and of typed prompts, on the position that must know the answer."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens import tasks


def test_the_table_labels_the_position_that_must_know_the_answer(task, tiny_model):
    """Its rows join with an analysis of the same tokens: there, a position's NLL is that of the next token."""
    batch = task.sample(0, 3)
    model = tiny_model(tokenizer=task.tokenizer(), d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    names = [model.to_str_tokens(row) for row in batch.tokens]
    table = batch.to_frame(names)
    assert len(table) == batch.real.sum()
    answers = table[table.counted]
    assert len(answers) == batch.counted.sum()
    for row in answers.itertuples():
        assert row.answer == names[row.batch][row.position + 1]
        assert row.difficulty == batch.difficulty[row.batch, row.position + 1]
    assert table[~table.counted].difficulty.isna().all()
    assert table[~table.counted].answer.isna().all()


def test_a_prompt_is_labelled_by_its_text_alone(task):
    """As its maker labelled it, also where it ends just before an answer."""
    batch = task.sample(11, 40, split="test")
    made, read = batch.to_frame(), task.labels(batch.tokens, batch.real)
    for column in ("batch", "position", "counted", "difficulty"):
        assert made[column].equals(read[column])
    tokens = batch.tokens[0]
    for t in np.flatnonzero(batch.counted[0]):
        last = task.labels(tokens[:t]).iloc[-1]
        assert last.difficulty == batch.difficulty[0, t] and pd.isna(last.answer)
        assert last.token == task.text(tokens[t - 1 : t])


def test_a_shifted_label_would_show(task):
    batch = task.sample(11, 4)
    assert not (batch.to_frame().counted.to_numpy() == batch.counted[batch.real]).all()


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(tasks.TASKS)), data=st.data())
def test_any_prompt_of_the_vocabulary_is_labelled_or_left_alone(name, data):
    task = tasks.make(name)
    ids = st.lists(st.integers(0, task.d_vocab - 1), min_size=1, max_size=30)
    table = task.labels(np.array(data.draw(ids)))
    assert table.counted.equals(table.difficulty.notna())
