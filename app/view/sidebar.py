"""The one state all pages share: model, prompt and depth, kept in the URL so that a link reproduces a view."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from abbie_lens.bridged import Loop
from abbie_lens.errors import AbbieLensError
from abbie_lens.files import hub
from app import catalog
from app.settings import Settings
from app.view import loading, picker, plain, prompts, runs, window
from app.view.source import BundleSource, LiveSource, Source
from probes.figures.labels import joined

MAX_ITERS = 32
DEFAULT_ITERS = 16
LOOPED_ITERS = 4
"""For a plain decoder, which was not trained to loop."""


def controls(settings: Settings, place: DeltaGenerator) -> Source | None:
    """Draw the sidebar, telling in `place` how far a load is; None if there is neither a model nor a bundle to look at."""
    opened = st.session_state.get("bundle")
    if opened is not None:
        return _bundle(opened)
    offered = picker.names(settings)
    if not offered:
        return None
    with place, st.spinner("Looking at the models…"):  # the first look imports what reads configs
        entries = [catalog.describe(name) for name in offered]
    name = picker.choose(settings, entries)
    # What is used most stands first: the loop is chosen before r, and stands below it.
    above, below = st.container(), st.container()
    with below:
        loop = _loop(name, place)
    prompt = prompts.usual(name)
    prompts.follow("prompt", prompt)
    with above:
        text = st.text_area(
            "Prompt", prompt, key="prompt", bind="query-params", height=118,
            help="Ctrl+Enter (or a click elsewhere) runs it. It stays on this machine.",
        )  # fmt: skip
        loading.watch(name, loop, place)
        n_iters = _depth(runs.deepest(name, loop), DEFAULT_ITERS if loop is None else LOOPED_ITERS)
    _about(name, loop)
    return LiveSource(name, text or "", n_iters, loop)


def _depth(deepest: int | None, usual: int) -> int:
    """The slider of r, as far as the model goes; an untouched usual depth of the last model becomes this one's."""
    most = min(MAX_ITERS, deepest or MAX_ITERS)
    if most == 1:
        st.caption("Iterations r = 1: this model has no more.")
        return 1
    if st.session_state.get("r", 0) > most:
        # Chosen for a model that goes deeper.
        st.session_state["r"] = most
    usual = min(usual, most)
    if st.session_state.get("r") == st.session_state.get("usual_r", usual) != usual:
        st.session_state["r"] = usual
    st.session_state["usual_r"] = usual
    asked = st.slider(
        "Iterations r", 1, most, usual, key="r", bind="query-params",
        help="How many times the Body is applied to every token before the Tail reads the state.",
    )  # fmt: skip
    if most < MAX_ITERS:
        st.caption(f"This model refuses more than {most} iterations.")
    return asked


def _loop(name: str, place: DeltaGenerator) -> Loop | None:
    """The loop that is put around a plain decoder; None for a model that brings its own."""
    entry = catalog.describe(name)
    if entry.n_params is None and hub.is_hub_id(name):
        loading.watch(name, None, place)  # known once it is fetched
        entry = catalog.describe(name)
    return None if entry.n_blocks is None else window.controls(entry.n_blocks)


def _about(name: str, loop: Loop | None) -> None:
    entry = catalog.describe(name)
    size = f", {entry.size}" if entry.size else ""
    said = f"{catalog.GROUPS[entry.group]}: {plain.markdown(entry.what + size)}."
    try:
        model = runs.model(name, loop)
    except AbbieLensError:
        # The page says what is wrong.
        st.caption(said)
        st.button("Try again", key="again", on_click=loading.again, args=(name,), type="tertiary")
        return
    info, cfg = model.info(), model.cfg
    if loop is not None:
        st.caption(f"{said} *r* counts {info.counts}.")
        return
    around = " The Head reads the prompt once before the loop, the Tail predicts after it."
    st.caption(
        f"{said} Trained with r = {info.trained_n_iters}. *r* counts {info.counts}."
        + (around if cfg.n_head_blocks and cfg.n_tail_blocks else "")
    )


def _bundle(opened: BundleSource) -> Source:
    result = next(iter(opened.bundle.results.values()), None)
    st.markdown(f":material/inventory_2: **Bundle** {plain.markdown(opened.name)}")
    if result is not None:
        about = f"{plain.markdown(result.model.name)}, r = {result.n_iters}"
        prompt = opened.bundle.manifest.get("settings", {}).get("text")
        if isinstance(prompt, str) or result.tokens:
            st.caption(f"{about}, saved prompt:")
            shown = prompt if isinstance(prompt, str) else joined(result.tokens[0])
            st.code(shown, language=None, wrap_lines=True, height=118)
        else:
            st.caption(f"{about}, over a corpus.")
    st.caption("These are saved results; no model is loaded.")
    if st.button("Close the bundle", key="close_bundle", icon=":material/close:"):
        del st.session_state["bundle"]
        st.rerun()
    return opened
