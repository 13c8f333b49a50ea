"""Scores against depth: what is gathered, kept in a file, continued, drawn."""

import json
import re

import numpy as np
import pytest

from abbie_lens.errors import DepthError, ExistsError, InputError
from abbie_lens.evaluation import DepthScores, Evaluator, Score
from abbie_lens.evaluation.store import ScoreFile
from abbie_lens.info import ModelInfo
from probes.evaluation import EvalScores, eval_scores, gather

INFO = ModelInfo("a <b> model", "abbie-d", "0" * 8, 7, 2, "float32")
NAN = float("nan")


def score(task="<b>pairs</b>", value=0.5, metric="acc", **changes):
    given = dict(
        task=task, metric=metric, filter="none", value=value, low=value - 0.1, high=value + 0.2,
        interval="Wilson", n_documents=20, chance=0.5, higher_is_better=True, part_of="",
    )  # fmt: skip
    return Score(**(given | changes))


@pytest.fixture
def result():
    """Two tasks and a group's member at r = 1, 2, 4, 8; r = 4 is refused."""
    made = [
        DepthScores(
            r,
            (
                score(value=0.5 + r / 40),
                score("other $x$", 0.3 + r / 40, chance=0.25),
                score("member", 0.6, part_of="other $x$"),
                score("other $x$", 9.0 - r, "word_perplexity", interval="bootstrap",
                      chance=NAN, higher_is_better=False),
            ),
            n_truncated=3 * (r == 2),
            n_requests=80,
        )
        for r in (1, 2, 8)
    ]  # fmt: skip
    return gather(INFO, [*made[:2], DepthScores(4, (), "at most 3"), made[2]], 0.95)


def test_a_refused_depth_is_nan_in_the_table_and_null_in_json(result, tmp_path):
    frame = result.to_frame()
    assert len(frame) == 4 * 4
    refused = frame[frame.n_iters == 4]
    assert refused[["value", "low", "high"]].isna().all().all()
    assert set(refused.undefined) == {"at most 3"}
    acc = frame[(frame.task == "<b>pairs</b>")]
    assert acc.value.tolist()[:2] == [0.525, 0.55] and acc.n_iters.tolist() == [1, 2, 4, 8]
    table = json.loads(result.save(tmp_path / "x.json").read_text())["table"]
    assert {row["value"] for row in table if row["n_iters"] == 4} == {None}


def test_a_result_is_taken_apart_and_put_together(result):
    again = EvalScores.from_arrays(*result.to_arrays())
    assert again.to_frame().equals(result.to_frame())


def test_no_depth_at_all_is_an_error():
    with pytest.raises(DepthError, match="r=4: at most 3; r=8: at most 3"):
        gather(INFO, [DepthScores(r, (), "at most 3") for r in (4, 8)], 0.95)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_figure_shows_scores_bands_and_chance(result, theme):
    figure = result.figure(theme=theme)
    lines = [t for t in figure.data if t.mode == "lines+markers"]
    assert [np.isnan(line.y).tolist() for line in lines] == [[False, False, True, False]] * 3
    assert lines[0].y[0] == 0.525 and lines[0].x.tolist() == [1, 2, 4, 8]
    # Between 2 and 8 nothing is known, so no band crosses 4.
    bands = [t for t in figure.data if t.fill == "toself"]
    assert len(bands) == 3 and all(set(band.x) == {1, 2} for band in bands)
    assert bands[0].y[0] == pytest.approx(0.725) and bands[0].y[-1] == pytest.approx(0.425)
    chance = [t for t in figure.data if t.name == "chance"]
    assert sorted(line.y[0] for line in chance) == [0.25, 0.5]
    assert len([t for t in figure.data if t.name == "chance" and t.showlegend]) == 1
    # panels by metric, told apart by direction
    titles = {a.text for a in figure.layout.annotations}
    assert {"acc (higher is better)", "word_perplexity (lower is better)"} <= titles
    caption = next(a.text for a in figure.layout.annotations if a.name == "caption")
    said = caption.replace("<br>", " ")
    assert "Not defined at r = 4" in said and "3 of 80 prompts" in said and "Wilson" in said


def test_a_group_hides_its_members_unless_they_are_asked_for(result):
    names = {t.name for t in result.figure().data if t.mode == "lines+markers"}
    assert "member" not in names
    asked = result.figure(tasks=["member"], metrics=["acc"])
    assert [t.name for t in asked.data if t.mode == "lines+markers"] == ["member"]
    with pytest.raises(InputError, match=r"tasks='membre'.*Nearest: member"):
        result.figure(tasks=["membre"])
    with pytest.raises(InputError, match="metrics='f1'"):
        result.figure(metrics=["f1"])


def test_names_from_task_files_are_text(result):
    text = json.dumps(json.loads(result.figure().to_json()), ensure_ascii=False)
    ours = re.compile(r"</?(b|br|sup|sub|span|extra)>")
    assert "<b>pairs" not in text and "&lt;b&gt;pairs" in text and "$x$" not in text
    assert "<" not in ours.sub("", text)


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=96, seed=5)


@pytest.fixture
def run(model, task_folder, monkeypatch):
    """`run(depths, …)`: (result, the depths that were evaluated, what progress was told)."""

    def start(n_iters, model=model, tasks=("minimal_pairs",), **settings):
        evaluated, told = [], []
        original = Evaluator.scores

        def counted(self, r, progress=None):
            evaluated.append(r)
            return original(self, r, progress)

        with monkeypatch.context() as patch:
            patch.setattr(Evaluator, "scores", counted)
            result = eval_scores(
                model, tasks, n_iters, include_path=task_folder, limit=6, n_draws=50,
                progress=lambda *now: told.append(now), **settings,
            )  # fmt: skip
        return result, evaluated, told

    return start


def test_depths_are_run_in_order_once_and_told(run):
    result, evaluated, told = run([4, 1, 1])
    assert result.depths.tolist() == evaluated == [1, 4]
    assert (1, 12, 12) in told and told[-1] == (4, 12, 12)


def test_a_file_holds_each_finished_depth_and_a_later_run_skips_them(run, tmp_path, monkeypatch):
    out = tmp_path / "deep" / "scores.json"
    original = Evaluator.scores

    def killed(self, r, progress=None):
        if r == 4:
            raise KeyboardInterrupt
        return original(self, r, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "scores", killed)
        with pytest.raises(KeyboardInterrupt):
            run([1, 2, 4], out=out)
    held = json.loads(out.read_text())
    assert [d["n_iters"] for d in held["depths"]] == [1, 2]
    assert [p.name for p in out.parent.iterdir()] == ["scores.json"]
    with pytest.raises(ExistsError, match=r"scores\.json"):
        run([1], out=out)
    result, evaluated, _ = run([1, 2, 4, 8], out=out, resume=True)
    assert evaluated == [4, 8]
    fresh = run([1, 2, 4, 8])[0]
    assert result.to_frame().equals(fresh.to_frame())
    # what is there and not asked for stays
    result, evaluated, _ = run([2], out=out, resume=True)
    assert evaluated == [] and result.depths.tolist() == [2]
    assert len(json.loads(out.read_text())["depths"]) == 4


def test_another_run_is_not_continued(run, tmp_path, model, tiny_model):
    out = tmp_path / "scores.json"
    run([1], out=out)
    before = out.read_bytes()
    other = tiny_model(tokenizer=model.tokenizer, d_vocab=300, n_ctx=96, seed=6)
    for changes, said in (
        ({"model": other}, "weight_hash"),
        ({"tasks": ["minimal_pairs", "texts"]}, "tasks, documents"),
        ({"seed": 1}, "seed"),
    ):
        with pytest.raises(InputError, match=said):
            run([1, 2], out=out, resume=True, **changes)
    assert out.read_bytes() == before
    out.write_text('{"format": "something else"}')
    with pytest.raises(InputError, match="not a file of abbie-lens eval"):
        run([1], out=out, resume=True)
    out.write_text('{"format": ')
    with pytest.raises(InputError, match="not JSON"):
        run([1], out=out, resume=True)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    file = ScoreFile(tmp_path / "scores.json", {"limit": 1}, INFO.to_dict())
    file.add(DepthScores(1, (score(),)))
    before = file.path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        file.add(DepthScores(2, (score(),)))
    assert file.path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_scores_survive_the_file(tmp_path):
    kept = DepthScores(2, (score(chance=NAN, low=NAN, interval="none"),), "", 3, 9)
    ScoreFile(tmp_path / "x.json", {}, INFO.to_dict()).add(kept)
    again = ScoreFile(tmp_path / "x.json", {}, INFO.to_dict())
    again.resume()
    assert repr(again.depths[2]) == repr(kept)


@pytest.mark.parametrize("bad", [[], [-1], [True], ["2"]])
def test_depths_are_checked_before_anything_is_read(bad):
    with pytest.raises(InputError, match="n_iters"):
        eval_scores(None, ["x"], bad)


def test_resuming_needs_a_file():
    with pytest.raises(InputError, match="out"):
        eval_scores(None, ["x"], [1], resume=True)
