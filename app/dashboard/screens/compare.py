"""Compare: two models on one prompt, or one model on two prompts, on the same scales."""

import streamlit as st

from app.settings import Settings
from app.view import comparing, notices, page, sidebar
from app.view.source import LiveSource

page.header(
    "What differs between two models, or two prompts?",
    "Left is what the sidebar says, right the other one, with the same r, axes and colours.",
)
source = page.source()
if not isinstance(source, LiveSource):
    notices.notice("A bundle has one model and one prompt", "Close the bundle to compare models.")
    st.stop()

first, second, third = st.columns([2, 3, 2], vertical_alignment="bottom")
what = first.segmented_control(
    "On the right, another", ["model", "prompt"], default="model", required=True, key="compare",
    bind="query-params",
)  # fmt: skip
if what == "model":
    names = sidebar.model_names(Settings.from_env())
    others = [name for name in names if name != source.model] or names
    model = second.selectbox(
        "Model on the right", others, key="model_b", bind="query-params",
        format_func=sidebar.labels(others).get,
    )  # fmt: skip
    other = LiveSource(model, source.text, source.n_iters)
else:
    text = second.text_input(
        "Prompt on the right", comparing.PROMPT, key="prompt_b", bind="query-params"
    )
    other = LiveSource(source.model, text or "", source.n_iters)
look = third.selectbox(
    "Figure", list(comparing.LOOKS), format_func=lambda name: comparing.LOOKS[name][0], key="look",
    bind="query-params",
)  # fmt: skip
comparing.show(source, other, look)
