"""Each page's logic, run without a browser, on a tiny model whose numbers are computed again here."""

import json

import pytest

import probes
from abbie_lens import halting as rules
from abbie_lens import load
from app import exporting
from app.view import bundles, downloads, fitting, thresholds
from app.view.source import BundleSource, LiveSource
from probes import bundle

from .conftest import TEXT

PAGES = [
    "overview",
    "dynamics",
    "attention",
    "lens",
    "halting",
    "probes",
    "causes",
    "tasks",
    "compare",
    "export",
]


def figures(at) -> list[dict]:
    """The Plotly figures on the page, as the browser gets them."""
    return [json.loads(chart.proto.spec) for chart in at.get("plotly_chart")]


def titles(at) -> list[str]:
    return [figure["layout"]["title"]["text"] for figure in figures(at)]


def texts(at) -> str:
    """All text on the page that stands outside figures and tables."""
    return "\n".join(e.value for e in [*at.markdown, *at.caption, *at.text, *at.code])


def assert_calm(at) -> None:
    assert not at.exception, at.exception[0].value
    assert "cannot be run" not in texts(at)


@pytest.fixture
def runs(monkeypatch) -> list[str]:
    """Names of the analyses that really ran, in order."""
    seen: list[str] = []
    real = exporting.run

    def run(analysis, *arguments, **options):
        seen.append(analysis)
        return real(analysis, *arguments, **options)

    monkeypatch.setattr(exporting, "run", run)
    return seen


@pytest.mark.parametrize("page", PAGES)
def test_every_page_asks_its_question_and_shows_no_error(dashboard, page):
    at = dashboard(f"{page}.py")
    assert_calm(at)
    assert at.main.markdown[0].value.startswith("### ") and at.main.markdown[0].value.endswith("?")
    assert [box.label for box in at.sidebar.selectbox] == ["Model"]


@pytest.mark.parametrize("page", PAGES[:5])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_figures_follow_the_visitors_theme(dashboard, page, mode):
    at = dashboard()
    at.context = {"theme": mode}
    at.switch_page(f"screens/{page}.py").run()
    paper = probes.figures.style.palette(mode).paper
    assert figures(at)
    for figure in figures(at):
        assert figure["layout"]["template"]["layout"]["paper_bgcolor"] == paper


def test_overview_shows_what_the_model_predicts(dashboard, model_folders):
    at = dashboard("overview.py")
    model = load(model_folders[0])
    logits = model(model.to_tokens(TEXT), n_iters=4)[0, -1]
    probability, best = logits.softmax(-1).max(-1)
    table = next(t.value for t in at.dataframe if "probability" in t.value)
    assert table["probability"][0] == pytest.approx(probability.item(), rel=1e-5)
    assert table["token"][0] == probes.figures.labels.visible(model.to_str_tokens(best[None])[0])
    nll = model(model.to_tokens(TEXT), n_iters=4, return_type="loss").item()
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["NLL at r = 4"] == f"{nll:.2f}"


def test_depth_and_prompt_reach_the_other_pages(dashboard):
    at = dashboard("overview.py")
    at.sidebar.slider(key="r").set_value(7).run()
    at.sidebar.text_area(key="prompt").set_value("the rat").run()
    at.switch_page("screens/lens.py").run()
    heatmap = next(t for t in figures(at)[0]["data"] if t["type"] == "heatmap")
    assert len(heatmap["text"]) == 8
    assert "the·rat" in str(figures(at)[0]["layout"]) or "“the rat”" in str(
        figures(at)[0]["layout"]
    )


def test_a_link_reproduces_the_view(dashboard):
    at = dashboard("halting.py", query={"rule": "Fixed depth", "threshold_fixed_k": "3", "r": "6"})
    assert_calm(at)
    assert at.sidebar.slider(key="r").value == 6
    assert at.main.selectbox(key="rule").value == "fixed_k"
    assert at.metric[0].value == "3.00 of 6"


def test_the_ring_on_the_curve_stands_at_the_sliders_threshold(dashboard):
    at = dashboard("halting.py", query={"rule": "KL divergence", "threshold_kl": "0.02"})
    curve = next(
        figure for figure in figures(at) if "FLOPs against" in figure["layout"]["title"]["text"]
    )
    assert "threshold 0.02" in [trace.get("name") for trace in curve["data"]]


def test_nonsense_in_a_link_is_ignored(dashboard):
    at = dashboard(query={"model": "../../etc", "r": "many"})
    assert_calm(at)
    assert at.sidebar.slider(key="r").value == 16


def test_a_model_and_prompt_run_once_for_all_pages_and_visitors(dashboard, runs):
    query = {"prompt": "the mat ran, and the cat", "r": "3"}
    at = dashboard("overview.py", query=query)
    assert sorted(runs) == ["fixed_point", "halting", "lens"]
    for page in ("lens.py", "halting.py", "dynamics.py"):
        at.switch_page(f"screens/{page}").run()
    dashboard("overview.py", query=query)
    assert sorted(runs) == ["fixed_point", "halting", "lens"]


def test_moving_the_threshold_runs_nothing(dashboard, runs, model_folders):
    at = dashboard("halting.py", query={"rule": "Relative distance", "r": "5"})
    before = list(runs)
    halting = probes.halting(load(model_folders[0]), TEXT, 5)
    shown = set()
    for threshold in (1e-6, 0.5, 10.0):
        at.main.select_slider(key="threshold_relative_distance").set_value(threshold).run()
        assert_calm(at)
        expected = halting.at("relative_distance", threshold)
        assert at.metric[0].value == f"{expected.mean_steps:.2f} of 5"
        shown.add(at.metric[0].value)
    assert runs == before and len(shown) >= 2


def test_every_rule_can_be_chosen(dashboard):
    at = dashboard("halting.py")
    names = probes.halting(load(at.sidebar.selectbox(key="model").value), TEXT, 4).names
    for rule in names:
        at.main.selectbox(key="rule").set_value(rule).run()
        assert_calm(at)
        assert at.main.select_slider(key=f"threshold_{rule}").value in thresholds.ladder(
            rules.policy(rule).describe(), 32
        )


def test_logit_lens_says_that_it_skips_the_tail(dashboard):
    at = dashboard("lens.py", query={"lens": "Logit lens"})
    assert_calm(at)
    assert "skips the Tail" in titles(at)[0]


def test_probes_are_fitted_beside_the_page_with_every_baseline(dashboard):
    at = dashboard("probes.py", query={"probe_r": "2"})
    assert "Nothing fitted yet" in texts(at)
    documents = ["the cat sat on the mat, and ran", "a rat! the rat ran; then it sat"] * 6
    at.main.text_area(key="probe_text").set_value("\n\n".join(documents))
    next(b for b in at.button if b.label == "Fit the probes").click().run()
    at.session_state["probe_job"][1].wait(60)
    at.run()
    assert_calm(at)
    result = at.session_state["probe_job"][1].result
    lines = {trace.get("name") for trace in figures(at)[0]["data"]}
    for baseline in ("untrained model", "shuffled labels", "token embedding", "majority class"):
        assert baseline in lines
    table = dict(zip(*[at.dataframe[0].value[c] for c in ("condition", "accuracy")], strict=True))
    assert table["state at k = 2"] == pytest.approx(result.trained[0, 2, 0])
    assert table["most frequent class"] == pytest.approx(result.majority[0])


def test_too_little_text_to_probe_is_said_calmly(dashboard):
    at = dashboard("probes.py")
    at.main.text_area(key="probe_text").set_value("one document only")
    next(b for b in at.button if b.label == "Fit the probes").click().run()
    at.session_state["probe_job"][1].wait(60)
    at.run()
    assert not at.exception
    assert "cannot be fitted" in texts(at) and "document" in texts(at)


def test_an_exported_bundle_opens_without_its_model(dashboard, model_folders, monkeypatch):
    source = LiveSource(str(model_folders[0]), TEXT, 4)
    content = bundles.build(source, "my run")
    at = dashboard("halting.py", query={"rule": "KL divergence"})
    live = at.metric[0].value, figures(at)[0]["data"]

    from app.view import runs

    monkeypatch.setattr(runs, "model", lambda name: pytest.fail("a model was loaded"))
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        root = bundles.unpack(content, Path(folder))
        at.session_state["bundle"] = BundleSource("my run", bundle.load(root))
    at.run()
    assert_calm(at)
    assert (at.metric[0].value, figures(at)[0]["data"]) == live
    for page in PAGES:
        at.switch_page(f"screens/{page}.py").run()
        assert not at.exception, page
    monkeypatch.undo()


def test_the_server_can_start_on_a_bundle(dashboard, model_folders, tmp_path):
    source = LiveSource(str(model_folders[0]), TEXT, 3)
    root = bundles.unpack(bundles.build(source, "run"), tmp_path)
    at = dashboard("lens.py", bundle=str(root), models=())
    assert_calm(at)
    assert "Bundle" in at.sidebar.markdown[0].value
    at.sidebar.button(key="close_bundle").click().run()
    assert "Bundle" not in "".join(m.value for m in at.sidebar.markdown)


def test_a_broken_bundle_is_said_calmly(dashboard, tmp_path):
    (tmp_path / "broken").mkdir()
    at = dashboard(bundle=str(tmp_path / "broken"))
    assert not at.exception
    assert "cannot be run" in texts(at)
    assert at.sidebar.selectbox(key="model").value


def test_no_model_at_all_is_explained(dashboard, monkeypatch, tmp_path):
    from abbie_lens import zoo

    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    at = dashboard(models=())
    assert not at.exception
    assert "no bundled model" in texts(at)


def test_a_folder_that_is_no_model_is_said_calmly(dashboard, tmp_path):
    at = dashboard(models=(str(tmp_path),))
    assert not at.exception
    assert "cannot be run" in texts(at)


def test_the_command_on_the_export_page_is_quoted(dashboard):
    at = dashboard("export.py", query={"prompt": "it's $HOME; rm"})
    assert """'it'"'"'s $HOME; rm'""" in texts(at)


def test_summary_table_of_a_fit_compares_the_same_iteration(tiny_model, tiny_tokenizer):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    documents = ["the cat sat on the mat, and ran", "a rat! the rat ran; then it sat"] * 6
    result = probes.linear(model, documents, n_iters=2)
    table = fitting.summary(result).set_index("condition")["accuracy"]
    assert table["untrained model"] == result.untrained[0, 2, 0]
    assert table["shuffled labels"] == result.shuffled[0, 2, 0]
    assert downloads.file_name(result, "probes", "csv").endswith("-probes-r2.csv")


def test_a_state_that_will_overflow_is_told_above_the_page(
    dashboard, tiny_model, tiny_tokenizer, tmp_path
):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=64, dtype="float16")
    folder = model.save_pretrained(tmp_path / "half")
    at = dashboard("dynamics.py", models=(str(folder),), query={"r": "32"})
    assert not at.exception
    assert "it will overflow at iteration" in texts(at) and "use bfloat16 or float32" in texts(at)
    at.sidebar.slider(key="r").set_value(4).run()
    assert "it will overflow" not in texts(at)
