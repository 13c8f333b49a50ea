"""Patching and steering from a page: what one job depends on, how it is started, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import probes
from abbie_lens.bridged import Loop
from abbie_lens.errors import InputError
from app.view import runs, work

HOW = "It takes seconds for a small model; the other pages can be used meanwhile."


def _words(doing: str, button: str, steps: str) -> work.Words:
    return work.Words(
        waiting="Not computed yet",
        how=f"Press “{button}”. {HOW}",
        doing=doing,
        steps=steps,
        stopped="It was stopped before it was done.",
        refused="This cannot be computed",
        changed="Shown is the last result; the choices above have changed since.",
    )


PATCH, STEER = "patching_job", "steering_job"
WORDS = {
    PATCH: _words("Patching", "Patch", "cells"),
    STEER: _words("Steering", "Steer", "runs"),
}
SITES = {
    "state": "the whole state",
    "resid_post": "block output",
    "attn_out": "attention output",
    "mlp_out": "MLP output",
    "z": "attention heads",
}


@dataclass(frozen=True)
class Patch:
    """What one patching depends on."""

    model: str
    loop: Loop | None
    n_iters: int
    clean: str
    corrupt: str
    site: str = "state"
    metric: str = "logit_difference"
    answer: str | None = None
    other: str | None = None
    control: str | None = None

    def run(self, progress: Any) -> probes.Patching:
        """Exact patches and gradients. Errors: InputError."""
        for name, text in (("clean", self.clean), ("corrupt", self.corrupt)):
            if not text.strip():
                raise InputError(f"The {name} prompt is empty: type some text.")
        given: dict[str, Any] = {}
        if self.metric == "logit_difference":
            given = {"answer": self.answer or None, "other": self.other or None}
        return probes.patching(
            runs.model(self.model, self.loop), self.clean, self.corrupt, self.n_iters,
            site=self.site, metric=self.metric, control=self.control or True, progress=progress, **given,
        )  # fmt: skip


@dataclass(frozen=True)
class Steer:
    """What one steering depends on."""

    model: str
    loop: Loop | None
    n_iters: int
    text: str
    toward: tuple[str, ...]
    away: tuple[str, ...]
    iteration: int
    strength: float
    generate: int = 24

    def run(self, progress: Any) -> probes.Steering:
        """Effects at strengths up to the one chosen, and what is generated there. Errors: InputError."""
        for name, texts in (("toward", self.toward), ("away from", self.away)):
            if not texts:
                raise InputError(f"Texts to steer {name}: type at least one line.")
        if not self.text.strip():
            raise InputError("The prompt is empty: type some text in the sidebar.")
        model = runs.model(self.model, self.loop)
        vector = probes.difference_of_means(
            model, self.toward, self.away, self.n_iters, iteration=self.iteration
        )
        room = model.cfg.n_ctx - model.to_tokens(self.text).shape[-1]
        return probes.steering(
            model, self.text, vector, self.n_iters, iterations=[self.iteration],
            strengths=[s * self.strength for s in (-1, -0.5, 0.5, 1)],
            generate=max(0, min(self.generate, room)), progress=progress,
        )  # fmt: skip


def start(slot: str, request: Patch | Steer) -> None:
    """Begin, after stopping what this session computed there before; finished results are kept."""
    work.start(slot, request, request.run, key(request))


def outcome(slot: str, request: Patch | Steer) -> Any:
    """The result of `request`; draws progress, or why there is none."""
    return work.outcome(slot, request, WORDS[slot], key(request))


def key(request: Patch | Steer) -> Any:
    """A checkpoint written anew under the same name is another model."""
    return ("causes", request, runs.checkpoint(request.model, request.loop))
