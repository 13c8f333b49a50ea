"""Probes: what a linear reader finds in the states, iteration by iteration, beside every baseline."""

import streamlit as st

from app.view import fitting, labels, page, probed, runs
from app.view.source import LiveSource
from probes import LinearProbes

SITES = ["loop.hook_state", "loop.hook_readout", "body.0.hook_resid_post", "body.0.hook_attn_out"]

page.header(
    "What can be read from the states, and from when on?",
    "A linear probe per iteration, tested on documents it has not seen. Only what lies above the "
    "baselines is news.",
)
source = page.source()
if not isinstance(source, LiveSource):
    probed.show(source.result("linear"), source)
    st.stop()

runs.model(source.model, source.loop)  # a folder that is no model is said before anything is chosen
choice = labels.choose(source.model)
with st.form("probe", border=False):
    second, third, fourth = st.columns([4, 2, 2], vertical_alignment="bottom")
    sites = second.multiselect(
        "Sites", SITES, default=SITES[:1], key="sites", bind="query-params",
        help="Activations to read: loop.hook_state is h_k, what the Body reads at iteration k.",
    )  # fmt: skip
    n_iters = third.selectbox(
        "Iterations", [2, 4, 8, 16], index=2, key="probe_r", bind="query-params"
    )
    text = ""
    if labels.need_text():
        own = st.expander("Text to fit on: the bundled sample, or your own")
        text = own.text_area(
            "Your text (empty: the bundled sample of public-domain novels)", key="probe_text", height=160,
            persist_state="session",
            help="At least four documents, separated by blank lines. Whole documents are held out.",
        )  # fmt: skip
    start = fourth.form_submit_button(
        "Fit the probes", type="primary", icon=":material/play_arrow:", width="stretch", disabled=choice is None
    )  # fmt: skip

if choice is None:
    st.stop()
request = fitting.Request(
    source.model, text.strip() or None, choice, tuple(sites), n_iters, source.loop
)
if start:
    fitting.start(request)
result: LinearProbes | None = fitting.outcome(request)
if result is not None:
    probed.show(result, source)
