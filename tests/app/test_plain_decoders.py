"""Every page on plain decoders, looped by the sidebar's sliders: the same numbers as `load(..., loop=)`."""

import shutil
import threading

import pytest

from abbie_lens import load, zoo
from abbie_lens.bridged import Anchored, Loop
from abbie_lens.files import memory_plan
from app import catalog, looping
from app.view import bundles, loading
from app.view.source import LiveSource

from .conftest import TEXT
from .test_pages import PAGES, assert_calm, figures, texts

FIGURES = set(PAGES) - {"probes", "causes", "export", "tasks"}


@pytest.fixture(scope="module")
def gpt2(plain_folder):
    return plain_folder("gpt2")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_page_opens(dashboard, plain_folder, name):
    query = {"r": "2", "compare": "Several on this prompt"}
    at = dashboard("overview.py", models=(str(plain_folder(name)),), query=query)
    assert at.sidebar.slider(key="start").value == 1 and at.sidebar.slider(key="stop").value == 2
    for page in PAGES:
        at.switch_page(f"screens/{page}.py").run()
        assert_calm(at)
        assert bool(figures(at)) == (page in FIGURES | {"compare"}), page


def nll(model, r):
    return f"{model(model.to_tokens(TEXT), n_iters=r, return_type='loss').item():.2f}"


def test_the_sliders_choose_the_window_and_nothing_is_read_twice(dashboard, gpt2, monkeypatch):
    read = []
    real = loading.read_decoder
    monkeypatch.setattr(loading, "read_decoder", lambda *a: read.append(a) or real(*a))
    folder = gpt2.with_name("tiny-gpt2-sliders")
    shutil.copytree(gpt2, folder)
    at = dashboard("overview.py", models=(str(folder),), query={"r": "3"})
    at.sidebar.slider(key="start").set_value(0)
    at.sidebar.slider(key="stop").set_value(3)
    at.sidebar.selectbox(key="loop").set_value("repeat").run()
    assert_calm(at)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["NLL at r = 3"] == nll(load(folder, loop=Loop(0, 3, "repeat")), 3)
    at.sidebar.selectbox(key="loop").set_value("anchored").run()
    at.sidebar.slider(key="beta").set_value(0.25).run()
    assert_calm(at)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["NLL at r = 3"] == nll(load(folder, loop=Loop(0, 3, Anchored(beta=0.25))), 3)
    assert len(read) == 1


def test_a_link_reproduces_the_window(dashboard, gpt2):
    query = {"start": "2", "stop": "4", "loop": "abbie-d", "r": "2"}
    at = dashboard("export.py", models=(str(gpt2),), query=query)
    assert_calm(at)
    assert at.session_state["source"].loop == Loop(2, 4, "abbie-d")
    assert "--start 2 --stop 4 --loop abbie-d --n-iters 2" in texts(at)


def test_an_empty_window_is_not_offered(dashboard, gpt2):
    at = dashboard("lens.py", models=(str(gpt2),), query={"start": "1", "stop": "2"})
    at.sidebar.slider(key="start").set_value(3).run()
    assert_calm(at)
    assert at.sidebar.slider(key="stop").value == 4
    at.sidebar.slider(key="stop").set_value(1).run()
    assert_calm(at)
    assert at.sidebar.slider(key="stop").value == 4


def test_one_iteration_is_the_plain_model_under_every_window(dashboard, gpt2):
    from transformers import AutoModelForCausalLM

    tokens = load(gpt2, loop=Loop(0, 1)).to_tokens(TEXT)
    plain = AutoModelForCausalLM.from_pretrained(gpt2)
    expected = f"{plain(tokens, labels=tokens).loss.item():.2f}"
    for window in ({"start": "0", "stop": "4"}, {"start": "2", "stop": "3", "loop": "abbie-d"}):
        at = dashboard("overview.py", models=(str(gpt2),), query={"r": "1", **window})
        assert {m.label: m.value for m in at.metric}["NLL at r = 1"] == expected


def test_the_usual_depth_and_window_follow_the_model(dashboard, gpt2, model_folders):
    models = (str(model_folders[0]), str(gpt2))
    at = dashboard("lens.py", models=models, query={"r": None})
    assert at.sidebar.slider(key="r").value == 16
    assert "start" not in [slider.key for slider in at.sidebar.slider]
    at.sidebar.selectbox(key="model").set_value(str(gpt2)).run()
    assert_calm(at)
    assert at.sidebar.slider(key="r").value == 4
    at.sidebar.slider(key="r").set_value(6).run()
    at.sidebar.selectbox(key="model").set_value(str(model_folders[0])).run()
    assert at.sidebar.slider(key="r").value == 6


def test_an_installed_model_is_offered_with_a_fact(dashboard, gpt2, user_data):
    shutil.copytree(gpt2, user_data / "models" / "tiny-language")
    at = dashboard("lens.py", models=(), query={"prompt": None, "model": "tiny-language", "r": "2"})
    assert_calm(at)
    assert at.sidebar.text_area(key="prompt").value.endswith("The capital of Germany is")
    entry = catalog.describe("tiny-language")
    assert (entry.group, entry.what) == ("installed", "plain decoder (gpt2, 4 blocks)")


def test_the_groups_say_what_each_model_is_and_open_it(dashboard, gpt2):
    at = dashboard("lens.py", models=(str(gpt2),))
    said = [caption.value for caption in at.sidebar.caption]
    n = len(zoo.names())
    assert [tab.label for tab in at.tabs] == [f"Bundled ({n})", "Folder or hub id (1)"]
    assert any("plain decoder" in line and "parameters" in line for line in said)
    at.sidebar.button(key="open-abbie-c-novels").click().run()
    assert_calm(at)
    assert at.sidebar.selectbox(key="model").value == "abbie-c-novels"


def test_a_damaged_model_is_one_line_and_can_be_tried_again(dashboard, gpt2, monkeypatch, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(gpt2, folder)
    tried = []
    real = loading.read_decoder
    monkeypatch.setattr(loading, "read_decoder", lambda *a: tried.append(a) or real(*a))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:5000])
    at = dashboard("lens.py", models=(str(folder),))
    assert not at.exception and "cannot be run" in texts(at)
    at.switch_page("screens/overview.py").run()
    assert not at.exception and "cannot be run" in texts(at)
    before = len(tried)
    at.sidebar.button(key="again").click().run()
    assert len(tried) == before + 1
    (folder / "model.safetensors").write_bytes(whole)
    at.run()
    assert_calm(at)


def test_what_another_library_raises_is_one_line_too(gpt2, monkeypatch):
    def fail(*_):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(loading, "read_decoder", fail)
    job = loading.Shelf().load(str(gpt2), Loop(0, 1))
    job.wait(30)
    assert str(job.error).endswith("cannot be loaded (RuntimeError: first line).")


def test_a_load_that_takes_long_says_what_it_is_at(dashboard, gpt2, monkeypatch, tmp_path):
    folder = tmp_path / "slow"
    shutil.copytree(gpt2, folder)
    said, told = [], threading.Event()
    name, read = loading._said, loading.read_decoder

    def note(*arguments):
        said.append(name(*arguments))
        if "reading" in said[-1]:
            told.set()
        return said[-1]

    def wait(*arguments):
        assert told.wait(60)
        return read(*arguments)

    monkeypatch.setattr(loading, "_said", note)
    monkeypatch.setattr(loading, "read_decoder", wait)
    at = dashboard("lens.py", models=(str(folder),))
    assert_calm(at)
    size = memory_plan.size((folder / "model.safetensors").stat().st_size)
    assert f"Loading slow (2 of 4): reading its weights, {size}" in said
    assert not at.status


def test_few_are_kept(gpt2):
    shelf = loading.Shelf()
    for start in range(4):
        for rule in ("repeat", "damped"):
            shelf.load(str(gpt2), Loop(start, 4, rule)).wait(60)
    shelf.load(str(gpt2), Loop(0, 1)).wait(60)
    assert len(shelf.jobs) <= loading.MODELS and len(shelf.decoders) == 1


def test_a_bundle_says_its_loop(gpt2, tmp_path):
    source = LiveSource(str(gpt2), TEXT, 2, looping.make(1, 3, "anchored", 0.3))
    root = bundles.unpack(bundles.build(source, "run"), tmp_path)
    assert '"rule": "anchored=0.3"' in (root / "manifest.json").read_text()
    assert "--loop anchored=0.3" in bundles.command(source)
