"""The panel of activation patching: two prompts, the heatmap, and what the corrupt run says and looks at in the chosen cell."""

from __future__ import annotations

import streamlit as st

from app.view import causing, figures, notices, pairs, plain, runs, tables
from app.view.source import LiveSource, Source
from probes import Lens, Patching
from probes.readings import causes as told


def panel(source: Source) -> None:
    """The form and its last result; of a bundle, what it holds."""
    if not isinstance(source, LiveSource):
        figures.show(source.result("patching"), "patching")
        return
    default = pairs.usual(source.model, source.text)
    model_key = f"{abs(hash((source.model, source.loop))) % 10**8}"
    with st.form("patch", border=False):
        left, right, beside = st.columns(3)
        clean = left.text_area("Clean prompt", default.clean, key=f"clean_{model_key}", height=100)
        corrupt = right.text_area("Corrupt prompt: as many tokens", default.corrupt,
                                  key=f"corrupt_{model_key}", height=100)  # fmt: skip
        control = beside.text_area("Control: as many tokens", default.control, key=f"control_{model_key}", height=100,
                                   placeholder="drawn: another token where the two differ",
                                   help="A third answer. What its values bring back is not the clean prompt's: the corrupt "
                                   "answer was only broken.")  # fmt: skip
        one, two, three, four, button = st.columns([3, 3, 2, 2, 2], vertical_alignment="bottom")
        site = one.selectbox("Patch", list(causing.SITES), format_func=lambda name: causing.SITES[name], key="patch_site",
                             bind="query-params")  # fmt: skip
        metrics = {"logit_difference": "logit difference", "kl": "KL to the clean prediction"}
        metric = two.selectbox("Judged by", list(metrics), format_func=lambda name: metrics[name], key="patch_metric",
                               bind="query-params")  # fmt: skip
        answer = three.text_input("Answer", default.answer, key=f"answer_{model_key}", placeholder="clean run's",
                                  help="One token; empty: what the clean run says.")  # fmt: skip
        other = four.text_input("Other token", default.other, key=f"other_{model_key}", placeholder="corrupt run's",
                                help="One token; empty: what the corrupt run says.")  # fmt: skip
        pressed = button.form_submit_button("Patch", type="primary", icon=":material/play_arrow:")

    request = causing.Patch(
        source.model,
        source.loop,
        source.n_iters,
        clean,
        corrupt,
        site,
        metric,
        answer or None,
        other or None,
        control or None,
    )
    if pressed:
        causing.start(causing.PATCH, request)
    found: Patching | None = None
    with notices.calm():
        found = causing.outcome(causing.PATCH, request)
    if found is not None:
        result: Patching = found
        pairs.show(result)
        best = found.best()
        n_sites, n_heads = len(found.sites), found.score.shape[-1]
        block = head = 0
        if n_sites > 1 or n_heads > 1:
            columns = st.columns([3, 2, 5], vertical_alignment="bottom")
            block = columns[0].selectbox("Site", range(n_sites), best[0] if best else 0,
                                         format_func=lambda b: result.sites[b], key=f"patched_block_{site}")  # fmt: skip
            if n_heads > 1:
                head = columns[1].selectbox(
                    "Head", range(n_heads), best[3] if best else 0, key="patched_head"
                )
        # Of whole states the last token's gives the answer back in the end, whatever the model does.
        several = n_sites > 1 or n_heads > 1
        cell = (best[1], best[2]) if best and several else found.origin()
        shown = (
            st.session_state.get("figure-patching-grid", {}).get("selection", {}).get("points", [])
        )
        if shown:
            cell = int(shown[0]["y"]), int(shown[0]["x"])
        k_max, n = found.score.shape[1], int(found.valid[0].sum())
        if cell is not None and not (cell[0] < k_max and cell[1] < n):
            cell = None
        main, beside = st.columns([5, 2])
        with main:
            drawn = figures.of(found, site=block, head=head, cell=cell, selectable=True)
            figures.draw(figures.with_cells(drawn), "patching-grid", found.title,
                         on_select="rerun", selection_mode="points")  # fmt: skip
            figures.downloads.buttons(found, "patching")
            st.markdown(plain.markdown(told.patched(found)))
            st.caption("Click a cell to see what the corrupt run says and looks at there.")
        if cell is not None:
            k, position = cell
            with beside, notices.calm(key="notice-cell-lens"):
                lens: Lens = runs.analysis(
                    "lens", source.model, corrupt, source.n_iters, source.loop
                )  # type: ignore[assignment]
                tables.candidates(lens, min(k, source.n_iters), position)
            with (
                st.expander("Where the corrupt run looks there"),
                notices.calm(key="notice-cell-attention"),
            ):
                looks = runs.analysis(
                    "attention", source.model, corrupt, source.n_iters, source.loop
                )
                rows = looks.entropy.shape[0]  # type: ignore[attr-defined]
                if rows and len(looks.pattern):  # type: ignore[attr-defined]
                    at = min(block, len(looks.sites) - 1)  # type: ignore[attr-defined]
                    figures.show(looks, "cell-attention", height=520, view="pattern", block=at, head=head,
                                 iteration=min(k, rows - 1), position=position)  # fmt: skip
