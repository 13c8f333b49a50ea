"""Tuned and Jacobian lenses from a page: whether there is one, and making one of the bundled sample, kept for good."""

from __future__ import annotations

from typing import Any

import streamlit as st

from abbie_lens import zoo
from app.view import runs, work
from app.view.source import LiveSource
from probes.lenses import JacobianConfig, TunedConfig, find, fit_jacobian, train_tuned
from probes.lenses.places import MADE, home
from probes.progress import Callback

__all__ = ["MADE", "saved", "there"]

SLOT = "lens_job"
STEPS, TEXTS, WINDOW = 100, 8, 64
"""Of Adam; texts and tokens of each for a Jacobian lens: a few minutes for a small model."""
_NAMES = {"tuned": "tuned", "jacobian": "Jacobian"}
_WORDS = {
    "tuned": "A tuned lens is learnt: one matrix for every row, trained to give the final prediction.",
    "jacobian": "A Jacobian lens is measured: the mean effect of every state on what the final norm reads.",
}


def saved(kind: str, blocks: bool) -> str:
    """The name under which a bundle holds this lens, if it does."""
    if kind == "tuned":
        return "lens_tuned"
    return "lens_blocks" if blocks else "lens"


def there(source: LiveSource, kind: str, blocks: bool) -> bool:
    """Whether the lens is shipped or was made before; if not, draws a button that makes it, or how far it is."""
    model = runs.model(source.model, source.loop)
    if find(model, kind, source.n_iters, blocks) is not None:
        return True
    asked = (source.model, source.loop, runs.checkpoint(source.model, source.loop), kind, source.n_iters, blocks)  # fmt: skip
    words = work.Words(
        waiting=f"No {_NAMES[kind]} lens of this model for r = {source.n_iters}{' with blocks' * blocks} yet",
        how=f"{_WORDS[kind]} Press the button to make one of the bundled sample text. It takes minutes, is kept, and "
        "the other pages can be used meanwhile. The command “abbie-lens lens” makes one of any text.",
        doing="Making the lens",
        steps="steps",
        stopped="It was stopped before it was done.",
        refused="This lens cannot be made",
        changed="",
    )
    before, job = st.session_state.get(SLOT, (None, None))
    if not (job is not None and job.running and before == asked):
        st.button(
            "Make it from the sample text", type="primary", icon=":material/play_arrow:", key="make-lens",
            on_click=_start, args=(asked, source, kind, blocks),
        )  # fmt: skip
    return work.outcome(SLOT, asked, words, older=False) is not None


def _start(asked: Any, source: LiveSource, kind: str, blocks: bool) -> None:
    model = runs.model(source.model, source.loop)
    texts = zoo.sample_text().split("\f")

    def make(progress: Callback) -> Any:
        n = source.n_iters
        if kind == "tuned":
            made = train_tuned(
                model, texts, TunedConfig(n, blocks, STEPS, check_every=20), progress=progress
            )
        else:
            config = JacobianConfig(n, blocks, TEXTS, min(WINDOW, model.cfg.n_ctx))
            made = fit_jacobian(model, texts, config, progress=progress)
        # Another visitor may have made the same meanwhile.
        made.save(home(model, kind, n, blocks), overwrite=True)
        return made

    work.start(SLOT, asked, make)
