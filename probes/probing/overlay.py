"""Fitted probes laid over a prompt: what they say of each token, iteration by iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from abbie_lens.errors import InputError
from probes.inputs import prepare
from probes.probing.features import vectors
from probes.probing.targets import Kind
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from probes.probing.stored import FittedProbes


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeOverlay(Result):
    """What linear probes say of every token of a prompt at one site; NaN on padding and where none was fitted."""

    title = "Probes over a prompt"
    formula = "p = softmax(W_k s_k + b_k), s_k = state standardised as in training, a probe of its own for each k"

    label: str
    description: str
    kind: Kind
    classes: tuple[str, ...]
    site: str
    outputs: np.ndarray
    """[k, batch, pos, class] probabilities of classes or labels; numbers for a label that is one."""

    @property
    def equation(self) -> str:
        """The formula of this kind of label, one line."""
        said = {
            "classes": self.formula.partition(",")[0],
            "multilabel": "p = σ(W_k s_k + b_k)",
            "regression": "ŷ = W_k s_k + b_k",
        }
        return f"{said[self.kind]},{self.formula.partition(',')[2]}"

    @property
    def said(self) -> np.ndarray:
        """[k, batch, pos] number of the most probable class, -1 where undefined. Errors: InputError for other kinds."""
        if self.kind != "classes":
            raise InputError(f"said: only labels with classes have one answer, not {self.kind}.")
        there = np.isfinite(self.outputs).all(-1)
        return np.where(there, np.nan_to_num(self.outputs, nan=-1.0).argmax(-1), -1)

    def to_frame(self) -> pd.DataFrame:
        """One row per iteration, token and class: probability, or value."""
        import pandas as pd

        k, batch, pos, c = (axis.ravel() for axis in np.indices(self.outputs.shape))
        tokens = np.array([list(row) for row in self.tokens], dtype=object)
        frame = pd.DataFrame(
            {
                "iteration": k,
                "batch": batch,
                "pos": pos,
                "token": tokens[batch, pos],
                "class": np.array(self.classes, dtype=object)[c],
                "value" if self.kind == "regression" else "probability": self.outputs.ravel(),
            }
        )
        frame.insert(0, "site", self.site)
        frame.insert(0, "label", self.label)
        return frame

    def figure(self, *, theme: str = "light", batch: int = 0, of: str | None = None) -> go.Figure:
        """Token × iteration: the predicted class by colour, or the probability of the class `of`.

        Errors: InputError for an unknown class or sequence.
        """
        from probes.figures import probe_overlay as figures

        return figures.draw(self, batch=batch, of=of, theme=theme)


def overlay(
    probes: FittedProbes,
    model: Any,
    text: Any,
    *,
    site: str | None = None,
    attention_mask: Any = None,
) -> ProbeOverlay:
    """Read `text` with the probes of `site` (the first if None).

    text: a text, texts, or token ids [pos] or [batch, pos].
    Errors: InputError for a site without probes, states of another width, or bad text.
    """
    sites: Sequence[str] = list(dict.fromkeys(a.partition("@")[0] for a in probes.probes))
    name = sites[0] if site is None and sites else site
    if name not in sites:
        raise InputError(f"site={site!r}: expected one of {', '.join(sites)}.")
    inputs = prepare(model, text, probes.n_iters, attention_mask)
    with torch.no_grad():
        _, cache = model.run_with_cache(
            inputs.tokens,
            n_iters=probes.n_iters,
            attention_mask=inputs.mask,
            names_filter=[name],
            return_type=None,
        )
    looped = bool(cache.iterations(name))
    stack = vectors(cache[name] if looped else cache[name][None], name, inputs.tokens.shape)
    states = stack.float().cpu().numpy()
    found = {f"{name}@{k}" if looped else name: k for k in range(len(states))}
    some = next(p for address, p in probes.probes.items() if address.partition("@")[0] == name)
    outputs = np.full((*states.shape[:3], len(some.classes)), np.nan)
    for address, k in found.items():
        probe = probes.probes.get(address)
        if probe is None:
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            read = probe.outputs if probe.kind == "regression" else probe.probabilities
            outputs[k] = read(states[k])
    outputs[:, ~inputs.valid] = np.nan
    outputs[~np.isfinite(outputs).all(-1)] = np.nan
    return ProbeOverlay(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=probes.n_iters,
        label=probes.label,
        description=probes.description,
        kind=some.kind,
        classes=some.classes,
        site=name,
        outputs=outputs,
    )
