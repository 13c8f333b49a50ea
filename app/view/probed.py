"""Fitted probes on a page: scores, selectivity, confusion, and what they say of the prompt, a sentence each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app.view import figures, fitting, notices, plain, runs, tokens
from app.view.source import LiveSource, Source
from probes import LinearProbes, ProbeOverlay
from probes.readings import linear as readings

VIEWS = {
    "score": "By iteration",
    "selectivity": "Selectivity",
    "confusion": "Confusion",
    "prompt": "On the prompt",
}


def show(result: LinearProbes, source: Source) -> None:
    """The view chosen of a result."""
    offered = [v for v in VIEWS if v != "confusion" or result.kind == "classes"]
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    view = left.segmented_control(
        "View", offered, default="score", required=True, key="probe_view", format_func=VIEWS.get,
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    site = result.sites[0]
    if len(result.sites) > 1:
        site = right.selectbox("Site", result.sites, key="probe_site")
    if view == "confusion":
        _confusion(result, site)
    elif view == "prompt":
        _prompt(result, site, source)
    else:
        main, beside = st.columns([3, 1])
        with main:
            says = readings.said if view == "score" else readings.selective
            st.caption(plain.markdown(says(result, site)))
            figures.show(result, f"probes-{view}", view=view)
        with beside:
            fitting.numbers(result, site)


def _confusion(result: LinearProbes, site: str) -> None:
    last = max(0, int(result.rows[result.sites.index(site)]) - 1)
    k = last
    if last:
        k = st.slider("Iteration k", 0, last, last, key=f"probe_k_{last}")
    st.caption(plain.markdown(readings.confused(result, site, k)))
    figures.show(result, "probes-confusion", view="confusion", site=site, iteration=k)


def _prompt(result: LinearProbes, site: str, source: Source) -> None:
    """What the probes say of the sidebar's prompt, and of the token picked out on every page."""
    if not isinstance(source, LiveSource):
        notices.notice(
            "A bundle has no model to read the prompt with", "Close the bundle to run one."
        )
        return
    model = runs.model(source.model, source.loop)
    if model.info() != result.model:
        notices.notice(
            "These probes are of another model",
            f"They were fitted on {result.model.name}: fit them anew.",
        )
        return
    with notices.calm("These probes cannot read the prompt"):
        overlay = _overlay(result, site, source, model)
        token = tokens.choose(overlay, np.isfinite(overlay.outputs).any((0, 3)))
        of = None
        if result.kind == "classes":
            of = st.selectbox(
                "Colour", (None, *result.classes), key="probe_class",
                format_func=lambda name: "The class that is most probable" if name is None else f"p({plain.token(name)})",
                label_visibility="collapsed",
            )  # fmt: skip
            of = of if of in result.classes else None
        main, beside = st.columns([3, 1])
        with main:
            figures.show(overlay, "probes-prompt", of=of)
        with beside:
            _token(overlay, token)


def _overlay(result: LinearProbes, site: str, source: LiveSource, model: object) -> ProbeOverlay:
    """Read once for each prompt, site and fit."""
    key = (id(result), site, source.text)
    kept = st.session_state.get("probe_overlay")
    if kept is None or kept[0] != key:
        kept = (key, result.fitted().predict_on(model, source.text, site=site))
        st.session_state["probe_overlay"] = kept
    return kept[1]


def _token(overlay: ProbeOverlay, token: int | None) -> None:
    """One token by iteration, and since when it reads as in the end."""
    if token is None:
        st.caption("Choose a token to see it iteration by iteration.")
        return
    values = overlay.outputs[:, 0, token]
    st.text(f"token {token}:  {plain.token(overlay.tokens[0][token])}")
    frame = pd.DataFrame({"k": range(len(values))})
    if overlay.kind == "classes":
        said = overlay.said[:, 0, token]
        frame["class"] = [plain.token(overlay.classes[c]) if c >= 0 else "" for c in said]
        frame["p"] = values.max(-1)
        steady = int(np.flatnonzero(np.append(-2, said) != said[-1])[-1]) if len(said) else 0
        st.caption(
            f"Reads as {plain.markdown(plain.token(overlay.classes[said[-1]]))} from k = {steady} on."
            if said[-1] >= 0
            else "Not finite in the end."
        )
    else:
        for column, name in enumerate(overlay.classes):
            frame[plain.token(name)] = values[:, column]
    st.dataframe(frame, hide_index=True)
