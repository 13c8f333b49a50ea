"""Lenses: what the model would predict if it stopped after k iterations (ANALYSES 1–3).

    kind="tail"    softmax(readout(z_k))     the model's own Tail, norm and unembedding
    kind="logit"   softmax(U N(z_k))         final norm and unembedding only: it skips the Tail

At k = r the tail lens is the model's prediction. The logit lens never is where there is a Tail: z_k has
not been through it. Both compare with the same reference, the model's own prediction at depth r.
Distributions are reduced iteration by iteration and never held for all iterations at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting import measures
from probes import decoding, running
from probes.inputs import prepare
from probes.lens_targets import random_controls, target_ids
from probes.result import Result
from probes.tidy import tidy

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

KINDS = {
    "tail": ("Tail lens", "p_k = softmax(Tail(z_k)), the model's own read-out after k iterations"),
    "logit": ("Logit lens (skips the Tail)", "p_k = softmax(U N(z_k)), final norm and unembedding"),
}
CELLS = ("entropy", "nll", "target_rank", "final_rank", "random_rank", "kl_to_final")


@dataclass(frozen=True, eq=False, kw_only=True)
class Lens(Result):
    """Predictions of every token after every k = 0…r. Ranks count from 1; undefined values are NaN.

    A rank is 1 + the number of tokens with a strictly larger logit.
    """

    title = "Lens"
    formula = "tail: p_k = softmax(Tail(z_k)); logit: p_k = softmax(U N(z_k)); KL(p_r ‖ p_k)"

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "ranks"})

    kind: str
    """"tail" or "logit"."""
    top_ids: np.ndarray
    """[k, batch, pos, rank] token ids, most probable first; -1 where diverged."""
    top_probabilities: np.ndarray
    """[k, batch, pos, rank] their probabilities."""
    entropy: np.ndarray
    """[k, batch, pos] entropy of p_k in nats."""
    nll: np.ndarray
    """[k, batch, pos] -log p_k(next token) in nats; NaN without a next token."""
    target_rank: np.ndarray
    """[k, batch, pos] rank of the target: the next token unless another was given."""
    final_rank: np.ndarray
    """[k, batch, pos] rank of the token that the model predicts at depth r."""
    random_rank: np.ndarray
    """[k, batch, pos] rank of a token drawn at random for the position: the control."""
    kl_to_final: np.ndarray
    """[k, batch, pos] KL(p_r ‖ p_k) in nats, p_r the model's prediction at depth r."""
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
    def diverged_at(self) -> np.ndarray:
        """[batch, pos] first k whose prediction is NaN; -1 if none."""
        bad = np.isnan(self.entropy) & self.valid
        return np.where(bad.any(0), bad.argmax(0), -1)

    @property
    def label(self) -> str:
        """Name of the lens; the logit lens says that it skips the Tail."""
        return KINDS[self.kind][0]

    def rank_quartiles(self, field: str, batch: int = 0) -> np.ndarray:
        """[k, 3] quartiles of a rank (`target_rank`, `final_rank`, `random_rank`) over positions."""
        ranks = getattr(self, field)[:, batch]
        defined = ~np.isnan(ranks)
        return np.array(
            [
                np.quantile(row[there], [0.25, 0.5, 0.75]) if there.any() else [np.nan] * 3
                for row, there in zip(ranks, defined, strict=True)
            ]
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per real token and k: every value, the top tokens and their probabilities."""
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
        return tidy(self.tokens, columns, valid=self.valid).assign(kind=self.kind)

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
        """`view="grid"`: token × iteration, coloured by `metric` ("probability", "entropy", "nll",
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


def lens(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    kind: Literal["tail", "logit"] = "tail",
    top_k: int = 5,
    targets: str | int | Sequence[Sequence[int]] | Tensor | None = None,
    attention_mask: Any = None,
    seed: int = 0,
) -> Lens:
    """What `model` would predict after every k = 0…r, token by token.

    targets: the token whose rank is followed: the next token (None), one token for all positions (its
    string or id), or ids [batch, pos] with -1 for none. seed: of the random-token control.
    Errors: InputError for an unknown kind, a target that is no single token, or bad input.
    Source: logit lens (nostalgebraist 2020), coda lens (arXiv 2507.02199).
    """
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask)
    with torch.no_grad():
        states = list(running.states(model, inputs))
        final_logits = model.readout(states[-1])
        n_vocab = final_logits.shape[-1]
        if not 1 <= top_k <= n_vocab:
            raise InputError(f"top_k={top_k}: expected 1 to {n_vocab}, the size of the vocabulary.")
        following = decoding.next_tokens(inputs.tokens, inputs.mask)
        wanted, target_name = target_ids(model, targets, following, n_vocab)
        random = random_controls(wanted, n_vocab, seed)
        final = decoding.top_token(final_logits)
        rows = []
        for state in states:
            whole = kind == "tail" and state.k == n_iters
            logits = final_logits if whole else decoding.lens_logits(model, state, kind)
            rows.append(_reduce(logits, final_logits, following, wanted, final, random, top_k))
            del logits
    valid = inputs.valid
    stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    blank = lambda x, fill: np.where(valid.reshape(valid.shape + (1,) * (x.ndim - 3)), x, fill)  # noqa: E731
    top_ids = blank(stacked.pop("top_ids"), -1)
    ids = {"target_ids": wanted, "final_ids": final, "random_ids": random}
    ids = {name: np.where(valid, tensor.cpu().numpy(), -1) for name, tensor in ids.items()}
    present = np.unique(np.concatenate([top_ids.ravel(), *(x.ravel() for x in ids.values())]))
    present = present[present >= 0]
    strings = model.to_str_tokens(torch.as_tensor(present))
    return Lens(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        kind=kind,
        top_ids=top_ids,
        **{name: blank(x, np.nan) for name, x in stacked.items()},
        **ids,
        target_name=target_name,
        valid=valid,
        vocabulary={str(i): s for i, s in zip(present.tolist(), strings, strict=True)},
    )


def _reduce(
    logits: Tensor,
    final_logits: Tensor,
    following: Tensor,
    target: Tensor,
    final: Tensor,
    random: Tensor,
    top_k: int,
) -> dict[str, np.ndarray]:
    """All fields of one iteration, from logits [batch, pos, d_vocab], a bounded number of rows at a time."""
    shape, n_vocab = logits.shape[:-1], logits.shape[-1]
    flat = [x.reshape(-1, n_vocab) for x in (logits, final_logits)]
    wanted = [x.reshape(-1) for x in (following, target, final, random)]
    parts: list[dict[str, Tensor]] = []
    for rows in decoding.row_chunks(len(flat[0]), n_vocab):
        log_p, log_r = (x[rows].float().log_softmax(-1) for x in flat)
        following_, target_, final_, random_ = (x[rows] for x in wanted)
        top = log_p.topk(top_k)
        broken = log_p.isnan().any(-1, keepdim=True)
        parts.append(
            {
                "top_ids": top.indices.masked_fill(broken, -1),
                "top_probabilities": top.values.exp().masked_fill(broken, float("nan")),
                "entropy": measures.entropy(log_p),
                "nll": decoding.nll(log_p, following_),
                "target_rank": decoding.rank(log_p, target_),
                "final_rank": decoding.rank(log_p, final_),
                "random_rank": decoding.rank(log_p, random_),
                "kl_to_final": measures.kl_divergence(log_r, log_p),
            }
        )
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    arrays = {name: x.reshape(*shape, *x.shape[1:]).cpu() for name, x in joined.items()}
    return {n: (x if n == "top_ids" else x.double()).numpy() for n, x in arrays.items()}
