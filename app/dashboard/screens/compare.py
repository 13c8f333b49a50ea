"""Compare: two models on one prompt, or one model on two prompts, on the same scales."""

import streamlit as st

from app.settings import Settings
from app.view import comparing, notices, page, sidebar
from app.view.source import LiveSource

page.header(
    "What differs between two models, or two prompts?",
    "Left is what the sidebar says; right is the other one. Axes and colours are the same on both "
    "sides, and r is too.",
)
source = page.source()
if not isinstance(source, LiveSource):
    notices.notice("A bundle has one model and one prompt", "Close the bundle to compare models.")
    st.stop()

what = st.segmented_control(
    "Other", ["model", "prompt"], default="model", required=True, key="compare", bind="query-params",
    format_func={"model": "Another model", "prompt": "Another prompt"}.get,
)  # fmt: skip
if what == "model":
    names = sidebar.model_names(Settings.from_env())
    others = [name for name in names if name != source.model] or names
    model = st.selectbox(
        "Model on the right", others, key="model_b", bind="query-params",
        format_func=sidebar.labels(others).get,
    )  # fmt: skip
    other = LiveSource(model, source.text, source.n_iters)
else:
    text = st.text_area(
        "Prompt on the right", comparing.PROMPT, key="prompt_b", bind="query-params", height=80
    )
    other = LiveSource(source.model, text or "", source.n_iters)
comparing.show(source, other)
