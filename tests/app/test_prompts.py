"""Prompts at the edge: a clear message or a correct run, and every character shown as itself."""

import pytest

from abbie_lens import load
from app.view import bundles
from app.view.source import LiveSource
from probes.figures import labels

from .test_pages import assert_calm, figures, texts

PAGES = ["overview", "dynamics", "attention", "lens", "halting", "compare", "export"]
ODD = {
    "emoji": "🙂👩‍👩‍👧 and 🏳️‍🌈",
    "right to left": "مرحبا שלום",
    "controls": "a\x00b\x1b[31m\u202e\u0007c",
    "script": "<script>alert(1)</script>",
    "bold": "<b>fat</b>",
    "entity": "&amp; &lt;",
    "markdown": "**x** [a](http://b) :red[c] $y$ `z` # ~~w~~",
    "special": "<|endoftext|> the",
    "lines": "one\n\n\ttwo\r\n",
}
# The page's first view needs no prompt.
SEVERAL = {"compare": "Several on this prompt"}
RAW = ("<script>", "<b>", "**x**", ":red[c]", "$y$", "[a](")


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t \n"])
def test_nothing_to_read_is_said_calmly_on_every_page(dashboard, prompt):
    at = dashboard(query=SEVERAL | {"prompt": prompt})
    for page in PAGES:
        at.switch_page(f"screens/{page}.py").run()
        assert not at.exception
        assert "The prompt is empty" in texts(at)


def test_ten_times_the_context_is_said_calmly_on_every_page(dashboard, model_folders):
    n_ctx = load(model_folders[0]).cfg.n_ctx
    at = dashboard(query=SEVERAL | {"prompt": "the cat " * 10 * n_ctx})
    for page in PAGES:
        at.switch_page(f"screens/{page}.py").run()
        assert not at.exception
        assert "cannot be run" in texts(at) and str(n_ctx) in texts(at)


def test_odd_prompts_name_their_curves_as_text(dashboard):
    prompt = ODD["script"] + ODD["entity"]
    query = {"compare": "Two prompts", "prompt": "the cat", "prompt_b": prompt, "r": "2"}
    at = dashboard("compare.py", query=query)
    assert_calm(at)
    names = {trace.get("name") for figure in figures(at) for trace in figure["data"]}
    assert labels.escape(ODD["script"])[:20] in " ".join(filter(None, names))
    assert not any(raw in name for name in filter(None, names) for raw in RAW)


CASES = [
    *(pytest.param("overview", prompt, id=name) for name, prompt in ODD.items()),
    *(pytest.param(page, " ".join(ODD.values()), id=f"{page}-all") for page in PAGES),
]


@pytest.mark.parametrize(("page", "prompt"), CASES)
def test_odd_characters_run_and_are_never_markup(dashboard, page, prompt):
    at = dashboard(f"{page}.py", query=SEVERAL | {"prompt": prompt, "r": "2"})
    assert_calm(at)
    for element in [*at.markdown, *at.caption]:
        assert not element.allow_html
        assert not any(raw in element.value for raw in RAW)


@pytest.mark.parametrize("prompt", list(ODD.values()), ids=list(ODD))
def test_token_labels_spell_the_prompt_out(dashboard, prompt, model_folders):
    at = dashboard("lens.py", query={"prompt": prompt, "r": "2"})
    ticks = figures(at)[0]["layout"]["xaxis"]["ticktext"]
    tokens = load(model_folders[0]).to_str_tokens(prompt)
    assert len(ticks) == len(tokens)
    for tick, token in zip(ticks, tokens, strict=True):
        assert labels.escape(labels.visible(token, 14)) in tick
        # The only markup in a tick is our own grey for special tokens.
        assert "<" not in tick.removeprefix('<span style="color:#8a92a0">').removesuffix("</span>")


def test_the_text_of_an_opened_bundle_is_never_markup(dashboard, model_folders, tmp_path):
    prompt = " ".join(ODD.values())
    content = bundles.build(LiveSource(str(model_folders[0]), prompt, 2), "**x** <b>")
    at = dashboard("overview.py", bundle=str(bundles.unpack(content, tmp_path)))
    assert_calm(at)
    assert prompt[:20] in at.sidebar.code[0].value
    for element in [*at.markdown, *at.caption]:
        assert not any(raw in element.value for raw in RAW)
