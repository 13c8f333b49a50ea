"""Dynamics: does the model converge on this prompt, to what, and is that the training or the architecture?"""

import streamlit as st

from app.view import beside, comparing, figures, notices, page, panels, plain, readings, tokens
from probes import readings as told

page.header(
    "Does this model converge on this prompt?",
    "Each token's state h changes r times. It converges if its direction stops changing. Random weights stand "
    "beside: what they do as well is the architecture, not the training.",
)
chosen = beside.choose(page.source())
runs = []
for i, (name, source) in enumerate(chosen):
    with notices.calm(f"This cannot be run as asked: {plain.markdown(name)}", key=f"notice-{i}"):
        runs.append((name, source, source.result("fixed_point")))
if not runs:
    st.stop()

answer = st.container()
with st.expander("Where a verdict begins"):
    limits = runs[0][2].thresholds
    places = st.columns(3)
    chosen_limits = {
        "decay": places[0].slider(
            "Settles: steps shrink faster than k to the power −", 0.5, 5.0, limits["decay"], 0.25,
            key="decay", bind="query-params",
        ),
        "growth": places[1].slider(
            "Diverges: the norm grows faster than k to the power", 0.5, 5.0, limits["growth"], 0.25,
            key="growth", bind="query-params",
        ),
        "closure": places[2].slider(
            "Orbits: comes back within this share of its way", 0.0, 1.0, limits["closure"], 0.05,
            key="closure", bind="query-params",
        ),
    }  # fmt: skip
runs = [(name, source, fixed.judge(**chosen_limits)) for name, source, fixed in runs]
first = runs[0][2]

name, view, position = panels.choose(first)
with answer:
    columns = st.columns(len(runs)) if len(runs) > 1 else [st.container()]
    for i, (column, (called, _, fixed)) in enumerate(zip(columns, runs, strict=True)):
        says, because = told.headline(fixed)
        with column:
            if len(runs) > 1:
                st.caption(plain.markdown(called))
            st.markdown(f"#### {says}")
            st.markdown(plain.markdown(because))
            place = position
            if i and position is not None:
                place = beside.linked(
                    fixed.tokens[0], fixed.valid[0], first.tokens[0][position], position
                )
            options = {"view": "text", "position": place}
            if len(runs) == 1:
                drawn = figures.of(fixed, **options)
            else:
                drawn = comparing.half(fixed, theme=figures.theme(), across=44, **options)
                drawn.update_layout(title_subtitle_text="")  # it stands above
            key = f"strip-{i}"
            figures.draw(
                drawn, key, fixed.title, selection_mode="points",
                on_select=tokens.clicked(f"figure-{key}") if i == 0 else "ignore",
            )  # fmt: skip
            if len(runs) == 1:
                readings.cards(fixed, 5)
            else:
                readings.lines(fixed)
            if fixed.limit_reason:
                st.caption(f"Limit: {plain.markdown(fixed.limit_reason)}")
panels.show(name, runs, view, position)
