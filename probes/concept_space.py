"""Where a text's tokens leave the states, and where the next ones enter (ANALYSES 31): de- and re-tokenisation.

    current   rank of the token itself among cos(x, E_v), E the token embeddings
    next      rank and log-probability of the next token in softmax(U N(x)), final norm and unembedding

x: the embedding, the stream after every Head block, every z_k, the stream after every Tail block of z_r. Both readings ask
with fixed directions and train nothing: what they do not find may still be there in another form, which a probe may read
(`probes.concept_probes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting import measures
from probes import decoding, running
from probes.class_means import class_means
from probes.control import fresh_weights
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress
from probes.result import Result
from probes.tidy import with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MEASURES = ("current_rank", "next_rank", "next_log_probability")


@dataclass(frozen=True, eq=False, kw_only=True)
class ConceptSpace(Result):
    """Ranks, from 1, of the current and the next token at every place of a pass. Undefined values are NaN.

    The first place is the token embedding alone: the baseline of both.
    """

    title: ClassVar[str] = "Into concept space and out of it"
    formula: ClassVar[str] = (
        "current: rank of the token in cos(x, E); next: rank of the next token in U N(x)"
    )

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "tokens"})

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    places: tuple[str, ...]
    """[place] `embed`, `head.{b}`, `z@{k}`, `tail.{b}`, in the order of the pass."""
    stage: tuple[str, ...]
    """[place] embed, head, loop or tail."""
    current_rank: np.ndarray
    """[place, batch, pos] 1 + how many tokens' embeddings are nearer in angle."""
    next_rank: np.ndarray
    """[place, batch, pos] 1 + how many tokens are more probable; NaN without a next token."""
    next_log_probability: np.ndarray
    """[place, batch, pos] in nats."""
    found: dict[str, np.ndarray]
    """`current`, `next`: [place, 3] share of tokens at rank 1, and its 95% interval over sequences; NaN for one alone."""
    n_vocab: int
    """Ranks go up to here; a random token's mean rank is half of it."""
    control: ConceptSpace | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    def median_rank(self, name: str) -> np.ndarray:
        """[place, 3] quartiles over tokens of `current` or `next`. Errors: InputError."""
        if name not in ("current", "next"):
            raise InputError(f"name={name!r}: expected 'current' or 'next'.")
        ranks = getattr(self, f"{name}_rank").reshape(len(self.places), -1)
        there = [row[np.isfinite(row)] for row in ranks]
        levels = [0.25, 0.5, 0.75]
        return np.array([np.quantile(x, levels) if len(x) else [np.nan] * 3 for x in there])

    def per_token(self) -> dict[str, np.ndarray]:
        """[place, batch, pos] of log2 of the ranks, whose means say more than the ranks', and of the log-probability."""
        logs = {f"log2_{name}": np.log2(getattr(self, name)) for name in MEASURES[:2]}
        return logs | {"next_log_probability": self.next_log_probability}

    def to_frame(self) -> pd.DataFrame:
        """One row per token and place: `weights` tells the control apart."""
        import pandas as pd

        batch, pos = np.nonzero(self.valid)
        n = len(self.places)
        names = [self.tokens[b][p] for b, p in zip(batch, pos, strict=True)]
        frame = pd.DataFrame(
            {
                "batch": np.repeat(batch, n),
                "position": np.repeat(pos, n),
                "token": np.repeat(np.array(names, object), n),
                "place": np.tile(np.array(self.places, object), len(batch)),
                "stage": np.tile(np.array(self.stage, object), len(batch)),
                **{name: getattr(self, name)[:, batch, pos].T.reshape(-1) for name in MEASURES},
            }
        )
        return with_control(frame, self.control)

    def figure(self, *, theme: str = "light", view: str = "ranks", **options: Any) -> go.Figure:
        """`view="ranks"`: quartiles against the place; `"found"`: share at rank 1; `"tokens"`: token × place (`of=`)."""
        from probes.figures import concept_space as figures

        return figures.draw(self, view=view, theme=theme, **options)


def entry_and_exit(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> ConceptSpace:
    """Rank of the current and of the next token at every place from the embedding to the last Tail block.

    Several texts are documents: intervals are over them. `seed` draws the control's weights; `progress` counts places.
    Errors: InputError for bad input, and for a model whose Head or Tail has no sites; DepthError.
    """
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask)
    n_places = 1 + len(model.head) + n_iters + 1 + len(model.tail)
    steps = Progress((1 + control) * n_places, progress)
    beside = _run(fresh_weights(model, seed), inputs, None, seed, steps) if control else None
    return _run(model, inputs, beside, seed, steps)


def _run(
    model: Any, inputs: Inputs, control: ConceptSpace | None, seed: int, steps: Progress
) -> ConceptSpace:
    following = decoding.next_tokens(inputs.tokens, inputs.mask)
    places: list[tuple[str, str]] = []
    rows: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    for stage, name, x in _places(model, inputs):
        places.append((stage, name))
        values = _read(model, x, inputs.tokens, following)
        for measure, row in zip(MEASURES, values, strict=True):
            rows[measure].append(np.where(inputs.valid, row.double().cpu().numpy(), np.nan))
        steps.step()
    found = {name: np.stack(row) for name, row in rows.items()}
    none = np.full(inputs.valid.shape, -1)
    first = lambda ranks: np.where(np.isnan(ranks), np.nan, ranks == 1)  # noqa: E731
    return ConceptSpace(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        places=tuple(name for _, name in places),
        stage=tuple(stage for stage, _ in places),
        found={
            name: class_means(first(found[f"{name}_rank"]), none, 0, seed)[:, 0]
            for name in ("current", "next")
        },
        n_vocab=model.cfg.d_vocab,
        control=control,
        **found,
    )


def _places(model: Any, inputs: Inputs) -> Iterator[tuple[str, str, Tensor]]:
    """(stage, name, x [batch, pos, d_model]) in the order of the pass, one at a time but for those of Head and Tail."""
    heads, tails = (
        [f"{s}.{b}.hook_resid_post" for b in range(len(getattr(model, s)))]
        for s in ("head", "tail")
    )
    state = None
    for state, fired in running.watched(model, inputs, ["embed.hook_out", *heads]):
        if state.k == 0:
            yield "embed", "embed", fired["embed.hook_out"]
            for b, site in enumerate(heads):
                yield "head", f"head.{b}", fired[site]
        yield "loop", f"z@{state.k}", state.z
    seen: dict[str, Tensor] = {}
    hooks = [(site, _keeper(seen, site)) for site in tails]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        model.readout(state)
    for b, site in enumerate(tails):
        yield "tail", f"tail.{b}", seen[site]


def _keeper(seen: dict[str, Tensor], site: str) -> Callable[..., None]:
    return lambda tensor, hook: seen.__setitem__(site, tensor)


def _read(model: Any, x: Tensor, current: Tensor, following: Tensor) -> tuple[Tensor, ...]:
    """[batch, pos] of every measure at one place, some rows of the vocabulary at a time."""
    shape, e = x.shape[:-1], model.embed.weight
    # Angles, so that a norm of 2^k overflows nothing and an embedding's length counts nothing.
    units = measures.unit(e).to(e.dtype)
    nowhere = units.isnan().any(
        -1
    )  # an embedding of zeros, as of a padding token, has no direction
    units = units.masked_fill(nowhere[:, None], 0)
    flat, of = x.reshape(-1, x.shape[-1]), measures.unit(x.reshape(-1, x.shape[-1])).to(e.dtype)
    current, following = current.reshape(-1), following.reshape(-1)
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for rows in decoding.row_chunks(len(flat), len(e)):
            nearness = (of[rows] @ units.T).masked_fill(nowhere, -torch.inf)
            own = current[rows]
            log_p = model.unembed.plain(running.normed(model, flat[rows])).float().log_softmax(-1)
            after = following[rows]
            parts.append(
                (
                    decoding.rank(nearness, own.masked_fill(nowhere[own], -1)),
                    decoding.rank(log_p, after),
                    -decoding.nll(log_p, after),
                )
            )
    return tuple(torch.cat(column).view(shape) for column in zip(*parts, strict=True))
