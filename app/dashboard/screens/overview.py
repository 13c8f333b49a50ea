"""Overview: what the model predicts, and what its iterations do, on one screen."""

import streamlit as st

from app.view import cards, figures, page, tables
from probes import FixedPoint, Halting, Lens

page.header(
    "What does the model say, and what do its iterations do?",
    "The loop runs r times over the prompt. Below: the most probable next token after each "
    "token, if the model stopped after k iterations.",
)
source = page.source()
lens: Lens = source.result("lens", kind="tail", blocks=False)  # type: ignore[assignment]
fixed: FixedPoint = source.result("fixed_point")  # type: ignore[assignment]
halting: Halting = source.result("halting")  # type: ignore[assignment]

cards.row(lens, fixed, halting)
main, beside = st.columns([3, 1])
with main:
    drawn = figures.of(lens, 500, metric="probability")
    figures.draw(drawn, figures.grid_key(lens, "overview"), lens.title)
    figures.downloads.buttons(lens, "lens")
with beside:
    tables.candidates(lens, lens.n_iters, tables.positions(lens)[-1])
