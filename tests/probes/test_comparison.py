"""Several runs on one scale: what is stored is what is drawn, gaps stay gaps, and differences are said."""

import numpy as np
import pytest

import probes
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD, AdaPonder, Ponder
from abbie_lens.tasks.evaluate import TaskEvaluation
from abbie_lens.zoo import describe_folder
from probes import leaderboard, overlays
from probes.comparison import Curve

TEXT = "the cat sat on the mat, and the rat ran"


@pytest.fixture(scope="module")
def models(tiny_model, tiny_tokenizer):
    def make(loop, **shape):
        return tiny_model(
            loop, tokenizer=tiny_tokenizer, d_vocab=300, model_name=loop.family, **shape
        )

    bare = {"n_head_blocks": 0, "n_tail_blocks": 0}
    return make(AbbieD()), make(Ponder(), **bare), make(AdaPonder(), **bare)


def lines(figure) -> dict:
    """Named lines of a figure by name, those of its first panel first."""
    found = {}
    for trace in figure.data:
        if trace.name and trace.fill is None:
            found.setdefault(trace.name, []).append(trace)
    return found


def caption(figure) -> str:
    return next(figure.select_annotations({"name": "caption"})).text.replace("<br>", " ")


def test_overlaid_losses_are_those_of_each_run_alone(models):
    runs = [(model.cfg.model_name, probes.lens(model, TEXT, 2)) for model in models]
    both = overlays.losses(runs)
    for i, (_, lens) in enumerate(runs):
        assert both.value[0, i] == pytest.approx(lens.nll[:, 0, :-1].mean(-1))
        assert (both.low[0, i] < both.value[0, i]).all() and (
            both.value[0, i] < both.high[0, i]
        ).all()
    again = probes.Result.from_arrays(*both.to_arrays())
    assert again.to_frame().equals(both.to_frame())


def test_a_run_that_stops_earlier_leaves_a_gap_and_is_named(models):
    runs = [("deep", probes.lens(models[0], TEXT, 4)), ("shallow", probes.lens(models[2], TEXT, 2))]
    both = overlays.losses(runs)
    assert np.isnan(both.value[0, 1, 3:]).all() and np.isfinite(both.value[0, 0]).all()
    assert "shallow: no depth beyond its last point" in caption(both.figure())
    assert both.to_frame().query("run == 'shallow'")["x"].max() == 2


def test_models_that_count_iterations_differently_say_so(models):
    alike = overlays.losses([(str(i), probes.lens(models[0], TEXT, 2)) for i in range(2)])
    assert "One iteration is not the same" not in caption(alike.figure())
    runs = [(model.cfg.model_name, probes.lens(model, TEXT, 2)) for model in models[:2]]
    said = caption(overlays.losses(runs).figure())
    assert "One iteration is not the same in all" in said
    assert "abbie-d: applications of the Body" in said and "ponder: feedback updates" in said


def test_runs_are_told_apart_by_more_than_colour(models):
    result = probes.fixed_point(models[0], TEXT, 3, control=False)
    fig = overlays.distances([(f"run {i}", result) for i in range(7)]).figure()
    looks = [(t[0].line.color, t[0].line.dash, t[0].marker.symbol[-1]) for t in lines(fig).values()]
    for part in zip(*looks, strict=True):
        assert len(set(part)) >= 6
    assert len(set(looks)) == 7
    # The Head's output stands apart, but the first step is one like any other.
    raw, _, norm, *_ = next(iter(lines(fig).values()))
    assert norm.marker.symbol[0].endswith("-open") and not raw.marker.symbol[0].endswith("-open")


def test_ten_models_have_ten_looks(models):
    result = probes.lens(models[0], TEXT, 2)
    drawn = lines(overlays.losses([(f"run {i}", result) for i in range(10)]).figure())
    looks = {(t[0].line.color, t[0].line.dash, t[0].marker.symbol[-1]) for t in drawn.values()}
    assert len(looks) == 10 and len({look[1:] for look in looks}) == 10


def test_halting_overlay_is_the_rule_in_each_run(models):
    runs = [(model.cfg.model_name, probes.halting(model, TEXT, 2)) for model in models]
    both = overlays.halting(runs, "entropy_difference")
    for i, (_, halting) in enumerate(runs):
        outcome = halting.at("entropy_difference")
        stopped = [(outcome.fired & (outcome.exit_step <= k)).sum() for k in range(3)]
        there = np.isfinite(both.x[2, i])
        assert both.value[2, i, there] == pytest.approx(np.array(stopped) / len(outcome.tokens[0]))


def test_other_tokens_are_not_compared_silently(models, tiny_model):
    from abbie_lens.tasks import make

    task = make("dyck")
    other = tiny_model(tokenizer=task.tokenizer(), d_vocab=task.d_vocab, n_ctx=task.n_ctx)
    runs = [("text", probes.lens(models[0], "( )", 2)), ("brackets", probes.lens(other, "( )", 2))]
    assert "not comparable" in caption(overlays.losses(runs).figure())


def saved(folder, model, **metrics):
    return describe_folder(model.save_pretrained(folder, metrics=metrics))


def test_leaderboard_draws_what_the_files_say(models, tmp_path):
    files = [
        {"n_iters": [1, 2, 4], "nll": [4.5, 4.25, 4.75], "low": [4.4, 4.2, 4.7], "high": [4.6, 4.3, 4.8]},
        {"n_iters": [1, 2, 4], "nll": [4.0, 3.5, None], "low": [3.9, 3.4, None], "high": [4.1, 3.6, None]},
    ]  # fmt: skip
    described = [
        saved(tmp_path / model.cfg.model_name, model, evaluation=evaluation)
        for model, evaluation in zip((models[0], models[2]), files, strict=True)
    ]
    board = leaderboard.heldout([*described, saved(tmp_path / "nothing", models[1])])
    assert board.runs == ("abbie-d", "adaponder")
    fig = board.figure()
    drawn = lines(fig)
    assert list(drawn["abbie-d"][0].y) == [4.5, 4.25, 4.75]
    assert np.isnan(drawn["adaponder"][0].y[2])
    bands = [t for t in fig.data if t.fill == "toself"]
    assert sorted(max(band.x) for band in bands) == [2, 4]  # none over the refused depth
    assert "adaponder refuses r = 4: a gap" in caption(fig)
    with pytest.raises(InputError, match="held-out"):
        leaderboard.heldout([])


def test_accuracy_over_trained_difficulties_and_beyond():
    shares = np.array([[0.5, 0.7, 0.1], [0.9, 0.7, np.nan]])
    evaluation = TaskEvaluation(
        task={"task": "k-hop", "train_difficulty": [1, 2], "test_difficulty": [1, 3]}, split="test",
        seed=0, n_iters=(1, 2), difficulty=(1, 2, 3), accuracy=shares, low=shares - 0.03,
        high=shares + 0.04, n=np.array([9, 9, 9]), confidence=0.95, chance=1 / 16,
    )  # fmt: skip
    trained, beyond = leaderboard.by_range(evaluation)
    assert trained.value == pytest.approx([0.6, 0.8])
    # Two independent bounds of 0.03: the mean's is 0.03 √2 / 2.
    assert trained.low == pytest.approx(trained.value - 0.03 / np.sqrt(2))
    assert trained.high == pytest.approx(trained.value + 0.04 / np.sqrt(2))
    assert beyond.value[0] == pytest.approx(0.1) and np.isnan(beyond.value[1])
    assert isinstance(trained, Curve)
