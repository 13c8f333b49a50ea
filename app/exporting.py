"""The runs that make up a bundle, in one place for the command line and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

import probes
from abbie_lens.errors import InputError
from abbie_lens.loops.base import CONCEPT_SPACE
from probes import Result
from probes.control import fresh_weights

NEEDED = ("fixed_point", "lens", "trajectories", "halting")
"""Analyses of every bundle; what one of them refuses is an error."""
CHEAP = ("lens_blocks", "attribution", "concept_space", "similarity", "attention")
"""Also of every bundle, as they take no longer than a few forward passes; a model may refuse one."""
KINDS = NEEDED + CHEAP
FITTED = ("lens_tuned",)
"""Of models that such a lens is known of."""
COSTLY = (
    "orbits", "per_block", "spectrum", "path_independence", "lyapunov", "fixed_points",
    "ablation", "recovery", "skipping", "specialisation",
)  # fmt: skip
"""Those that take derivatives or many runs, or tell the verdict in more detail: on request."""
TITLES = {
    "lens_blocks": "lens by block",
    "lens_tuned": "tuned lens",
    "attribution": "direct logit attribution",
    "concept_space": "entry into concept space and exit",
    "fixed_point": "fixed points",
    "path_independence": "path independence",
    "per_block": "blocks",
    "fixed_points": "solving for fixed points",
    "lyapunov": "Lyapunov exponents",
    "recovery": "recovery from noise",
    "skipping": "runs without an iteration",
    "specialisation": "what each iteration is for",
}
TOP_K = 8
"""Candidates for the next token that are kept at every token and iteration."""
MOST_PATTERN_BYTES = 16 << 20
"""Attention patterns are kept up to here: their number grows with the square of the text."""

_ANALYSES: dict[str, Callable[..., Result]] = {
    "fixed_point": probes.fixed_point,
    "lens": probes.lens,
    "lens_blocks": partial(probes.lens, kind="logit", blocks=True),
    "lens_tuned": partial(probes.lens, kind="tuned"),
    "trajectories": probes.trajectories,
    "halting": probes.halting,
    "orbits": probes.orbits,
    "similarity": probes.similarity,
    "attribution": probes.logit_attribution,
    "attention": probes.attention,
    "concept_space": probes.entry_and_exit,
    "per_block": probes.per_block,
    "spectrum": probes.spectrum,
    "path_independence": probes.path_independence,
    "lyapunov": probes.lyapunov,
    "fixed_points": probes.find_fixed_points,
    "ablation": probes.ablation,
    "recovery": probes.recovery,
    "skipping": probes.skip_iterations,
    "specialisation": probes.specialisation,
}


def run(
    analysis: str,
    model: Any,
    text: str,
    n_iters: int,
    *,
    seed: int = 0,
    rules: Sequence[Any] | None = None,
    random: bool = False,
    **options: Any,
) -> Result:
    """One analysis with the settings that dashboard and bundles share.

    `seed` draws random weights; `random` runs them instead, for an analysis whose result has none beside it. Path
    independence compares the text's end with that of its words in reverse order: an input as long, of the same vocabulary.
    """
    if analysis not in _ANALYSES:
        raise ValueError(f"analysis={analysis!r}: expected one of {', '.join(_ANALYSES)}")
    if random:
        model = fresh_weights(model, seed)
    given: Any = text
    if analysis == "halting":
        options["rules"] = rules
    elif analysis in ("spectrum", "path_independence", "lyapunov", "fixed_points"):
        options["control_seed"] = seed
    elif analysis != "trajectories":
        options["seed"] = seed
    if analysis.startswith("lens"):
        options.setdefault("top_k", TOP_K)
    if analysis == "attention":
        options.setdefault("patterns", _patterns_fit(model, text, n_iters))
    if analysis == "path_independence":
        backward = " ".join(reversed(text.split()))
        given = [text] if backward == text.strip() else [text, backward]
    return _ANALYSES[analysis](model, given, n_iters, **options)


def results(
    model: Any,
    text: str,
    n_iters: int,
    *,
    full: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, step: None,
    refused: Callable[[str, str], None] = lambda kind, reason: None,
    **settings: Any,
) -> dict[str, Result]:
    """The analyses a bundle holds, by name; `full` adds the costly ones.

    `progress(done, total, step)` is told before each, `refused(kind, reason)` of one that is left out because the
    model or the text does not allow it.
    """
    found: dict[str, Result] = {}
    kinds = KINDS + FITTED + (COSTLY if full else ())
    for done, kind in enumerate(kinds):
        progress(done, len(kinds) + 1, TITLES.get(kind, kind))
        try:
            found[kind] = run(kind, model, text, n_iters, **settings)
        except InputError as error:
            if kind in NEEDED:
                raise
            if kind not in FITTED:  # most models have none: nothing to tell
                refused(kind, str(error))
    progress(len(kinds), len(kinds) + 1, "states")
    return found


def patched(
    model: Any, clean: str, corrupt: str, n_iters: int, *, seed: int = 0, progress: Any = None
) -> probes.Patching:
    """Patching of a pair of prompts: of the logit difference, or of the KL where both runs say the same token."""
    with torch.no_grad():
        said = {int(model(text, n_iters=n_iters)[0, -1].argmax()) for text in (clean, corrupt)}
    metric = "logit_difference" if len(said) == 2 else "kl"
    return probes.patching(
        model, clean, corrupt, n_iters, metric=metric, seed=seed, progress=progress
    )


def states(model: Any, text: str, n_iters: int) -> dict[str, np.ndarray]:
    """h_k and z_k of every token, [r+1, batch, pos, d_model], by site name."""
    _, cache = model.run_with_cache(
        model.to_tokens(text), n_iters=n_iters, names_filter=list(CONCEPT_SPACE)
    )
    return {name: cache[name].float().cpu().numpy() for name in CONCEPT_SPACE}


def _patterns_fit(model: Any, text: str, n_iters: int) -> bool:
    """Whether the patterns of every block and head of the Body, trained and random, are few enough to keep."""
    n = model.to_tokens(text).shape[-1]
    heads = len(getattr(model, "body", ())) * model.cfg.n_heads
    return 2 * 4 * n_iters * heads * n * n <= MOST_PATTERN_BYTES
