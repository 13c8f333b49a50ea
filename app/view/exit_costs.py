"""What exits of a rule cost on this prompt, in FLOPs; counted once per model, rule and depth."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from abbie_lens import halting
from abbie_lens.config import LoopedConfig
from app.view import runs
from app.view.source import LiveSource, Source
from probes.early_exit import costs


def of(source: Source, rule: str, n_tokens: int) -> tuple[np.ndarray, np.ndarray] | None:
    """[k] FLOPs per token at one depth, and of a token that exits by `rule`; None for bundles and bridged models."""
    if not isinstance(source, LiveSource):
        return None
    model = runs.model(source.model, source.loop)
    if not isinstance(model.cfg, LoopedConfig):
        return None
    checkpoint = runs.checkpoint(source.model, source.loop)
    return _counted(model, checkpoint, rule, source.n_iters, min(n_tokens, model.cfg.n_ctx))


@st.cache_data(max_entries=64, show_spinner=False)
def _counted(
    _model: Any, checkpoint: tuple[str, str], rule: str, n_iters: int, n_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    fixed, own = costs.flops_by_exit(_model, [halting.policy(rule)], n_iters, n_tokens)
    return fixed, own[0]
