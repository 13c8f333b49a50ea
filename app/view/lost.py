"""Panels of what is lost: without a part, after noise, without an iteration; each computed when it is asked for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.view import demand, figures, plain
from app.view.source import LiveSource, Source
from probes import Recovery
from probes.readings import causes as told

PANELS = {"ablation": "Ablation", "recovery": "Noise", "skipping": "Iterations", "specialisation": "What each is for"}  # fmt: skip
QUESTIONS = {
    "ablation": (
        "What is lost without a part?",
        "A part's value is replaced at all tokens, one iteration at a time: by its mean over the prompt, which takes away what "
        "it says of this token, and by its value at another token, which says something false.",
    ),
    "recovery": (
        "Does the loop mend a disturbed state?",
        "Every token's state is moved in a random direction after one iteration and its distance to the undisturbed run "
        "followed. A carry that adds up brings a direction back on its own: compare random weights.",
    ),
    "skipping": (
        "Which iterations matter?",
        "Each iteration is left out, or done twice, and the prediction compared with the whole run's.",
    ),
    "specialisation": (
        "What is each iteration for?",
        "How far it attends, and what is lost without it, beside random weights.",
    ),
}
SITES = {
    "attn_out": "attention output",
    "mlp_out": "MLP output",
    "z": "attention heads",
    "hook_state": "the state",
}
MEASURES = {"kl": "KL to the plain prediction", "nll": "Change of the NLL"}
METRICS = {"kl": "KL to the whole run", "delta_nll": "Change of the NLL"}
VIEWS = {"classes": "By class of the next token", "tokens": "By token"}


def panel(kind: str, source: Source) -> None:
    """Choices, the button or the progress, and the figure."""
    columns = st.columns(3)
    options: dict[str, Any] = {}
    view: dict[str, Any] = {}
    live = isinstance(source, LiveSource)
    if kind == "ablation":
        with columns[0]:
            if live and (site := _select("Part", SITES, "ablated")) != "attn_out":
                options["site"] = site
        with columns[1]:
            view["measure"] = _select("Judged by", MEASURES, "ablated_by")
    elif kind == "recovery" and live and source.n_iters > 1:
        at = columns[0].slider(
            "Noise at iteration k", 0, source.n_iters, 1, key=f"noise_k_{source.n_iters}"
        )
        if at != 1:
            options["at"] = at
    elif kind == "skipping":
        with columns[0]:
            view["view"] = _select("View", VIEWS, "skipped_view")
        with columns[1]:
            metric = _select("Judged by", METRICS, "skipped_by")
        view["metric"] = metric if view["view"] == "classes" else f"skip_{metric}"
    found: Any = demand.result(kind, source, **options)
    if found is None:
        return
    figures.show(found, kind, **view)
    if isinstance(found, Recovery):
        st.markdown(plain.markdown(told.recovered(found)))


def _select(label: str, options: dict[str, str], key: str) -> str:
    return st.selectbox(
        label, list(options), format_func=options.__getitem__, key=key, bind="query-params"
    )
