"""Small tables beside a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app import summary
from app.view import plain
from probes import FixedPoint, Lens
from probes.verdicts import VERDICTS


def candidates(lens: Lens, row: int, position: int) -> None:
    """Most probable next tokens in one row at one position, with the cell's other values."""
    cell = (row, 0, position)
    st.markdown(f"**{_where(lens.names[row])}**")
    st.text(f"at token {position}:  {plain.token(lens.tokens[0][position])}")
    st.dataframe(
        top_tokens(lens, row, position),
        hide_index=True,
        column_config={
            "probability": st.column_config.ProgressColumn(
                "probability", format="%.3f", min_value=0.0, max_value=1.0, color="primary"
            )
        },
    )
    values = [
        f"Entropy {lens.entropy[cell]:.2f} nats",
        f"KL to the prediction at r: {lens.kl_to_final[cell]:.3g} nats",
    ]
    if lens.target_rank[cell] == lens.target_rank[cell]:
        values.append(
            f"rank of the prompt's own next token: {lens.target_rank[cell]:.0f} "
            f"(of a random token: {lens.random_rank[cell]:.0f})"
        )
    st.caption("; ".join(values) + ".")


def positions(lens: Lens) -> list[int]:
    """Positions of the first sequence that hold a token, in the order in which figures show them."""
    return [int(p) for p in np.flatnonzero(lens.valid[0])]


def _where(name: str) -> str:
    """A row of a lens in words."""
    k, _, block = name.partition(" ")
    if not k.isdigit():
        return f"After {plain.markdown(name)}"
    if block:
        return f"In iteration {k}, after {plain.markdown(block)}"
    return "After the Head alone (k = 0)" if k == "0" else f"After {k} iteration{'s' * (k != '1')}"


def top_tokens(lens: Lens, row: int, position: int) -> pd.DataFrame:
    """Columns `token` (visible) and `probability`, most probable first; empty where diverged."""
    ids = lens.top_ids[row, 0, position]
    probabilities = lens.top_probabilities[row, 0, position]
    rows = [(plain.token(lens.token(i)), float(p)) for i, p in zip(ids, probabilities, strict=True)]
    kept = [row for row, i in zip(rows, ids, strict=True) if i >= 0]
    return pd.DataFrame(kept, columns=["token", "probability"])


def verdicts(fixed: FixedPoint) -> None:
    """Tokens by verdict, trained beside random weights."""
    counts = summary.fixed_point(fixed)["verdicts"]
    kinds = [verdict for verdict in VERDICTS if any(verdict in run for run in counts.values())]
    st.dataframe(
        {"tokens": kinds} | {name: [run.get(v, 0) for v in kinds] for name, run in counts.items()},
        hide_index=True,
    )
