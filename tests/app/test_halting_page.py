"""The page Halting: the text in the colours of its exits, references, two rules on one text, and a run that is timed."""

import probes
from abbie_lens import load
from probes import bundle
from probes.early_exit import sentences
from probes.early_exit.study import study
from probes.early_exit.study_config import StudyConfig
from tests.corpus import text

from .conftest import TEXT
from .test_pages import assert_calm, figures, texts, titles


def said(at) -> str:
    return texts(at).replace("\\", "")


def test_every_figure_has_a_sentence_of_its_own_numbers(dashboard, model_folders):
    at = dashboard("halting.py", query={"rule": "Direction distance", "r": "6"})
    assert_calm(at)
    outcome = probes.halting(load(model_folders[0]), TEXT, 6).at("direction_distance")
    for sentence in (sentences.text, sentences.frontier, sentences.classes):
        assert sentence(outcome) in said(at)
    bars = [t for t in figures(at)[0]["data"] if t["type"] == "bar"]
    told = sorted(p for t in bars for p, _ in t["customdata"])
    assert told == list(range(outcome.exit_step.size))
    curve = next(f for f in figures(at) if f["layout"]["title"]["text"].startswith("FLOPs"))
    assert curve["layout"]["xaxis"]["title"]["text"].startswith("FLOPs")
    assert "oracle (bound)" in [trace.get("name") for trace in curve["data"]]


def test_two_rules_on_one_text(dashboard):
    at = dashboard("halting.py", query={"rule": "KL divergence"})
    before = titles(at)
    at.main.selectbox(key="second_rule").set_value("cosine").run()
    assert_calm(at)
    assert len(titles(at)) == len(before) + 1 and "of the tokens alike" in said(at)


def test_a_live_run_is_timed_beside_the_page(dashboard):
    at = dashboard("halting.py", query={"rule": "Direction distance", "r": "4"})
    assert "Not run yet" in texts(at)
    next(b for b in at.button if b.label == "Run it live").click().run()
    at.session_state["live_job"][1].wait(60)
    at.run()
    assert_calm(at)
    result = at.session_state["live_job"][1].result
    assert result.sentence() in said(at) and "times by FLOPs" in said(at)
    assert result.milliseconds > 0 and result.exit_step.max() <= 4


def test_a_study_opens_on_the_page(dashboard, model_folders, tmp_path):
    data = tmp_path / "texts.txt"
    data.write_text("\f".join(text(s, 30) for s in range(3)))
    config = StudyConfig(str(data), str(tmp_path / "out"), 2, points=1)
    found = study(load(model_folders[0]), config, rules=("kl", "direction_distance"))
    folder = bundle.save({"halting_study": found}, tmp_path / "bundle")
    at = dashboard("halting.py", bundle=str(folder))
    assert_calm(at)
    assert found.verdict("kl", 0) in said(at)
    assert [title.split(" ")[0] for title in titles(at)] == [
        "Quality", "Depth", "Exits", "Are",
    ]  # fmt: skip
