"""Labels of the tasks: at the token that must know the answer."""

import numpy as np
import pytest

from abbie_lens import tasks
from abbie_lens.corpus import encode
from abbie_lens.errors import InputError
from probes.labels import task_label


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_labels_stand_where_the_task_says_an_answer_is_due(name):
    task = tasks.make(name)
    batch, tokenizer = task.sample(3, 4, split="test"), task.tokenizer()
    answer, steps = (task_label(task, which, n=4, seed=3) for which in ("answer", "steps"))
    for row, document in enumerate(answer.documents):
        ids, spans = (np.concatenate(x) for x in zip(*encode(document, tokenizer), strict=True))
        # Without the token that begins a row.
        np.testing.assert_array_equal(ids, batch.tokens[row, batch.real[row]][1:])
        following, counted = ids[1:], batch.counted[row, batch.real[row]][2:]
        said, needed = answer.of(row, [], spans)[:-1], steps.of(row, [], spans)[:-1]
        assert ((said >= 0) == counted).all() and ((needed >= 0) == counted).all()
        words = [answer.classes[c] for c in said[counted]]
        assert words == [task.words[i - 1] for i in following[counted]]
        difficulty = batch.difficulty[row, batch.real[row]][2:][counted]
        assert [int(steps.classes[c]) for c in needed[counted]] == difficulty.tolist()


def test_unknown_labels_are_refused():
    with pytest.raises(InputError, match="label='hops': of a task, one of answer, steps"):
        task_label(tasks.make("k-hop"), "hops")
