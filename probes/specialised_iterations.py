"""What each iteration is for, side by side (ANALYSES 32): how far it attends, what it makes readable, what is lost without it.

span       mean over a head's queries t of sum_s A_ts (t - s), in tokens
accuracy   of a linear probe for a label, on the state that the iteration hands on
effect     KL of the prediction to that of a run in which the iteration is skipped
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import wide
from probes import numerics, running
from probes.control import fresh_weights
from probes.dynamics.patterns import Layout
from probes.inputs import Inputs, prepare
from probes.interventions.skipping import Skipping, skip_iterations
from probes.labels import Label
from probes.probing.linear import linear
from probes.probing.result import LinearProbes
from probes.progress import Callback, Progress
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class Specialisation(Result):
    """Attention span, probe accuracy and effect of skipping by iteration. Undefined values are NaN."""

    title: ClassVar[str] = "What each iteration is for"
    formula: ClassVar[str] = (
        "span: Σₛ Aₜₛ (t − s), mean over queries; accuracy of a linear probe; KL(p ‖ p without it)"
    )

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    sites: tuple[str, ...]
    """[block] where patterns were read."""
    span: np.ndarray
    """[iteration, block, head] in tokens."""
    random_span: np.ndarray
    """[iteration, block, head] of fresh weights of the same architecture."""
    even_span: float
    """That of attention spread evenly over all keys, in tokens."""
    token_span: np.ndarray
    """[iteration, batch, pos] mean over blocks and heads."""
    skipping: Skipping
    """With its control."""
    probes: LinearProbes | None
    """Of the states h_k, with its baselines; None if no label was asked for."""

    @property
    def accuracy(self) -> np.ndarray:
        """[iteration, 3] of the probe on h_{i+1}, and its interval; NaN without probes."""
        return self._probe("trained")

    def span_quantiles(self, weights: str = "trained") -> np.ndarray:
        """[iteration, 3] median, 10 % and 90 % over heads, of `trained` or `random` weights; NaN where a head is undefined."""
        spans = {"trained": self.span, "random": self.random_span}[weights]
        return np.quantile(spans.reshape(len(spans), -1), [0.5, 0.1, 0.9], axis=1).T

    def _probe(self, condition: str) -> np.ndarray:
        if self.probes is None:
            return np.full((self.n_iters, 3), np.nan)
        return getattr(self.probes, condition)[0, 1 : self.n_iters + 1]

    def per_token(self) -> dict[str, np.ndarray]:
        """[iteration, batch, pos] of the span and of what `Skipping` has by token."""
        return {"span": self.token_span, **self.skipping.per_token()}

    def to_frame(self) -> pd.DataFrame:
        """One row per measure, iteration and class, block-and-head or condition: value and interval."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = []
        for weights, spans in (("trained", self.span), ("random", self.random_span)):
            for (k, b, h), value in np.ndenumerate(spans):
                head = f"{self.sites[b].partition('.attn')[0]} head {h}"
                rows.append(("span", weights, k, head, value, np.nan, np.nan))
        for condition, weights in (
            ("trained", "trained"),
            ("untrained", "random"),
            ("shuffled", "trained"),
        ):
            name = "accuracy" + (", shuffled labels" if condition == "shuffled" else "")
            for k, values in enumerate(self._probe(condition)):
                if self.probes is not None:
                    rows.append((name, weights, k, self.probes.label, *values))
        frame = pd.DataFrame(
            rows, columns=["measure", "weights", "iteration", "of", "value", "low", "high"]
        )
        effect = self.skipping.to_frame().rename(
            columns={"metric": "measure", "class": "of", "mean": "value"}
        )
        return pd.concat([frame, pd.DataFrame(effect[list(frame.columns)])], ignore_index=True)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Span, probe accuracy where there is one, and effect of skipping, one above the other."""
        from probes.figures import specialisation as figures

        return figures.draw(self, theme=theme)


def specialisation(
    model: Any,
    texts: str | Sequence[str] | Any,
    n_iters: int = 16,
    *,
    classes: str | Label = "next_class",
    probe: str | Label | None = None,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> Specialisation:
    """How far each iteration attends, what a probe reads after it, and what is lost without it.

    `classes` of tokens for the effect of skipping; `probe`: a label to read from the states, which needs four texts or
    more, as `probes.linear` does. `seed` draws the controls; `progress` counts iterations run, but for those of probes.
    Errors: InputError for bad input, and for a Body whose rows are not the tokens (SpiralFormer, PonderLM-2).
    """
    inputs = prepare(model, texts, n_iters, attention_mask, least=1)
    sites = running.body_sites(model, "attn.hook_pattern")
    if probe is not None and not (isinstance(texts, list | tuple) and isinstance(texts[0], str)):
        raise InputError(
            f"probe={probe!r}: probes need a list of texts, to split them by document."
        )
    n_skips = 2 * (n_iters + 2) * (n_iters + 1)
    steps = Progress(2 * (n_iters + 1) + n_skips, progress)
    span, by_token = _spans(model, inputs, sites, steps)
    random, _ = _spans(fresh_weights(model, seed), inputs, sites, steps)
    skipping = skip_iterations(
        model, inputs.tokens, n_iters, label=classes, attention_mask=inputs.mask, seed=seed,
        progress=lambda done, total: progress is None or progress(steps.done + done, steps.total),
    )  # fmt: skip
    fitted = (
        None
        if probe is None
        else linear(model, list(texts), label=probe, n_iters=n_iters, seed=seed)
    )
    ranks = (np.cumsum(inputs.valid, 1) - 1)[inputs.valid]
    return Specialisation(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        valid=inputs.valid,
        sites=sites,
        span=span,
        random_span=random,
        even_span=float(ranks[ranks > 0].mean() / 2) if (ranks > 0).any() else float("nan"),
        token_span=by_token,
        skipping=skipping,
        probes=fitted,
    )


def _spans(
    model: Any, inputs: Inputs, sites: tuple[str, ...], steps: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """[iteration, block, head] and [iteration, batch, pos], a pattern at a time; the first token, which has no choice, left out."""
    layout = Layout.of(torch.as_tensor(inputs.valid, device=model.device))
    apart = wide(layout.rank[:, :, None] - layout.rank[:, None, :])
    asked = layout.valid & (layout.rank >= 1)
    by_head: list[np.ndarray] = []
    by_token: list[np.ndarray] = []
    n = inputs.valid.shape[1]
    for state, fired in running.watched(model, inputs, sites):
        steps.step()
        if not fired or state.k == 0:
            continue
        for site in sites:
            if site not in fired or fired[site].shape[-2:] != (n, n):
                raise InputError(
                    f"model: {site} is not of the tokens, so there is no distance to attend over."
                )
        # [block, batch, head, query]
        found = torch.stack([(wide(fired[site]) * apart[:, None]).sum(-1) for site in sites])
        values = numerics.host(found.where(asked[:, None], float("nan")))
        by_head.append(_mean(values, (1, 3)))
        by_token.append(_mean(values, (0, 2)))
    return np.stack(by_head), np.stack(by_token)


def _mean(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    there = np.isfinite(values)
    n = there.sum(axes)
    return np.where(n > 0, np.where(there, values, 0).sum(axes) / np.maximum(n, 1), np.nan)
