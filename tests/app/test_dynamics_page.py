"""The pages Dynamics and Attention: what they say is computed, costly panels wait for a button, one token links all."""

import pytest

import probes
from abbie_lens import load
from app.view import beside
from probes import readings

from .conftest import MAIN, TEXT
from .test_pages import assert_calm, figures, runs, texts, titles  # noqa: F401

PANELS = ["Distances", "Norm", "Token × iteration", "Path", "Similarity"]
COSTLY = {"Multipliers": "spectrum", "Other starts": "path_independence", "Blocks": "per_block"}


def said(at) -> str:
    return texts(at).replace("\\", "")


def test_the_answer_and_its_numbers_are_those_of_the_result(dashboard, model_folders):
    for folder in model_folders:
        at = dashboard("dynamics.py", query={"r": "12", "model": folder.name})
        assert_calm(at)
        fixed = probes.fixed_point(load(folder), TEXT, 12)
        answer, because = readings.headline(fixed)
        assert f"#### {answer}" in texts(at) and because in said(at)
        for reading in readings.of(fixed):
            assert reading.says in said(at) and f"**{reading.value:.3g}**" in said(at)


def test_verdict_thresholds_judge_again_without_running(dashboard, runs):  # noqa: F811
    at = dashboard("dynamics.py", query={"r": "12", "model": "tiny-abbie-c"})
    before, answer = list(runs), at.main.markdown[1].value
    at.main.slider(key="decay").set_value(0.5)
    at.main.slider(key="closure").set_value(0.0).run()
    assert_calm(at)
    assert runs == before and at.main.markdown[1].value != answer


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_stands_below_the_text(dashboard, panel):
    at = dashboard("dynamics.py", query={"panel": panel})
    assert_calm(at)
    assert titles(at)[0] == "Verdict of every token" and len(figures(at)) == 2


@pytest.mark.parametrize("view", ["Phase portrait", "More components", "Each around its mean", "Waterfall"])  # fmt: skip
def test_path_views_of_one_token(dashboard, view):
    at = dashboard("dynamics.py", query={"panel": "Path", "view": view})
    at.main.selectbox(key="token").set_value(2).run()
    assert_calm(at)
    assert len(figures(at)) == 2
    trained = figures(at)[1]["data"]
    at.main.toggle(key="random_path").set_value(True).run()
    assert_calm(at)
    assert figures(at)[1]["data"] != trained


def test_the_strip_colours_every_token_and_shows_markup_as_text(dashboard, model_folders):
    prompt = "the <b>cat</b> &amp; sat"
    at = dashboard("dynamics.py", query={"prompt": prompt})
    assert_calm(at)
    strip = figures(at)[0]
    fixed = probes.fixed_point(load(model_folders[0]), prompt, 4)
    drawn = [t for trace in strip["data"] for t in trace.get("text") or []]
    assert len(drawn) == len(fixed.tokens[0]) and not any("<" in text for text in drawn)
    legend = [trace["name"] for trace in strip["data"] if trace["showlegend"]]
    counts = fixed.counts()
    for verdict, n in counts.items():
        assert any(f"{verdict}: trained {n}" in name for name in legend)


@pytest.mark.parametrize(("panel", "kind"), COSTLY.items())
def test_a_costly_panel_waits_for_its_button_and_is_kept(dashboard, panel, kind, runs):  # noqa: F811
    query = {"panel": panel, "prompt": f"the rat ran on, {kind}", "r": "3"}
    at = dashboard("dynamics.py", query=query)
    assert_calm(at)
    assert kind not in runs and "Not computed yet" in texts(at) and len(figures(at)) == 1
    at.button(key=f"compute-{kind}_job_0").click().run()
    at.session_state[f"{kind}_job_0"][1].wait(60)
    at.run()
    assert_calm(at)
    assert runs.count(kind) == 1 and len(figures(at)) == 2
    again = dashboard("dynamics.py", query=query)
    assert len(figures(again)) == 2 and runs.count(kind) == 1


def test_two_models_stand_side_by_side(dashboard):
    query = {"second": "Another model", "panel": "Token × iteration"}
    at = dashboard("dynamics.py", query=query)
    assert_calm(at)
    left, right = figures(at)[2:]
    scales = [
        next(t for t in f["data"] if t["type"] == "heatmap" and t.get("showscale") is not False)
        for f in (left, right)
    ]
    assert (scales[0]["zmin"], scales[0]["zmax"]) == (scales[1]["zmin"], scales[1]["zmax"])
    at.main.selectbox(key="token").set_value(3).run()
    assert_calm(at)
    assert all(figure["layout"].get("shapes") for figure in figures(at))


def test_two_prompts_are_linked_by_their_token(dashboard):
    query = {"second": "Another prompt", "second_prompt": "a dog and the cat", "panel": "Distances"}
    at = dashboard("dynamics.py", query=query)
    assert_calm(at)
    assert len(figures(at)) == 3  # two texts, one overlay
    valid = [True] * 4
    assert beside.linked(["a", "b", "c", "b"], valid, "b", 1) == 1
    assert beside.linked(["a", "c", "c", "b"], valid, "b", 1) == 3
    assert beside.linked(["a", "c", "c", "d"], valid, "b", 1) == 1
    assert beside.linked(["a"], [True], "b", 5) is None


def test_attention_shows_every_head_one_pattern_and_the_measures(dashboard, model_folders):
    at = dashboard("attention.py", query={"r": "3"})
    assert_calm(at)
    many, _, measures = figures(at)
    found = probes.attention(load(model_folders[0]), TEXT, 3, patterns=True)
    n_heads = found.entropy.shape[2]
    assert sum(t["type"] == "heatmap" for t in many["data"]) == 3 * n_heads
    for reading in readings.of(found):
        assert reading.says in said(at)
    at.main.selectbox(key="token").set_value(2).run()
    assert_calm(at)
    assert len(figures(at)[1]["layout"]["shapes"]) == 2
    assert len(figures(at)[2]["data"]) > len(measures["data"])


def test_attention_of_a_long_text_keeps_its_numbers_without_patterns(dashboard, monkeypatch):
    from app import exporting

    monkeypatch.setattr(exporting, "MOST_PATTERN_BYTES", 100)
    at = dashboard("attention.py", query={"prompt": "the rat and the cat ran", "r": "3"})
    assert_calm(at)
    assert "too long to keep" in texts(at) and len(figures(at)) == 1


@pytest.mark.parametrize("old", ["fixed_points", "trajectories"])
def test_old_addresses_show_dynamics(old):
    source = " ".join((MAIN.parent / "main.py").read_text().split())
    place = source.index(f'url_path="{old}", visibility="hidden"')
    assert source[:place].rindex("screens/dynamics.py") > source[:place].rindex("st.Page(")


def test_a_bundle_leaves_out_what_the_model_refuses_and_full_adds_the_costly(monkeypatch):
    from abbie_lens.errors import InputError
    from app import exporting

    def refuse(kind, *arguments, **options):
        if kind == "attention":
            raise InputError("no pattern to read.")
        return kind

    monkeypatch.setattr(exporting, "run", refuse)
    left_out: dict[str, str] = {}
    found = exporting.results(None, "the cat", 4, full=True, refused=left_out.__setitem__)
    assert set(found) == {*exporting.KINDS, *exporting.FITTED, *exporting.COSTLY} - {"attention"}
    assert left_out == {"attention": "no pattern to read."}
    monkeypatch.setattr(exporting, "NEEDED", ("attention",))
    with pytest.raises(InputError):
        exporting.results(None, "the cat", 4)


def test_a_report_says_what_the_page_says(model_folders, tmp_path):
    fixed = probes.fixed_point(load(model_folders[0]), TEXT, 12)
    folder = probes.bundle.save({"fixed_point": fixed}, tmp_path / "run")
    page = (folder / "report.html").read_text()
    assert readings.headline(fixed)[0] in page
    for reading in readings.of(fixed):
        assert reading.name in page and f"<td>{reading.value:.3g}</td>" in page


def test_attention_of_two_runs_stands_side_by_side_and_is_linked_by_token(dashboard):
    query = {"second": "Another prompt", "second_prompt": "a dog and the cat", "r": "3"}
    at = dashboard("attention.py", query=query)
    at.main.selectbox(key="token").set_value(2).run()
    assert_calm(at)
    *_, one, other, measures = figures(at)
    assert len(figures(at)) == 5 and len(measures["layout"]["annotations"]) >= 6
    # "·cat" stands at 2 in the first text, at its end in the other
    framed = [figure["layout"]["shapes"][0]["x0"] + 0.5 for figure in (one, other)]
    assert framed[0] == 2 and framed[1] > 2
    at = dashboard(
        "attention.py", query={"second": "Another model", "attention_view": "Every head", "r": "3"}
    )
    assert_calm(at)
    assert len(figures(at)) == 6
