"""The dashboard's frame, run by Streamlit on every interaction: navigation, sidebar, one page."""

from pathlib import Path

import streamlit as st

from app.settings import Settings
from app.view import bundles, notices, sidebar

# Not in a folder called pages/: Streamlit would take that for its older kind of multipage app, and
# run a page file without this frame.
PAGES = [
    st.Page("screens/overview.py", title="Overview", icon=":material/visibility:", default=True),
    st.Page("screens/dynamics.py", title="Dynamics", icon=":material/adjust:"),
    st.Page("screens/attention.py", title="Attention", icon=":material/center_focus_strong:"),
    st.Page("screens/lens.py", title="Lens", icon=":material/grid_on:"),
    st.Page("screens/halting.py", title="Halting", icon=":material/pan_tool:"),
    st.Page("screens/probes.py", title="Probes", icon=":material/biotech:"),
    st.Page("screens/causes.py", title="Causes", icon=":material/call_split:"),
    st.Page("screens/tasks.py", title="Tasks", icon=":material/checklist:"),
    st.Page("screens/compare.py", title="Compare", icon=":material/compare:"),
    st.Page("screens/export.py", title="Export", icon=":material/ios_share:"),
    # Addresses of pages that became part of Dynamics: old links show it.
    st.Page("screens/dynamics.py", title="Dynamics", url_path="fixed_points", visibility="hidden"),
    st.Page("screens/dynamics.py", title="Dynamics", url_path="trajectories", visibility="hidden"),
]

HERE = Path(__file__).parent
# A file of ours: Streamlit fetches an icon named by a word from the network.
st.set_page_config(page_title="abbie-lens", page_icon=HERE / "icon.svg", layout="wide")
st.logo(HERE / "logo.svg", size="large")
st.html(HERE / "narrow.css")
st.html(HERE / "legible.css")
settings = Settings.from_env()
page = st.navigation(PAGES)

with notices.calm():
    bundles.open_first(settings.bundle)
st.session_state["forecasts"] = {}
above = st.empty()  # while a model loads, how far it is; later what is to be known of its runs
with st.sidebar:
    source = sidebar.controls(settings, above)
if source is None:
    notices.notice(
        "There is no model to look at yet",
        "This installation carries no bundled model. Start the dashboard with "
        "`abbie-lens app --model FOLDER`, or open a saved run with `abbie-lens app --bundle DIR`.",
    )
    st.stop()
st.session_state["source"] = source
with notices.calm():
    page.run()
if forecasts := st.session_state["forecasts"]:
    with above:
        notices.notice(
            "The states of this run outgrow their numbers", "\n".join(forecasts), "notice-overflow"
        )
