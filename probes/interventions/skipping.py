"""Which iterations matter: what each one's absence, or its doing its work twice, changes in the prediction (ANALYSES 32).

    skip i     in iteration i the Body's blocks add nothing; what the loop does around them, it does
    repeat i   iterations 0 … i, i, i+1 … r-1

The run goes on from the state before the change, never from the start. Where all iterations are one map that an idle Body
leaves the identity (AbbIE-C, std, PonderNet, repetition, damped), leaving any out is the run of depth r - 1, so all rows
are equal by construction; likewise of repeating, wherever iterations are one map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.halting import measures
from probes import decoding, running
from probes.class_means import ALL, class_means
from probes.control import fresh_weights
from probes.inputs import Inputs, prepare
from probes.labels import UNDEFINED, Label, get_label
from probes.progress import Callback, Progress
from probes.result import Result
from probes.tidy import tidy, with_control

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

METRICS = ("skip_kl", "skip_delta_nll", "repeat_kl", "repeat_delta_nll")


@dataclass(frozen=True, eq=False, kw_only=True)
class Skipping(Result):
    """What skipping, and repeating, each iteration changes. Rows are iterations i; undefined values are NaN."""

    title: ClassVar[str] = "Which iterations matter"
    formula: ClassVar[str] = (
        "KL(p ‖ p without iteration i), and NLL without it less NLL, in nats; p: the whole run’s"
    )

    report_views: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"view": "tokens"})

    valid: np.ndarray
    """[batch, pos] bool: tokens, not padding."""
    nll: np.ndarray
    """[batch, pos] of the next token in nats, in the whole run; NaN without a next token."""
    skip_kl: np.ndarray
    """[iteration, batch, pos] in nats."""
    skip_delta_nll: np.ndarray
    """[iteration, batch, pos] in nats; above 0: the iteration helped."""
    repeat_kl: np.ndarray
    """[iteration, batch, pos] in nats."""
    repeat_delta_nll: np.ndarray
    """[iteration, batch, pos] in nats."""
    label: str
    """What the classes are of (`probes.labels`)."""
    classes: tuple[str, ...]
    """All tokens, then the label's classes."""
    token_classes: np.ndarray
    """[batch, pos] number of the token's class among the label's; -1 for none."""
    means: dict[str, np.ndarray]
    """By metric: [iteration, class, 3] mean and ends of its 95% interval over the sequences, NaN for one alone."""
    diverged: dict[str, np.ndarray]
    """By metric: [iteration] share of tokens whose prediction is lost."""
    control: Skipping | None
    """The same for fresh weights of the same architecture; None if not asked for."""

    def per_token(self) -> dict[str, np.ndarray]:
        """[iteration, batch, pos] by metric."""
        return {name: getattr(self, name) for name in METRICS}

    def alike(self, done: str) -> bool:
        """Whether `skip` or `repeat` changes the same whichever iteration it is, to rounding: then rows tell nothing apart."""
        kl = getattr(self, f"{done}_kl")
        if len(kl) < 2 or not np.isfinite(kl).any():
            return False
        apart = np.nanmax(np.abs(kl - kl[:1]))
        return bool(apart <= 1e-3 * np.nanmax(kl) + 1e-6)

    def to_frame(self) -> pd.DataFrame:
        """One row per metric, iteration and class: mean and interval; `weights` tells the control apart."""
        import pandas as pd

        k, c = np.indices((self.n_iters, len(self.classes))).reshape(2, -1)
        parts = []
        for name, mean in self.means.items():
            columns = dict(zip(("mean", "low", "high"), mean.reshape(-1, 3).T, strict=True))
            index = {"metric": name, "iteration": k, "class": np.array(self.classes, object)[c]}
            parts.append(pd.DataFrame({**index, **columns}))
        return with_control(pd.concat(parts, ignore_index=True), self.control)

    def token_frame(self) -> pd.DataFrame:
        """One row per token and iteration: the numbers of `per_token`, and the token's class."""
        names = np.array(["", *self.classes[1:]], object)[self.token_classes + 1]
        return tidy(self.tokens, {"class": names, **self.per_token()}, valid=self.valid)

    def figure(self, *, theme: str = "light", view: str = "classes", **options: Any) -> go.Figure:
        """`view="classes"`: means by class (`metric=` "kl" or "delta_nll"); `"tokens"`: token × iteration (`metric=` of METRICS)."""
        from probes.figures import skipping as figures

        return figures.draw(self, view=view, theme=theme, **options)


def skip_iterations(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    label: str | Label = "next_class",
    control: bool = True,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> Skipping:
    """Skip, and repeat, every iteration in turn; the change in prediction by token and by class of tokens.

    Several texts are documents: intervals are over them. `label` names the classes (`probes.labels`), by default
    those of the token that is predicted. `seed` draws the control's weights and the bootstrap; `progress` counts
    iterations that are run. Errors: InputError for bad input; DepthError.
    """
    wanted = get_label(label)
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask, least=1)
    steps = Progress((1 + control) * (n_iters + 2) * (n_iters + 1), progress)
    beside = (
        _run(fresh_weights(model, seed), inputs, wanted, None, seed, steps) if control else None
    )
    return _run(model, inputs, wanted, beside, seed, steps)


def _run(
    model: Any, inputs: Inputs, label: Label, control: Skipping | None, seed: int, steps: Progress
) -> Skipping:
    states = []
    for state in running.states(model, inputs):
        states.append(state)
        steps.step()
    with torch.no_grad():
        whole = model.readout(states[-1])
    following = decoding.next_tokens(inputs.tokens, inputs.mask)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    nll = None
    for name, state in _changed(model, states, steps):
        with torch.no_grad():
            logits = model.readout(state)
        found = _compare(whole, logits, following)
        nll = found["nll"]
        for metric in ("kl", "delta_nll"):
            rows[f"{name}_{metric}"].append(found[metric])
    assert nll is not None
    blank = lambda x: np.where(inputs.valid, x, np.nan)  # noqa: E731
    values = {name: blank(np.stack(found)) for name, found in rows.items()}
    classes = np.stack(
        [_classes(label, *row) for row in zip(inputs.str_tokens, inputs.valid, strict=True)]
    )
    asked = {"kl": inputs.valid, "delta_nll": inputs.valid & np.isfinite(blank(nll))}
    return Skipping(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=inputs.n_iters,
        valid=inputs.valid,
        nll=blank(nll),
        label=label.name,
        classes=(ALL, *label.classes),
        token_classes=classes,
        means={n: class_means(x, classes, len(label.classes), seed) for n, x in values.items()},
        diverged={n: _lost(x, asked[n.partition("_")[2]]) for n, x in values.items()},
        control=control,
        **values,
    )


def _changed(model: Any, states: list[Any], steps: Progress) -> Iterator[tuple[str, Any]]:
    """("skip" or "repeat", the State at the end) of every iteration in turn."""
    r = len(states) - 1
    for i in range(r):
        again = _step(model, states[i + 1].replace(k=i))
        for name, state in (("skip", idle(model, states[i])), ("repeat", again)):
            steps.step()
            while state.k < r:
                state = _step(model, state)
                steps.step()
            yield name, state


def idle(model: Any, state: Any) -> Any:
    """The State after an iteration in which every block of the Body hands on what it reads."""
    read: dict[str, Tensor] = {}

    def before(x: Tensor, hook: Any) -> None:
        read[hook.name] = x

    def after(x: Tensor, hook: Any) -> Tensor:
        return read[hook.name.replace("resid_post", "resid_pre")]

    stages = [("hook_resid_pre", before), ("hook_resid_post", after)]
    hooks = [(site, fn) for name, fn in stages for site in running.body_sites(model, name)]
    with model.hooks(fwd_hooks=hooks):
        return _step(model, state)


def _step(model: Any, state: Any) -> Any:
    with torch.no_grad():
        return model.step(state)


def _compare(whole: Tensor, changed: Tensor, following: Tensor) -> dict[str, np.ndarray]:
    """[batch, pos] of `nll`, `delta_nll` and `kl` from logits [batch, pos, d_vocab], some rows at a time."""
    shape, n_vocab = whole.shape[:-1], whole.shape[-1]
    parts: dict[str, list[Tensor]] = {"nll": [], "delta_nll": [], "kl": []}
    p, q, after = whole.reshape(-1, n_vocab), changed.reshape(-1, n_vocab), following.reshape(-1)
    for rows in decoding.row_chunks(len(p), n_vocab):
        log_p, log_q = (x[rows].float().log_softmax(-1) for x in (p, q))
        nll = decoding.nll(log_p, after[rows])
        parts["nll"].append(nll)
        parts["delta_nll"].append(decoding.nll(log_q, after[rows]) - nll)
        parts["kl"].append(measures.kl_divergence(log_p, log_q))
    return {name: torch.cat(x).view(shape).double().cpu().numpy() for name, x in parts.items()}


def _classes(label: Label, tokens: tuple[str, ...], valid: np.ndarray) -> np.ndarray:
    """[pos] class of each token of one sequence; -1 for padding."""
    found = np.full(len(tokens), UNDEFINED)
    found[valid] = label([token for token, real in zip(tokens, valid, strict=True) if real])
    return found


def _lost(values: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """[iteration] share of the tokens asked for whose value is not finite."""
    n = asked.sum()
    return np.where(n > 0, (~np.isfinite(values) & asked).sum((1, 2)) / max(int(n), 1), np.nan)
