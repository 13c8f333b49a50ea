"""The panel of direct logit attribution, on a model that runs here and on a saved result."""

from streamlit.testing.v1 import AppTest

from probes import bundle


def _panel(folder, saved=None):
    from app.view import attribution
    from app.view.source import BundleSource, LiveSource
    from probes import bundle

    live = LiveSource(str(folder), "the cat sat on the mat", 3)
    attribution.panel(live if saved is None else BundleSource("saved", bundle.load(saved)))


def _shown(*args):
    page = AppTest.from_function(_panel, args=args, default_timeout=60).run()
    assert not page.exception
    return page


def test_choices_change_what_is_taken_apart(model_folders):
    page = _shown(model_folders[0])
    assert len(page.get("plotly_chart")) == 1
    page.text_input(key="attributed").set_value(" <b>no token").run()
    assert not page.exception and not page.get("plotly_chart")
    assert any("expected a text that is one token" in text.value for text in page.text)
    page.text_input(key="attributed").set_value("").run()
    page.selectbox(key="attribution_view").set_value("heads").run()
    assert not page.exception and len(page.get("plotly_chart")) == 1


def test_a_saved_result_is_shown_as_it_was_saved(model_folders, tmp_path):
    import abbie_lens
    import probes

    found = probes.logit_attribution(abbie_lens.load(model_folders[0]), "the cat", 2)
    saved = bundle.save({"attribution": found}, tmp_path / "out")
    assert len(_shown(model_folders[0], saved).get("plotly_chart")) == 1
