"""Lens: what the model would predict at every token if it stopped after k iterations."""

import streamlit as st

from app.view import figures, page, tables
from probes import Lens

METRICS = {
    "probability": "Probability of the top token",
    "entropy": "Entropy (nats)",
    "nll": "NLL of the next token (nats)",
    "target_rank": "Rank of the next token",
    "final_rank": "Rank of the final prediction",
    "kl_to_final": "KL to the final prediction (nats)",
}
KINDS = {"tail": "Tail lens", "logit": "Logit lens"}

page.header(
    "What would the model say if it stopped here?",
    "Columns are tokens, rows iterations k (0: the Head alone). A cell shows the most probable next "
    "token; click it for more.",
)
left, right = st.columns([1, 2], vertical_alignment="center")
kind = left.segmented_control(
    "Read-out", list(KINDS), default="tail", required=True, format_func=KINDS.get, key="lens",
    bind="query-params", label_visibility="collapsed",
    help="The tail lens is the model's own read-out. The logit lens skips the Tail's blocks.",
)  # fmt: skip
metric = right.selectbox(
    "Colour", list(METRICS), format_func=lambda name: f"Colour: {METRICS[name]}", key="colour",
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
lens: Lens = page.source().result("lens", kind=kind)  # type: ignore[assignment]

main, beside = st.columns([3, 1])
drawn = figures.of(lens, 580, metric=metric, selectable=True)
with main:
    clicked = figures.draw(
        figures.with_cells(drawn), figures.grid_key(lens, "lens-grid"), lens.title,
        on_select="rerun", selection_mode="points",
    )  # fmt: skip
    figures.downloads.buttons(lens, "lens")
chosen = [(int(point["y"]), int(point["x"])) for point in clicked.selection.points]
shown = tables.positions(lens)
k, column = chosen[0] if chosen else (lens.n_iters, len(shown) - 1)
if k > lens.n_iters or column >= len(shown):
    # Chosen in a larger grid, before the prompt or r changed.
    k, column = lens.n_iters, len(shown) - 1
with beside:
    tables.candidates(lens, k, shown[column])
with st.expander("How the rank of the prediction moves"):
    figures.show(lens, "lens-ranks", view="ranks", position=column if chosen else None)
