"""What a lens returns: predictions of every token, row by row, reduced to what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from probes.lenses.rows import READOUT, STREAM
from probes.result import Result
from probes.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

KINDS = {
    "tail": ("Tail lens", "p_k = softmax(Tail(z_k)), the model's own read-out after k iterations"),
    "logit": ("Logit lens (skips the Tail)", "p_k = softmax(U N(z_k)), final norm and unembedding"),
    "tuned": (
        "Tuned lens",
        "p_k = softmax(U N(z_k + A_k z_k + b_k)), A_k and b_k learnt to give the final prediction",
    ),
    "jacobian": (
        "Jacobian lens",
        "p_k = softmax(U N(J_k h_k)), J_k the mean effect of h_k on what the final norm reads",
    ),
}
CELLS = ("entropy", "nll", "target_rank", "final_rank", "random_rank", "kl_to_final")


@dataclass(frozen=True, eq=False, kw_only=True)
class Lens(Result):
    """Predictions of every token in every row: after k = 0…r iterations and, if asked for, after every block.

    A rank is 1 + the number of tokens with a strictly larger logit. Undefined values are NaN.
    """

    title = "Lens"
    formula = "; ".join(f"{name}: {how}" for name, (_, how) in KINDS.items()) + "; KL(p_r ‖ p_k)"

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "ranks"})

    kind: str
    """"tail", "logit", "tuned" or "jacobian"."""
    blocks: bool | str
    """False: rows of z_k alone; True: of the Body's blocks too; "all": of Head and Tail as well."""
    addresses: tuple[str, ...]
    """[row] where it was read, in the order in which it is computed."""
    iterations: np.ndarray
    """[row] k of z_k; the iteration in which a block of the Body runs; -1 for the Head's, r for the Tail's blocks."""
    fitted: str
    """How the matrices of a tuned or Jacobian lens were made, in a sentence; empty for the others."""
    top_ids: np.ndarray
    """[row, batch, pos, rank] token ids, most probable first; -1 where diverged."""
    top_probabilities: np.ndarray
    """[row, batch, pos, rank] their probabilities."""
    entropy: np.ndarray
    """[row, batch, pos] entropy of p_k in nats."""
    nll: np.ndarray
    """[row, batch, pos] -log p_k(next token) in nats; NaN without a next token."""
    target_rank: np.ndarray
    """[row, batch, pos] rank of the target: the next token unless another was given."""
    final_rank: np.ndarray
    """[row, batch, pos] rank of the token that the model predicts at depth r."""
    random_rank: np.ndarray
    """[row, batch, pos] rank of a token drawn at random for the position: the control."""
    kl_to_final: np.ndarray
    """[row, batch, pos] KL(p_r ‖ p_k) in nats, p_r the model's prediction at depth r."""
    target_ids: np.ndarray
    """[batch, pos] target token ids; -1 where there is none."""
    final_ids: np.ndarray
    """[batch, pos] the model's prediction at depth r; -1 where diverged."""
    random_ids: np.ndarray
    """[batch, pos] control token ids, uniform over the vocabulary without the target."""
    target_name: str
    """What the target is, e.g. "next token"."""
    valid: np.ndarray
    """[batch, pos] real tokens, not padding."""
    vocabulary: dict[str, str]
    """Token strings of every id that occurs above, by id as text."""

    def token(self, token_id: int) -> str:
        """The string of a token id that occurs in this result; empty for -1."""
        return "" if token_id < 0 else self.vocabulary[str(int(token_id))]

    @property
    def readouts(self) -> np.ndarray:
        """[r + 1] numbers of the rows that are z_k, not a block's output."""
        return np.array([i for i, a in enumerate(self.addresses) if a.startswith(READOUT)])

    @property
    def names(self) -> tuple[str, ...]:
        """[row] short names: "3" for z_3, "3 body.0" for a block in iteration 3, "head.0"."""
        return tuple(map(short_name, self.addresses))

    @property
    def depths(self) -> np.ndarray:
        """[row] where a row stands on the axis of iterations: z_k at k, blocks evenly between their neighbours."""
        k = {row: float(self.iterations[row]) for row in self.readouts.tolist()}
        before = np.array(
            [max([r for r in k if r < row], default=-1) for row in range(len(self.addresses))]
        )
        after = np.array(
            [min([r for r in k if r > row], default=-1) for row in range(len(self.addresses))]
        )
        low = np.array([k.get(int(r), -1.0) for r in before])
        end = np.where(after < 0, len(self.addresses), after)
        share = (np.arange(len(before)) - before) / (end - before)
        return np.array([k.get(row, low[row] + share[row]) for row in range(len(before))])

    @property
    def diverged_at(self) -> np.ndarray:
        """[batch, pos] first k whose prediction is NaN; -1 if none."""
        bad = np.isnan(self.entropy[self.readouts]) & self.valid
        return np.where(bad.any(0), bad.argmax(0), -1)

    @property
    def label(self) -> str:
        """Name of the lens; the logit lens says that it skips the Tail."""
        return KINDS[self.kind][0]

    def rank_quartiles(self, field: str, batch: int = 0) -> np.ndarray:
        """[row, 3] quartiles of a rank (`target_rank`, `final_rank`, `random_rank`) over positions."""
        ranks = getattr(self, field)[:, batch]
        defined = ~np.isnan(ranks)
        return np.array(
            [
                np.quantile(row[there], [0.25, 0.5, 0.75]) if there.any() else [np.nan] * 3
                for row, there in zip(ranks, defined, strict=True)
            ]
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per real token and row of the lens: every value, the top tokens and their probabilities.

        `block` is empty for z_k; `iteration` is k, missing for the Head's blocks.
        """
        names = np.vectorize(self.token, otypes=[object])
        columns: dict[str, np.ndarray] = {
            "target": names(self.target_ids),
            "final_prediction": names(self.final_ids),
            **{name: getattr(self, name) for name in CELLS},
        }
        for i in range(self.top_ids.shape[-1]):
            columns[f"top{i + 1}_id"] = self.top_ids[..., i]
            columns[f"top{i + 1}"] = names(self.top_ids[..., i])
            columns[f"top{i + 1}_probability"] = self.top_probabilities[..., i]
        frame = tidy(self.tokens, columns, valid=self.valid).assign(kind=self.kind)
        row = frame["iteration"].to_numpy()
        k = self.iterations[row]
        frame["iteration"] = k if k.min() >= 0 else np.where(k < 0, np.nan, k)
        blocks = ["" if name.isdigit() else name.split()[-1] for name in self.names]
        frame.insert(4, "block", np.array(blocks, dtype=object)[row])
        return frame

    def figure(
        self,
        *,
        theme: str = "light",
        view: Literal["grid", "ranks"] = "grid",
        metric: str = "probability",
        batch: int = 0,
        position: int | None = None,
        selectable: bool = False,
        width: int = 800,
    ) -> go.Figure:
        """`view="grid"`: token × row, coloured by `metric` ("probability", "entropy", "nll",
        "target_rank", "final_rank", "kl_to_final"), the top token in the cell.
        `view="ranks"`: rank trajectories with the random-token control, of one position or the median
        over all. `selectable` overlays invisible markers whose customdata is [k, position]; `width`
        is how wide it will be drawn, in pixels: cells too narrow for three characters show none."""
        from probes.figures import lens as figures

        if view == "ranks":
            return figures.ranks(self, batch=batch, position=position, theme=theme)
        return figures.grid(
            self, metric=metric, batch=batch, selectable=selectable, width=width, theme=theme
        )


def short_name(address: str) -> str:
    """ "3" for loop.hook_readout@3, "3 body.0" for body.0.hook_resid_post@3, "head.0" for head.0.hook_resid_post."""
    site, _, k = address.partition("@")
    return k if site == READOUT else f"{k} {site.removesuffix('.' + STREAM)}".strip()
