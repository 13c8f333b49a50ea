"""Entry into concept space and exit by training (ANALYSES 31): which token this is, and the next, as linear probes read it.

Among the most frequent tokens of a text, at every place from the embedding to the last Tail block. `probes.concept_space`
asks the same of fixed directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes.labels import COUNTED
from probes.probing.linear import linear
from probes.probing.result import LinearProbes
from probes.progress import Callback
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

READ = ("current", "next")


@dataclass(frozen=True, eq=False, kw_only=True)
class ConceptProbes(Result):
    """Accuracy of linear probes for the current and the next token at every place of a pass."""

    title: ClassVar[str] = "Into concept space and out of it, by probes"
    formula: ClassVar[str] = (
        "accuracy on held-out documents of a linear probe: which of the most frequent tokens it is"
    )

    places: tuple[str, ...]
    """[place] `embed`, `head.{b}`, `z@{k}`, `tail.{b}`, in the order of the pass."""
    stage: tuple[str, ...]
    """[place] embed, head, loop or tail."""
    current: LinearProbes
    """Probes for the token itself, with their baselines."""
    following: LinearProbes
    """Probes for the next token."""

    def accuracy(self, which: str, condition: str = "trained") -> np.ndarray:
        """[place, 3] accuracy and its interval; `current` or `next`, `trained`, `untrained` or `shuffled`. Errors: InputError."""
        if which not in READ:
            raise InputError(f"which={which!r}: expected one of {', '.join(READ)}.")
        if condition not in ("trained", "untrained", "shuffled"):
            raise InputError(f"condition={condition!r}: expected trained, untrained or shuffled.")
        fitted = self.current if which == "current" else self.following
        values = getattr(fitted, condition)
        rows = np.maximum(fitted.rows, 1)
        return np.concatenate([site[:n] for site, n in zip(values, rows, strict=True)])

    def to_frame(self) -> pd.DataFrame:
        """One row per accuracy: label, condition, site and iteration, as of `LinearProbes`."""
        import pandas as pd

        return pd.concat([self.current.to_frame(), self.following.to_frame()], ignore_index=True)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Accuracy of both against the place, with random weights, the embedding's level and the most frequent token's."""
        from probes.figures import concept_space as figures

        return figures.probed(self, theme=theme)


def probe_entry_and_exit(
    model: Any,
    texts: str | Sequence[str] | None = None,
    n_iters: int = 8,
    *,
    n_tokens: int = 20,
    seed: int = 0,
    progress: Callback | None = None,
) -> ConceptProbes:
    """Fit probes for the current and for the next token at every place, with all baselines of `probes.linear`.

    texts: documents, or one text cut at form feeds or blank lines; the bundled sample if None. `n_tokens`: how many of
    the most frequent tokens are told apart; those in fewer than two documents are left out. Errors: those of `linear`, and
    InputError for n_tokens < 2.
    """
    if texts is None:
        from abbie_lens import zoo

        texts = zoo.sample_text()
    held = [texts] if isinstance(texts, str) else list(texts)
    counted = [model.to_str_tokens(text, prepend_bos=False) for text in held]
    fitted = []
    for i, which in enumerate(READ):
        fitted.append(
            linear(
                model,
                texts,
                label=COUNTED[f"{which}_token"].count(counted, n_tokens),
                sites=concept_sites(model),
                n_iters=n_iters,
                seed=seed,
                progress=None if progress is None else _part(progress, i),
            )
        )
    places = [
        *_places(model, "head"),
        *(f"z@{k}" for k in range(n_iters + 1)),
        *_places(model, "tail"),
    ]
    return ConceptProbes(
        model=model.info(),
        tokens=fitted[0].tokens,
        n_iters=n_iters,
        places=("embed", *places),
        stage=("embed", *("loop" if p.startswith("z@") else p.partition(".")[0] for p in places)),
        current=fitted[0],
        following=fitted[1],
    )


def _part(progress: Callback, i: int) -> Callback:
    """The i-th of equal parts of the work."""
    return lambda done, total: progress(i * total + done, len(READ) * total)


def _places(model: Any, stage: str) -> list[str]:
    return [f"{stage}.{b}" for b in range(len(getattr(model, stage)))]


def concept_sites(model: Any) -> tuple[str, ...]:
    """Sites of the same places, by bare name, for `probes.linear(sites=…)`."""
    stages = {stage: range(len(getattr(model, stage))) for stage in ("head", "tail")}
    posts = {s: [f"{s}.{b}.hook_resid_post" for b in bs] for s, bs in stages.items()}
    return ("embed.hook_out", *posts["head"], "loop.hook_readout", *posts["tail"])
