"""logit_attribution: one pass under hooks, every output projected at once on how the logit reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import wide
from probes import decoding, numerics, running
from probes.attribution.blocks import BlockReader
from probes.attribution.ending import Ending, uncapped
from probes.attribution.result import LogitAttribution
from probes.attribution.target import Target, chosen_positions
from probes.attribution.terms import Terms
from probes.inputs import Inputs, prepare
from probes.progress import Callback, Progress

ADDS_UP_TO = 100
"""Roundoffs of the model's dtype to which terms must add up to the logit, relative to the sum of their sizes."""


def logit_attribution(
    model: Any,
    text_or_tokens: Any,
    n_iters: int = 16,
    *,
    target: str | int | Sequence[Sequence[int]] | Tensor | None = None,
    versus: str | int | Sequence[Sequence[int]] | Tensor | None = None,
    positions: int | Sequence[int] | None = None,
    attention_mask: Any = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> LogitAttribution:
    """What every head, MLP and injection of every iteration adds to a logit, with the final norm held still.

    `target`: a token by its string or id, or ids [batch, pos]; None for what the model predicts at each position, which
    takes a second pass. `versus`: a token whose logit is taken off. `positions`: columns to look at; all if None.
    `seed` draws the control, a random token in the target's place. `progress` counts iterations.

    Terms add up to the logit, before a soft cap if the model has one, to the rounding of its dtype. Errors: InputError
    for a loop whose carry is not linear, blocks that norm the stream itself, and whatever else cannot be split.
    """
    inputs = prepare(model, text_or_tokens, n_iters, attention_mask)
    at = chosen_positions(positions, inputs)
    _require_a_sum(model)
    steps = Progress((1 + (target is None)) * (n_iters + 1), progress)
    predicted = _predicted(model, inputs, at, steps) if target is None else None
    aim = Target.of(model, target, versus, predicted, inputs, at, seed)
    ending = Ending.of(model)
    # Up to the scale of the final norm, one number a token, which is known when the run is over.
    read = ending.norm.read_back(aim.directions(ending.weight), torch.ones((), device=model.device))
    terms, x, logits = _run(model, inputs, at, read, steps)
    with torch.no_grad():
        scale = ending.norm.scale(x, wide(running.normed(model, x.to(model.dtype))))[..., 0]
    terms.divide(scale)
    bias = aim.of_logits(ending.bias.expand(*aim.ids.shape, -1))
    bias = bias + aim.directions(ending.weight) @ ending.norm.bias
    terms.add("readout", -1, -1, ("bias",), bias[None], bias[None])
    logit = aim.of_logits(uncapped(logits, ending.soft_cap))
    known = (aim.ids >= 0).cpu().numpy()
    found = terms.arrays(known)
    logit, control = np.where(known, numerics.host(logit), np.nan)
    _check(model, found["contribution"], logit)
    return LogitAttribution(
        model=model.info(),
        tokens=inputs.str_tokens,
        n_iters=n_iters,
        positions=np.array(at),
        target_ids=_ids(aim.ids, known),
        versus_ids=None if aim.versus is None else _ids(aim.versus, known),
        random_ids=_ids(aim.random, known),
        vocabulary=_strings(model, aim),
        logit=logit,
        random_logit=control,
        soft_cap=ending.soft_cap,
        stage=tuple(terms.stage),
        component=tuple(terms.component),
        **found,
    )


def _predicted(model: Any, inputs: Inputs, at: list[int], steps: Progress) -> Tensor:
    """[batch, pos] the token that the model finds most probable."""
    last: Any = None
    for state in running.states(model, inputs):
        steps.step()
        last = state
    with torch.no_grad():
        return decoding.top_token(model.readout(last)[:, at])


def _run(
    model: Any, inputs: Inputs, at: list[int], read: Tensor, steps: Progress
) -> tuple[Terms, Tensor, Tensor]:
    """All terms but the bias, the stream that the final norm reads [batch, pos, d_model], and logits there."""
    loop, terms = model.cfg.loop, Terms()
    reads = loop.read_back(model, inputs.n_iters, read)
    if reads is None:
        raise InputError(
            f"model: the carry of {loop.label} between iterations is not linear, so its logit is no sum over"
            " iterations; lenses and patching say what an iteration does there."
        )
    readers = {
        stage: [
            BlockReader.of(model, stage, b, block) for b, block in enumerate(getattr(model, stage))
        ]
        for stage in ("head", "body", "tail")
    }
    sites = {stage: [site for r in found for site in r.sites] for stage, found in readers.items()}

    def blocks(stage: str, k: int, fired: dict[str, Tensor], back: Tensor) -> None:
        stack = loop.body(model, k) if stage == "body" else getattr(model, stage)
        for b, (reader, block) in enumerate(zip(readers[stage], stack, strict=True)):
            made = reader.project(block, fired, at, torch.cat([back, read]))
            terms.add(stage, k, b, reader.components, made[:, : len(read)], made[:, len(read) :])

    first = "head.0.hook_resid_pre"
    entering = [first] if readers["head"] else []
    state: Any = None
    for after, fired in running.watched(model, inputs, [*sites["head"], *sites["body"], *entering]):
        steps.step()
        if state is None:
            _begin(terms, after, fired.get(first), at, reads, read, drawn=loop.draws_state)
            if not loop.draws_state:
                blocks("head", -1, fired, reads.start)
        else:
            k = state.k
            if reads.added is not None:
                e = wide(reads.added(state)[:, at])
                both = ((e * x).sum(-1)[None] for x in (reads.injected[k], read))
                terms.add("body", k, -1, ("injected",), *both)
            blocks("body", k, fired, reads.updates[k])
        state = after
    last = f"tail.{len(readers['tail']) - 1}.hook_resid_post"
    ends = [last] if readers["tail"] else []
    seen: dict[str, Tensor] = {}
    hooks = [
        (site, lambda x, hook, site=site: seen.__setitem__(site, x))
        for site in [*sites["tail"], *ends]
    ]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        logits = model.readout(state)[:, at]
    blocks("tail", -1, seen, read)
    x = seen[last] if readers["tail"] else state.z
    return terms, wide(x[:, at]), logits


def _begin(
    terms: Terms,
    state: Any,
    entering: Tensor | None,
    at: list[int],
    reads: Any,
    read: Tensor,
    *,
    drawn: bool,
) -> None:
    """What is there before any block adds to it: the embedding, or an h_0 that was drawn."""
    x = wide((state.h if drawn or entering is None else entering)[:, at])
    both = ((x * back).sum(-1)[None] for back in (reads.start, read))
    terms.add("begin", -1, -1, ("drawn state" if drawn else "embedding",), *both)


def _require_a_sum(model: Any) -> None:
    """Errors: InputError for a model without a loop of its own, or whose blocks norm the stream itself."""
    if getattr(getattr(model, "cfg", None), "loop", None) is None:
        raise InputError("model: it names no loop, so nothing is known of its carry.")
    if getattr(model.cfg, "norm_placement", "") == "sandwich_stream":
        raise InputError(
            f"model: blocks of {model.cfg.loop.label} norm the stream itself (norm_placement='sandwich_stream'), so"
            " what they add is no term of it; lenses and patching say what a block does there."
        )


def _check(model: Any, terms: np.ndarray, logit: np.ndarray) -> None:
    """Errors: InputError where terms do not add up to the model's own logit."""
    off, size = np.abs(terms.sum(0) - logit), np.abs(terms).sum(0) + np.abs(logit)
    if (off > ADDS_UP_TO * torch.finfo(model.dtype).eps * size).any():
        raise InputError(
            f"model: terms are off the logit by up to {np.nanmax(off):.1e}: its read-out or its blocks do more than"
            " norm, unembed and add, and cannot be split."
        )


def _ids(ids: Tensor, known: np.ndarray) -> np.ndarray:
    return np.where(known, ids.cpu().numpy(), -1)


def _strings(model: Any, aim: Target) -> dict[str, str]:
    """Strings of all token ids that occur, by id as text."""
    held = [aim.ids, aim.random] + ([] if aim.versus is None else [aim.versus])
    ids = torch.cat([x.reshape(-1) for x in held]).unique()
    ids = ids[ids >= 0]
    return dict(zip(map(str, ids.tolist()), model.to_str_tokens(ids), strict=True))
