"""The panel of steering: texts to steer towards and away from, effects beside random directions, and what is generated."""

from __future__ import annotations

import streamlit as st

from app.view import causing, figures, notices, pairs, plain
from app.view.source import LiveSource, Source
from probes import Steering
from probes.readings import causes as told


def panel(source: Source) -> None:
    """The form and its last result; of a bundle, what it holds."""
    if not isinstance(source, LiveSource):
        figures.show(source.result("steering"), "steering")
        return
    default = pairs.usual(source.model, source.text)
    model_key = f"{abs(hash((source.model, source.loop))) % 10**8}"
    with st.form("steer", border=False):
        left, right = st.columns(2)
        toward = left.text_area(
            "Toward these texts, one a line",
            default.toward or default.clean,
            key=f"toward_{model_key}",
        )
        away = right.text_area(
            "Away from these", default.away or default.corrupt, key=f"away_{model_key}"
        )
        one, two, button = st.columns([3, 3, 2], vertical_alignment="bottom")
        iteration = one.slider("At iteration k", 0, source.n_iters, min(1, source.n_iters), key=f"steer_k_{source.n_iters}") \
            if source.n_iters else 0  # fmt: skip
        strength = two.slider(
            "Strength: share of the state's norm", 0.05, 2.0, 0.3, 0.05, key="strength"
        )
        pressed = button.form_submit_button("Steer", type="primary", icon=":material/play_arrow:")
    lines = lambda text: tuple(line for line in text.splitlines() if line.strip())  # noqa: E731
    push = causing.Steer(
        source.model,
        source.loop,
        source.n_iters,
        source.text,
        lines(toward),
        lines(away),
        iteration,
        strength,
    )
    if pressed:
        causing.start(causing.STEER, push)
    steered: Steering | None = None
    with notices.calm(key="notice-steer"):
        steered = causing.outcome(causing.STEER, push)
    if steered is not None:
        figures.show(steered, "steering")
        st.markdown(plain.markdown(told.steered(steered)))
        names = {"plain": "Unchanged", "steered": f"Steered, α = {steered.generated_at:g}"}
        for row in (list(names), [name for name in steered.texts if name not in names]):
            for column, name in zip(st.columns(max(1, len(row))), row, strict=False):
                if name in steered.texts:
                    with column.container(border=True, height="stretch"):
                        st.caption(names.get(name, "A random direction, same length"))
                        st.text(steered.texts[name])
