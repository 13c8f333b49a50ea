"""Lens: what the model would predict at every token if it stopped after k iterations."""

import streamlit as st

from app.view import attribution, concepts, figures, lens_fits, page, tables
from app.view.source import LiveSource
from probes import Lens

METRICS = {
    "probability": "Probability of the top token",
    "entropy": "Entropy (nats)",
    "nll": "NLL of the next token (nats)",
    "target_rank": "Rank of the next token",
    "final_rank": "Rank of the final prediction",
    "kl_to_final": "KL to the final prediction (nats)",
}
KINDS = {"tail": "Tail lens", "logit": "Logit lens", "tuned": "Tuned", "jacobian": "Jacobian"}
LOOKS = {
    "tail": "Read upward: the row from which a column keeps its token is where that prediction is made.",
    "logit": "What the final norm finds before the Tail has worked: where it disagrees with the last row, the Tail decides.",
    "tuned": "As if the rest of the model were one learnt affine map: what it finds early was there, in other coordinates.",
    "jacobian": "What a small change of this state would do to the prediction: what it is about to say, not what it says.",
}

page.header(
    "What would the model say if it stopped here?",
    "Columns are tokens, rows iterations k (0: the Head alone). A cell shows the most probable next "
    "token; click it for more.",
)
left, middle, right = st.columns([5, 1.5, 3.5], vertical_alignment="center")
kind = left.segmented_control(
    "Read-out", list(KINDS), default="tail", required=True, format_func=KINDS.__getitem__, key="lens",
    bind="query-params", label_visibility="collapsed",
    help="Tail: the model's own read-out. Logit: final norm and unembedding alone. Tuned: after a learnt matrix. "
    "Jacobian: after the mean effect on the end.",
)  # fmt: skip
blocks = middle.toggle(
    "Blocks", key="blocks", bind="query-params", help="Rows for the stream after every block too."
)
metric = right.selectbox(
    "Colour", list(METRICS), format_func=lambda name: f"Colour: {METRICS[name]}", key="colour",
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
source = page.source()
if isinstance(source, LiveSource):
    if kind in lens_fits.MADE and not lens_fits.there(source, kind, blocks):
        st.stop()
    lens: Lens = source.result("lens", kind=kind, blocks=blocks)  # type: ignore[assignment]
else:
    lens = source.result(lens_fits.saved(kind, blocks), kind=kind, blocks=blocks)  # type: ignore[assignment]
st.caption(LOOKS[kind])

main, beside = st.columns([3, 1])
drawn = figures.of(lens, 1000 if blocks else 580, metric=metric, selectable=True)
with main:
    clicked = figures.draw(
        figures.with_cells(drawn), figures.grid_key(lens, "lens-grid"), lens.title,
        on_select="rerun", selection_mode="points",
    )  # fmt: skip
    figures.downloads.buttons(lens, "lens")
chosen = [(int(point["y"]), int(point["x"])) for point in clicked.selection.points]
shown = tables.positions(lens)
row, column = chosen[0] if chosen else (int(lens.readouts[-1]), len(shown) - 1)
if row >= len(lens.addresses) or column >= len(shown):
    # Chosen in a larger grid, before the prompt, r or the rows changed.
    row, column = int(lens.readouts[-1]), len(shown) - 1
with beside:
    tables.candidates(lens, row, shown[column])
st.caption(
    "From which row on is the prediction first? Below, ranks against depth, beside a token drawn at random: "
    + (
        "of the token chosen above."
        if chosen
        else "the median over tokens; click a cell for one token."
    )
)
figures.show(lens, "lens-ranks", view="ranks", position=shown[column] if chosen else None)

# Computed when they are opened: each takes some runs of the model.
parts = st.expander(
    "Which components write the logit? Direct logit attribution", key="logit_parts",
    on_change="rerun", bind="query-params",
)  # fmt: skip
if parts.open:
    with parts:
        attribution.panel(source, shown[column] if chosen else None)
places = st.expander(
    "Where tokens leave the states, and where the next ones enter", key="concept_space",
    on_change="rerun", bind="query-params",
)  # fmt: skip
if places.open:
    with places:
        concepts.panel(source)
