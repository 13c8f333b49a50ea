"""Fixed points: do the states settle, and is that the training or the architecture?"""

import streamlit as st

from app.view import figures, page, tables
from probes import FixedPoint

VIEWS = {"distances": "Four distances", "norm": "Norm", "tokens": "Every token"}
METRICS = {
    "direction": "Direction",
    "raw": "Raw",
    "relative": "Relative",
    "readout": "Read-out",
    "angle": "Step angle",
    "limit_direction": "Direction to the limit",
    "limit_readout": "Read-out to the limit",
}

page.header(
    "Do the states settle?",
    "Distances between successive states h. What random weights do as well is the architecture, not "
    "the training.",
)
fixed: FixedPoint = page.source().result("fixed_point")  # type: ignore[assignment]

left, right = st.columns([2, 1], vertical_alignment="center")
view = left.segmented_control(
    "View", list(VIEWS), default="distances", required=True, format_func=VIEWS.get, key="fixed_view",
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
options = {}
if view == "tokens":
    options["metric"] = right.selectbox(
        "Distance", list(METRICS), format_func=METRICS.get, key="distance", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
main, beside = st.columns([3, 1])
with beside:
    numbers = st.container()
    with st.expander("Where a verdict begins"):
        chosen = {
            "decay": st.slider(
                "Settles: steps shrink faster than k to the power −", 0.5, 5.0,
                fixed.thresholds["decay"], 0.25, key="decay", bind="query-params",
            ),
            "growth": st.slider(
                "Diverges: the norm grows faster than k to the power", 0.5, 5.0,
                fixed.thresholds["growth"], 0.25, key="growth", bind="query-params",
            ),
            "closure": st.slider(
                "Orbits: comes back within this share of its way", 0.0, 1.0,
                fixed.thresholds["closure"], 0.05, key="closure", bind="query-params",
            ),
        }  # fmt: skip
fixed = fixed.judge(**chosen)
with main:
    figures.show(fixed, "fixed-points", height=630, view=view, **options)
with numbers:
    tables.verdicts(fixed)
    tables.last_steps(fixed)
    if fixed.limit_reason:
        st.caption(f"Limit: {fixed.limit_reason}")
