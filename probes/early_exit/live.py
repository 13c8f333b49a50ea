"""One rule run for real on one text: milliseconds beside the FLOPs that the formula predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from abbie_lens.flops import count_flops
from abbie_lens.halting import HaltingPolicy
from abbie_lens.halting.flops import halted_flops
from abbie_lens.halting.run import halted
from probes import exits
from probes.early_exit.costs import median_milliseconds
from probes.early_exit.kv import kv_sharing
from probes.early_exit.live_points import mean_nll
from probes.inputs import prepare
from probes.progress import Callback
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False, kw_only=True)
class LiveRun(Result):
    """What a halted run took here, beside full depth without a rule."""

    title: ClassVar[str] = "A halted run, measured"
    formula: ClassVar[str] = "speed-up = full depth / halted, both medians after a warm-up run"

    rule: dict[str, Any]
    kv: str
    """Whose keys halted tokens serve."""
    milliseconds: float
    milliseconds_full: float
    flops: float
    """Of the halted run, the rule's own read-outs counted."""
    flops_full: float
    exit_step: np.ndarray
    """[batch, pos] iterations that each token took; -1 for padding."""
    nll: float
    """Mean NLL of the next token in the halted run, nats; NaN for a text of one token."""
    nll_full: float
    """The same at full depth."""
    kv_error: float
    """Mean KL of the halted run from the same exits with all keys, nats (`probes.kv_sharing`)."""
    n_copies: int
    """How often the text was laid side by side, so that there is something to measure."""

    @property
    def speedup(self) -> float:
        """Measured."""
        return self.milliseconds_full / self.milliseconds

    @property
    def predicted(self) -> float:
        """By FLOPs."""
        return self.flops_full / self.flops

    def sentence(self) -> str:
        """Both, and what their difference means."""
        mean = exits.mean_or_nan(self.exit_step[self.exit_step >= 0])
        return (
            f"Measured {self.speedup:.2f} times as fast as full depth, {self.predicted:.2f} times by FLOPs, at {mean:.2f} of "
            f"{self.n_iters} iterations per token ({self.milliseconds:.1f} against {self.milliseconds_full:.1f} ms for "
            f"{self.n_copies} copies of the text). The NLL of that run is {self.nll:.3f} nats, {self.nll_full:.3f} at full depth; "
            f"serving fewer keys moves its predictions by {self.kv_error:.2g} nats (KL) on average."
        )

    def to_frame(self) -> pd.DataFrame:
        """One row for each of the two runs."""
        import pandas as pd

        return pd.DataFrame(
            {
                "run": ["halted", "full depth"],
                "milliseconds": [self.milliseconds, self.milliseconds_full],
                "flops": [self.flops, self.flops_full],
                "nll": [self.nll, self.nll_full],
                "kv_error": [self.kv_error, 0.0],
            }
        )

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Time and FLOPs of the halted run, as shares of full depth."""
        from probes.figures import halting_text as figures

        return figures.live(self, theme=theme)


def live_run(
    model: Any, text_or_tokens: Any, n_iters: int, policy: HaltingPolicy, *, kv: str = "reuse",
    copies: int = 8, progress: Callback | None = None,
) -> LiveRun:  # fmt: skip
    """Run `model` on `copies` of the text with and without `policy`, and time both.

    Errors: InputError for a model or family that cannot halt, a rule that stops tokens before they have keys; DivergedError.
    """
    tell = progress or (lambda done, total: None)
    inputs = prepare(model, text_or_tokens, n_iters, least=1)
    tokens = inputs.tokens.repeat(copies, 1)
    mask = None if inputs.mask is None else inputs.mask.repeat(copies, 1)
    tell(0, 4)
    run = halted(model, tokens, n_iters, policy, kv, attention_mask=mask)
    tell(1, 4)
    fast = median_milliseconds(
        lambda: model(tokens, n_iters=n_iters, attention_mask=mask, halting=policy, kv=kv),
        model.device,
    )
    tell(2, 4)
    full = median_milliseconds(
        lambda: model(tokens, n_iters=n_iters, attention_mask=mask), model.device
    )
    tell(3, 4)
    sharing = kv_sharing(
        model, inputs.tokens, n_iters, rule=policy, kv=(kv,), attention_mask=inputs.mask
    )
    with torch.no_grad():
        deep = model(inputs.tokens, n_iters=n_iters, attention_mask=inputs.mask)
    tell(4, 4)
    n_batch = len(inputs.tokens)
    return LiveRun(
        model=model.info(), tokens=inputs.str_tokens, n_iters=n_iters, rule=policy.describe(), kv=kv,
        milliseconds=fast, milliseconds_full=full, flops=halted_flops(model, run).total,
        flops_full=count_flops(model, n_iters, tokens.shape[1]).total * tokens.numel(),
        nll=mean_nll(run.logits[: len(inputs.tokens)], inputs), nll_full=mean_nll(deep, inputs),
        kv_error=float(sharing.mean_error[0]),
        exit_step=run.exits[:n_batch].cpu().numpy(), n_copies=copies,
    )  # fmt: skip
