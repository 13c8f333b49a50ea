"""Trajectories: where the states of each token go, in the plane that shows most of it."""

import streamlit as st

from app.view import figures, page
from probes import Trajectories

VIEWS = {"paths": "Paths", "orbits": "Orbits", "waterfall": "Waterfall"}

page.header(
    "Where do the states go?",
    "Every state of every token, projected on the principal components of all. A path leads from h₀, "
    "the Head's output, to h at r.",
)
view = st.segmented_control(
    "View", list(VIEWS), default="paths", required=True, format_func=VIEWS.get, key="view",
    bind="query-params", label_visibility="collapsed",
    help="Paths: every token on pairs of components. Orbits: each token around its own mean. "
    "Waterfall: one component over token × iteration.",
)  # fmt: skip
found: Trajectories = page.source().result("trajectories")  # type: ignore[assignment]
main, beside = st.columns([3, 1])
with main:
    figures.show(found, "trajectories", height=640, view=view)
with beside:
    st.markdown("**Share of the variance**")
    st.dataframe(
        {
            "component": [f"PC {c + 1}" for c in range(found.n_components)],
            "share": [float(share) for share in found.explained],
        },
        hide_index=True,
        column_config={
            "share": st.column_config.ProgressColumn(
                "share", format="percent", min_value=0.0, max_value=1.0, color="primary"
            )
        },
    )
    scaled = "their directions h/‖h‖" if found.unit else "the states as they are"
    st.caption(f"Fitted on {scaled} of {int(found.valid.sum())} tokens, k = 0 … {found.n_iters}.")
