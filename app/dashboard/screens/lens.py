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
    "Each column is a token of the prompt, each row one more iteration k, from k = 0 (no Body yet) "
    "upward. A cell shows the most probable next token; click one for its candidates.",
)
left, right = st.columns([1, 2], vertical_alignment="bottom")
kind = left.segmented_control(
    "Read-out", list(KINDS), default="tail", required=True, format_func=KINDS.get, key="lens",
    bind="query-params",
    help="The tail lens is the model's own read-out. The logit lens skips the Tail's blocks.",
)  # fmt: skip
metric = right.selectbox(
    "Colour", list(METRICS), format_func=METRICS.get, key="colour", bind="query-params"
)
lens: Lens = page.source().result("lens", kind=kind)  # type: ignore[assignment]

main, beside = st.columns([3, 1])
with main:
    clicked = figures.draw(
        lens.figure(theme=figures.theme(), metric=metric, selectable=True),
        "lens-grid", lens.title, on_select="rerun", selection_mode="points",
    )  # fmt: skip
    figures.downloads.buttons(lens, "lens")
chosen = [point["customdata"] for point in clicked.selection.points if "customdata" in point]
k, position = map(int, chosen[0]) if chosen else (lens.n_iters, len(lens.tokens[0]) - 1)
with beside:
    tables.candidates(lens, k, position)
with st.expander("How the rank of the prediction moves"):
    figures.show(lens, "lens-ranks", view="ranks", position=position if chosen else None)
