"""The model in the sidebar: a box to choose by name, and all models in their groups with what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from abbie_lens import zoo
from abbie_lens.errors import AbbieLensError
from abbie_lens.files import installed
from app import catalog, permission
from app.settings import Settings
from app.view import loading, plain, runs


def names(settings: Settings) -> list[str]:
    """Models on offer: those the server was started with, those loaded since, the bundled and the installed ones."""
    loaded = st.session_state.get("loaded_models", [])
    return list(dict.fromkeys([*settings.models, *loaded, *zoo.names(), *installed.names()]))


def labels(offered: Sequence[str]) -> dict[str, str]:
    """What each model is called on screen and in the address: a folder by its last part, if that is clear."""
    short = {name: catalog.label(name) for name in offered}
    seen = list(short.values())
    return {name: label if seen.count(label) == 1 else name for name, label in short.items()}


def choose(settings: Settings, entries: Sequence[catalog.Entry]) -> str:
    """The model chosen, by its name or out of its group."""
    offered = [entry.name for entry in entries]
    called = labels(offered)
    if (asked := st.session_state.pop("model_wanted", None)) in called:
        st.session_state["model"] = asked
    name = st.selectbox(
        "Model", offered, key="model", bind="query-params", format_func=called.get,
        help="A looped model: Head once, the same Body r times, Tail once.",
    )  # fmt: skip
    with st.popover("All models", width="stretch", icon=":material/list:"):
        _groups(entries, called, settings.root)
    return name


def _groups(entries: Sequence[catalog.Entry], called: dict[str, str], root: str | None) -> None:
    """A tab for each group, with a button that opens each model, what it is, how large."""
    inside = {group: [e for e in entries if e.group == group] for group in catalog.GROUPS}
    titles = [g for g in catalog.GROUPS if inside[g] or (g == "own" and root)]
    tabs = st.tabs([f"{catalog.GROUPS[group]} ({len(inside[group])})" for group in titles])
    for group, tab in zip(titles, tabs, strict=True):
        with tab:
            for entry in inside[group]:
                _row(entry, called[entry.name])
            if group == "own" and root:
                _load(Path(root))


def _row(entry: catalog.Entry, called: str) -> None:
    said = f"{entry.what}, {entry.size}" if entry.size else entry.what
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.button(
            plain.markdown(called), key=f"open-{entry.name}", type="tertiary",
            on_click=_want, args=(entry.name,),
        )  # fmt: skip
        st.caption(plain.markdown(said), width="content")


def _want(name: str) -> None:
    st.session_state["model_wanted"] = name


def _load(root: Path) -> None:
    """A folder below `root` or a hub id, for a server that was started with --allow-load."""
    asked = st.text_input(
        "Folder or hub id", key="load_folder",
        help="A folder with config.json and *.safetensors, or organisation/model on the hub.",
    )  # fmt: skip
    st.caption(f"Folders below {plain.markdown(str(root))}, or any model of the hub.")
    if st.button("Load", key="load_button") and (asked := asked.strip()):
        try:
            name = permission.resolve(asked, root)
            loading.again(name)
            runs.model(name)
        except AbbieLensError as error:
            st.text(str(error))
            return
        known = st.session_state.setdefault("loaded_models", [])
        if name not in known:
            known.append(name)
        _want(name)
        st.rerun()
