"""Local tasks through lm-eval: scores against a direct computation, undefined depths, code that is not run."""

import functools
import json
import math
import sys

import numpy as np
import pytest
import torch

from abbie_lens.errors import DepthError, InputError, TaskError
from abbie_lens.evaluation import Evaluator, extra
from abbie_lens.evaluation.intervals import wilson

N = 20


@pytest.fixture(scope="module")
def long_reader(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=96, seed=5)


@pytest.fixture(scope="module")
def documents(project_root):
    path = project_root / "tests" / "data" / "minimal_pairs.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(found) == N
    return found


@pytest.fixture(scope="module")
def evaluator(long_reader, task_folder):
    return Evaluator(
        long_reader, ["minimal_pairs", "texts"], include_path=task_folder, batch_size=7, n_draws=200
    )


@torch.no_grad()
def nll(model, text, r):
    return float(model(text, n_iters=r, return_type="loss", loss_per_token=True).sum())


@pytest.mark.parametrize("r", [1, 4])
def test_accuracy_is_the_share_of_pairs_whose_good_sentence_is_likelier(
    evaluator, long_reader, documents, r
):
    found = {s.key: s for s in evaluator.scores(r).scores}
    right = [nll(long_reader, d["good"], r) < nll(long_reader, d["bad"], r) for d in documents]
    acc = found["minimal_pairs", "acc", "none"]
    assert acc.value == np.mean(right) and 0 < acc.value < 1
    assert acc.low < acc.value < acc.high and acc.interval == "Wilson"
    assert (acc.n_documents, acc.chance, acc.higher_is_better) == (N, 0.5, True)


def test_perplexity_is_that_of_the_texts(evaluator, long_reader, documents):
    found = {s.metric: s for s in evaluator.scores(2).scores if s.task == "texts"}
    nats = sum(nll(long_reader, d["good"], 2) for d in documents)
    bits = nats / math.log(2) / sum(len(d["good"].encode()) for d in documents)
    score = found["bits_per_byte"]
    assert score.value == pytest.approx(bits, rel=1e-5)
    assert score.interval == "bootstrap" and score.low < score.value < score.high
    assert math.isnan(score.chance) and not score.higher_is_better


def test_generation_tasks_are_scored(long_reader, task_folder):
    found = Evaluator(long_reader, ["copying"], include_path=task_folder, limit=3).scores(1)
    (score,) = found.scores
    assert (score.metric, score.n_documents, score.value) == ("exact_match", 3, 0.0)
    assert score.low == 0 and 0 < score.high < 1


def test_a_group_averages_its_members_and_so_do_its_interval_and_chance(long_reader, task_folder):
    found = Evaluator(long_reader, ["both"], include_path=task_folder, n_draws=200).scores(2)
    by_task = {s.task: s for s in found.scores if s.metric == "acc"}
    group, *members = (by_task[n] for n in ("both", "minimal_pairs", "minimal_pairs_again"))
    assert group.value == pytest.approx(np.mean([m.value for m in members]))
    assert group.chance == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert group.n_documents == 2 * N and group.interval == "Wilson"
    assert (group.low, group.high) == wilson(sum(m.value for m in members) * N, 2 * N)
    assert [m.part_of for m in members] == ["both", "both"] and group.part_of == ""
    assert group.low < group.value < group.high


def test_an_unweighted_group_takes_the_bootstrap_of_its_members(long_reader, task_folder, tmp_path):
    text = (task_folder / "both.yaml").read_text().replace("true", "false")
    for name in ("minimal_pairs", "minimal_pairs_again"):
        (tmp_path / f"{name}.yaml").write_text((task_folder / f"{name}.yaml").read_text())
    (tmp_path / "both.yaml").write_text(text)
    found = Evaluator(long_reader, ["both"], include_path=tmp_path, n_draws=400).scores(2)
    group, *members = (s for s in found.scores if s.metric == "acc")
    assert group.interval == "bootstrap" and group.low < group.value < group.high
    # Independent members: the variance of a mean of two is a quarter of their sum.
    sd = math.sqrt(sum(m.value * (1 - m.value) / N for m in members)) / 2
    assert group.high - group.low == pytest.approx(2 * 1.96 * sd, rel=0.2)


def test_limit_takes_the_first_documents(long_reader, task_folder, documents):
    found = Evaluator(long_reader, ["minimal_pairs"], include_path=task_folder, limit=6).scores(2)
    right = [nll(long_reader, d["good"], 2) < nll(long_reader, d["bad"], 2) for d in documents[:6]]
    assert found.scores[0].value == np.mean(right) and found.scores[0].n_documents == 6


def test_a_refused_or_diverged_depth_has_no_scores_and_a_reason(
    tiny_model, tiny_tokenizer, task_folder, monkeypatch
):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=96)
    evaluator = Evaluator(model, ["minimal_pairs"], include_path=task_folder, limit=4)

    def refuse(n_iters=None):
        raise DepthError(f"n_iters={n_iters}: at most 4")

    with monkeypatch.context() as patch:
        patch.setattr(model, "depth", refuse)
        found = evaluator.scores(8)
    assert found.scores == () and found.undefined == "n_iters=8: at most 4"
    with torch.no_grad():
        model.ln_final.weight.fill_(float("nan"))
    found = evaluator.scores(2)
    assert found.scores == () and "finite" in found.undefined


def test_identity_tells_runs_apart(evaluator, long_reader, task_folder, tiny_model):
    def of(model=long_reader, tasks=("minimal_pairs",), folder=task_folder, **settings):
        return Evaluator(model, tasks, include_path=folder, **settings).identity()

    same, base = of(), of()
    assert same == base == json.loads(json.dumps(base))
    other = tiny_model(tokenizer=long_reader.tokenizer, d_vocab=300, n_ctx=96, seed=6)
    assert of(other)["weight_hash"] != base["weight_hash"]
    shorter = tiny_model(tokenizer=long_reader.tokenizer, d_vocab=300, n_ctx=95, seed=5)
    assert of(shorter)["config"] != base["config"]
    assert of(tasks=["minimal_pairs", "texts"])["tasks"] != base["tasks"]
    assert of(limit=5)["documents"] != of(limit=6)["documents"]


def test_an_edited_task_file_is_another_run(long_reader, task_folder, tmp_path):
    text = (task_folder / "minimal_pairs.yaml").read_text()
    for name, changed in (("a", text), ("b", text.replace('doc_to_text: ""', 'doc_to_text: "So"'))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "minimal_pairs.yaml").write_text(changed)
    first, second = (
        Evaluator(long_reader, ["minimal_pairs"], include_path=tmp_path / name).identity()
        for name in "ab"
    )
    assert first["documents"] != second["documents"]


def test_unknown_names_get_the_nearest(long_reader, task_folder, monkeypatch):
    from abbie_lens.evaluation import tasks

    # lm-eval's own thousands of task files take long to read
    own = functools.partial(tasks.TaskManager, include_defaults=False)
    monkeypatch.setattr(tasks, "TaskManager", lambda **given: own(**{**given, **own.keywords}))
    with pytest.raises(InputError, match=r"'minimal_pear'.*Nearest: .*minimal_pairs"):
        Evaluator(long_reader, ["minimal_pear"], include_path=task_folder)
    with pytest.raises(InputError, match="no such folder"):
        Evaluator(long_reader, ["minimal_pairs"], include_path=task_folder / "missing")
    with pytest.raises(InputError, match="none named"):
        Evaluator(long_reader, [])


def test_a_task_whose_data_are_not_there_says_which(long_reader, tmp_path):
    text = "task: lost\ndataset_path: json\ndataset_kwargs: {data_files: {test: /no/such.jsonl}}\n"
    (tmp_path / "lost.yaml").write_text(text + "test_split: test\noutput_type: multiple_choice\n")
    with pytest.raises(TaskError, match=r"lost.*no/such\.jsonl"):
        Evaluator(long_reader, ["lost"], include_path=tmp_path)


def test_a_metric_script_of_the_hub_is_not_fetched(long_reader, task_folder, tmp_path, monkeypatch):
    import evaluate

    fetched = []
    monkeypatch.setattr(evaluate, "load", lambda name, *a, **k: fetched.append(name))
    text = (task_folder / "copying.yaml").read_text().replace("exact_match", "some_hub_metric")
    (tmp_path / "copying.yaml").write_text(text)
    with pytest.raises(InputError, match=r"'some_hub_metric'.*--allow-code"):
        Evaluator(long_reader, ["copying"], include_path=tmp_path)
    assert not fetched
    Evaluator(long_reader, ["copying"], include_path=tmp_path, allow_code=True)
    assert fetched == ["some_hub_metric"]


def test_a_task_that_runs_the_models_programs_needs_leave(long_reader, task_folder, tmp_path):
    text = (task_folder / "copying.yaml").read_text() + "unsafe_code: true\n"
    (tmp_path / "copying.yaml").write_text(text)
    with pytest.raises(InputError, match=r"'copying'.*--allow-code"):
        Evaluator(long_reader, ["copying"], include_path=tmp_path)
    allowed = Evaluator(long_reader, ["copying"], include_path=tmp_path, limit=1, allow_code=True)
    assert allowed.scores(1).scores


def test_without_lm_eval_the_extra_is_named(long_reader, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(InputError, match=r"pip install 'abbie-lens\[eval\]'"):
        extra.require()
    with pytest.raises(InputError, match=r"abbie-lens\[eval\]"):
        Evaluator(long_reader, ["minimal_pairs"])


def test_global_generators_go_on_as_before(evaluator):
    import random

    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    evaluator.scores(1)
    evaluator.identity()
    assert (random.random(), np.random.random()) == expected
