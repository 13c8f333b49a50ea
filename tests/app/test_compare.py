"""Compare: the leaderboard from the models' files, and several runs on one scale."""

import json

import pytest

import probes
from abbie_lens import load, zoo
from abbie_lens.files.layout import ACCURACY, EVALUATION
from abbie_lens.loops import UTACT, AdaPonder, Ouro, PonderNet
from abbie_lens.tasks.evaluate import TaskEvaluation
from app import trained

from .conftest import TEXT
from .test_pages import assert_calm, figures, texts, titles

BESIDE = {"compare": "Several on this prompt"}


def legend(figure) -> list[str]:
    return [t["name"] for t in figure["data"] if t.get("name") and t.get("showlegend")]


@pytest.fixture
def measured(model_folders, tmp_path):
    """A saved model with a held-out loss in its folder, called by the run that trained it."""
    import shutil

    folder = shutil.copytree(model_folders[0], tmp_path / "my-run" / "final")
    evaluation = {"n_iters": [1, 2, 4], "nll": [5.5, 5.25, None], "low": [5.4, 5.2, None],
                  "high": [5.6, 5.3, None], "confidence": 0.95}  # fmt: skip
    (folder / EVALUATION).write_text(json.dumps(evaluation))
    return folder


def test_leaderboard_has_every_measured_model_from_its_files(dashboard, measured):
    at = dashboard("compare.py", models=(str(measured),))
    assert_calm(at)
    table = at.dataframe[0].value.set_index("model")
    of_text = [name for name in zoo.names() if "evaluation" in zoo.describe(name).metrics]
    assert list(table.index) == ["my-run", *of_text]
    assert table.loc["my-run", "NLL r=2"] == 5.25
    assert list(table.loc["my-run", "NLL by r"]) == [5.5, 5.25]  # ends at the refused depth
    for name in of_text:
        stored = zoo.describe(name).metrics["evaluation"]
        assert [table.loc[name, f"NLL r={r}"] for r in stored["n_iters"]] == stored["nll"]
    depths = [int(name.removeprefix("NLL r=")) for name in table.columns if "r=" in name]
    assert depths == sorted(depths) and 3 in depths
    assert legend(figures(at)[0]) == list(table.index)
    assert "my-run refuses r = 4: a gap" in str(figures(at)[0]["layout"]).replace("<br>", " ")


def test_leaderboard_of_tasks(dashboard, task_model_folder):
    at = dashboard(
        "compare.py", models=(str(task_model_folder),), query={"measured": "Tasks: accuracy"}
    )
    assert_calm(at)
    stored = TaskEvaluation.from_dict(json.loads((task_model_folder / ACCURACY).read_text()))
    row = at.dataframe[0].value.set_index("model").loc["tiny-k-hop"]
    assert row["task"] == "k-hop" and row["chance"] == pytest.approx(1 / 6)
    assert row["r=2"] == pytest.approx(stored.accuracy[1, :2].mean())
    assert row["harder r=1"] == pytest.approx(stored.accuracy[0, 2])


def test_models_without_measurements_are_named(dashboard):
    assert "Without measurements: tiny\\-abbie\\-d, tiny\\-abbie\\-c" in texts(
        dashboard("compare.py")
    )


def test_a_broken_folder_does_not_take_the_board_away(dashboard, model_folders, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "abbie-lens"}')
    assert trained.described({str(tmp_path): "broken"}) == []
    assert_calm(dashboard("compare.py", models=(str(model_folders[0]), str(tmp_path))))


@pytest.mark.parametrize("look", ["Fixed-point distances", "Halting: depth against quality"])
def test_overlays_draw_a_line_for_each_model(dashboard, look):
    at = dashboard("compare.py", query=BESIDE | {"look": look})
    assert_calm(at)
    assert legend(figures(at)[0]) == ["tiny-abbie-d", "tiny-abbie-c"]


def test_overlaid_losses_and_numbers_are_those_of_each_model(dashboard, model_folders):
    at = dashboard("compare.py", query=BESIDE)
    assert_calm(at)
    table = at.dataframe[0].value
    for i, folder in enumerate(model_folders):
        model = load(folder)
        nll = model(model.to_tokens(TEXT), n_iters=4, return_type="loss").item()
        assert float(table["NLL at r (nats)"][i]) == pytest.approx(nll, abs=0.002)
        drawn = next(t for t in figures(at)[0]["data"] if t.get("name") == table[""][i])
        last = probes.lens(model, TEXT, 4).nll[-1, 0, :-1].mean()
        assert drawn["customdata"] and last == pytest.approx(nll, abs=1e-4)


def test_grids_stand_side_by_side_on_one_scale(dashboard):
    at = dashboard("compare.py", query=BESIDE | {"look": "Direction step"})
    assert_calm(at)
    left, right = (next(t for t in f["data"] if t["type"] == "heatmap") for f in figures(at))
    assert (left["zmin"], left["zmax"]) == (right["zmin"], right["zmax"])


def test_a_model_that_refuses_the_depth_is_shown_as_deep_as_it_goes(
    dashboard, model_folders, tiny_model, tiny_tokenizer, tmp_path
):
    shallow = tiny_model(
        AdaPonder(), tokenizer=tiny_tokenizer, d_vocab=300, model_name="shallow",
        n_head_blocks=0, n_tail_blocks=0,
    ).save_pretrained(tmp_path / "shallow")  # fmt: skip
    at = dashboard("compare.py", models=(str(model_folders[0]), str(shallow)), query=BESIDE)
    assert_calm(at)
    assert "not to r = 4: shallow" in texts(at)
    said = str(figures(at)[0]["layout"]).replace("<br>", " ")
    assert "shallow: no depth beyond its last point" in said
    assert "One iteration is not the same in all" in said
    assert list(at.dataframe[0].value["r"]) == ["4", "2"]


def test_a_learned_gates_rule_is_offered_where_every_model_has_one(
    dashboard, model_folders, tiny_model, tiny_tokenizer, tmp_path
):
    gated = [
        tiny_model(
            loop, tokenizer=tiny_tokenizer, d_vocab=300, model_name=loop.family,
            n_head_blocks=0, n_tail_blocks=0,
        ).save_pretrained(tmp_path / loop.family)
        for loop in (Ouro(), PonderNet())
    ]  # fmt: skip
    beside = BESIDE | {"look": "Halting: depth against quality"}
    at = dashboard("compare.py", models=tuple(map(str, gated)), query=beside)
    assert_calm(at)
    at.main.multiselect(key="beside").set_value([str(gated[1])]).run()
    at.main.selectbox(key="compare_rule").set_value("learned_gate").run()
    assert_calm(at)
    assert "Learned gate" in titles(at)[0] and legend(figures(at)[0]) == ["ouro", "pondernet"]
    at.main.multiselect(key="beside").set_value([str(gated[1]), zoo.DEFAULT]).run()
    assert_calm(at)
    rule = at.main.selectbox(key="compare_rule")
    assert rule.value == "kl" and "Learned gate" not in rule.options


def test_a_gated_model_can_be_halted_by_its_gate(dashboard, tiny_model, tiny_tokenizer, tmp_path):
    model = tiny_model(
        UTACT(), tokenizer=tiny_tokenizer, d_vocab=300, n_head_blocks=0, n_tail_blocks=0
    )
    folder = model.save_pretrained(tmp_path / "ut")
    at = dashboard("halting.py", models=(str(folder),))
    at.main.selectbox(key="rule").set_value("learned_gate").run()
    assert_calm(at)
    assert at.main.select_slider(key="threshold_learned_gate").value == 0.5
    without = dashboard("halting.py", query={"rule": "learned_gate"})
    assert_calm(without)
    assert without.main.selectbox(key="rule").value != "learned_gate"


def test_compare_two_prompts(dashboard):
    query = {"compare": "Two prompts", "prompt_b": "the mat"}
    at = dashboard("compare.py", query=query | {"look": "Lens"})
    assert_calm(at)
    left, right = (figure["layout"]["xaxis"]["ticktext"] for figure in figures(at))
    assert len(left) > len(right)
    at = dashboard("compare.py", query=query)
    assert legend(figures(at)[0])[1] == "the mat" and "Read-out" in titles(at)[0]


def test_a_prompt_that_cannot_be_run_is_left_out_calmly(dashboard):
    at = dashboard("compare.py", query={"compare": "Two prompts", "prompt_b": " "})
    assert not at.exception
    assert "cannot be run" in texts(at) and len(figures(at)) == 1
