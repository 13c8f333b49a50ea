"""The one state all pages share: model, prompt and depth, kept in the URL so that a link reproduces a view."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from abbie_lens import zoo
from abbie_lens.errors import AbbieLensError
from app.settings import Settings
from app.view import plain, prompts, runs
from app.view.source import BundleSource, LiveSource, Source
from probes.figures.labels import joined

MAX_ITERS = 32
DEFAULT_ITERS = 16


def controls(settings: Settings) -> Source | None:
    """Draw the sidebar; None if there is neither a model nor a bundle to look at."""
    opened = st.session_state.get("bundle")
    if opened is not None:
        return _bundle(opened)
    names = model_names(settings)
    if not names:
        return None
    name = st.selectbox(
        "Model", names, key="model", bind="query-params", format_func=labels(names).get,
        help="A looped model: Head once, the same Body r times, Tail once.",
    )  # fmt: skip
    if settings.allow_load:
        _load_folder()
    prompt = prompts.usual(name)
    prompts.follow("prompt", prompt)
    text = st.text_area(
        "Prompt", prompt, key="prompt", bind="query-params", height=118,
        help="Ctrl+Enter (or a click elsewhere) runs it. It stays on this machine.",
    )  # fmt: skip
    n_iters = _depth(runs.deepest(name))
    _about(name)
    return LiveSource(name, text or "", n_iters)


def _depth(deepest: int | None) -> int:
    """The slider of r, as far as the model goes."""
    most = min(MAX_ITERS, deepest or MAX_ITERS)
    if most == 1:
        st.caption("Iterations r = 1: this model has no more.")
        return 1
    if st.session_state.get("r", 0) > most:
        # Chosen for a model that goes deeper.
        st.session_state["r"] = most
    asked = st.slider(
        "Iterations r", 1, most, min(DEFAULT_ITERS, most), key="r", bind="query-params",
        help="How many times the Body is applied to every token before the Tail reads the state.",
    )  # fmt: skip
    if most < MAX_ITERS:
        st.caption(f"This model refuses more than {most} iterations.")
    return asked


def model_names(settings: Settings) -> list[str]:
    """Models on offer: those the server was started with, those loaded since, the bundled ones."""
    loaded = st.session_state.get("loaded_models", [])
    return list(dict.fromkeys([*settings.models, *loaded, *zoo.names()]))


def labels(names: list[str]) -> dict[str, str]:
    """What each model is called on screen and in the address: a folder by its last part, if that is clear."""
    short = {name: _short(name) for name in names}
    seen = list(short.values())
    return {name: label if seen.count(label) == 1 else name for name, label in short.items()}


def _short(name: str) -> str:
    """The last part of a path; a training run's `final` folder is called by the run."""
    path = Path(name)
    return (path.parent.name if path.name == "final" else path.name) or name


def _about(name: str) -> None:
    try:
        model = runs.model(name)
    except AbbieLensError:
        return  # the page says what is wrong
    info, cfg = model.info(), model.cfg
    around = " The Head reads the prompt once before the loop, the Tail predicts after it."
    st.caption(
        f"{plain.markdown(info.family)}, {info.n_params / 1e6:.1f}M parameters, "
        f"trained with r = {info.trained_n_iters}. *r* counts {info.counts}."
        + (around if cfg.n_head_blocks and cfg.n_tail_blocks else "")
    )


def _load_folder() -> None:
    with st.popover("Load a model from a folder", width="stretch"):
        folder = st.text_input("Folder with config.json and *.safetensors", key="load_folder")
        if st.button("Load", key="load_button") and folder.strip():
            path = str(Path(folder.strip()).expanduser().resolve())
            try:
                runs.model(path)
            except AbbieLensError as error:
                st.text(str(error))
                return
            st.session_state.setdefault("loaded_models", []).append(path)
            st.rerun()


def _bundle(opened: BundleSource) -> Source:
    result = next(iter(opened.bundle.results.values()), None)
    st.markdown(f":material/inventory_2: **Bundle** {plain.markdown(opened.name)}")
    if result is not None:
        st.caption(f"{plain.markdown(result.model.name)}, r = {result.n_iters}, saved prompt:")
        prompt = opened.bundle.manifest.get("settings", {}).get("text")
        shown = prompt if isinstance(prompt, str) else joined(result.tokens[0])
        st.code(shown, language=None, wrap_lines=True, height=118)
    st.caption("These are saved results; no model is loaded.")
    if st.button("Close the bundle", key="close_bundle", icon=":material/close:"):
        del st.session_state["bundle"]
        st.rerun()
    return opened
