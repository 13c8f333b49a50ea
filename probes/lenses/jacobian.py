"""The Jacobian lens: what a change of the state does to what the final norm reads, on average (ANALYSES 5).

    J_k = mean over texts of  1/|V| Σ_{t in V} Σ_{t' in V, t' >= t} ∂y_{t'} / ∂h_{k,t},    lens: softmax(U N(J_k h_k))

y is what the final norm reads at depth r: the Tail's output, or z_r without one. V leaves out the first positions, which
attract attention, and the last. At k = r the state does not go on, and z_r stands for h_r; a block's row is its stream.
Effects on later positions are summed, not averaged, as TransformerLens does it; a causal model has none on earlier ones.
Source: transformer-circuits.pub/2026/workspace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from abbie_lens.corpus import Window, cut_windows, window_size
from abbie_lens.errors import InputError
from probes.dynamics.restarts import restarted
from probes.inputs import Inputs
from probes.lenses import rows
from probes.lenses.fitted import FittedLens
from probes.lenses.identity import identity
from probes.lenses.rows import READOUT, Row
from probes.lenses.texts import Data, documents, inputs_of, named
from probes.lenses.unfinished import Unfinished
from probes.progress import Callback, Progress


@dataclass(frozen=True, eq=False, kw_only=True)
class JacobianLens(FittedLens):
    """J of every row, for runs of exactly the depth it was made for: another depth has other effects."""

    kind: ClassVar[str] = "jacobian"
    tensors: ClassVar[tuple[str, ...]] = ("matrices",)

    def apply(self, address: str, x: Tensor) -> Tensor:
        """J x, in float32 at least."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        matrix = self.matrices[self.row(address)].to(wide.device, wide.dtype)
        return (wide @ matrix.T).to(x.dtype)

    @property
    def story(self) -> str:
        """Depth, number of texts and their standard error."""
        n, errors = self.settings.get("n_texts"), self.metrics.get("relative_error") or []
        known = [e for e in errors if e is not None]
        error = f", standard error up to {max(known):.0%} of a matrix" if known else ""
        return f"Mean of {n} texts at r = {self.n_iters}{error}"


@dataclass(frozen=True)
class JacobianConfig:
    """How a Jacobian lens is made."""

    n_iters: int = 16
    blocks: rows.Blocks = False
    n_texts: int = 32
    """Texts that are averaged: the beginning of as many documents, or further windows where there are fewer."""
    window: int | None = 128
    """Tokens of a text, at most the context; None: the context, at most 512."""
    batch_size: int = 8
    """Texts at once."""
    skip_first: int = 16
    """Positions at the beginning that are left out, as the last one is."""

    def __post_init__(self) -> None:
        rows.check(self.blocks)
        for name, least in (("n_iters", 1), ("n_texts", 1), ("batch_size", 1), ("skip_first", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r}: expected an integer >= {least}.")


def fit_jacobian(
    model: Any,
    data: Data,
    config: JacobianConfig | None = None,
    *,
    out: Path | None = None,
    resume: bool = False,
    progress: Callback | None = None,
) -> JacobianLens:
    """Estimate a Jacobian lens on `data`: a file, glob or hf: source, or documents; d_model backward passes a batch.

    Metrics: the standard error of each row's matrix over texts, ‖SE‖ / ‖J‖ (Frobenius), None for one text.
    out, resume: as of `train_tuned`. Errors: InputError for texts that are all too short; ExistsError, CheckpointError,
    Cancelled.
    """
    config = config or JacobianConfig()
    said = {**asdict(config), "data": named(data)}
    kept = Unfinished(out, {"settings": said, "weights": model.info().weight_hash}, resume)
    sums = _Sums(kept.load())
    texts = islice(_texts(model, data, config), sums.n_texts, config.n_texts)
    width = model.cfg.d_model
    steps = Progress(-(-config.n_texts // config.batch_size) * width, progress)
    steps.step(-(-sums.n_texts // config.batch_size) * width)
    while batch := list(islice(texts, config.batch_size)):
        sums.add(*_sums_of(model, batch, config, steps), len(batch))
        kept.save(
            {"first": sums.first, "second": sums.second},
            {"n_texts": sums.n_texts, "addresses": list(sums.addresses)},
            sums.n_texts,
        )
    if not sums.n_texts:
        raise InputError(
            f"data: no text of more than {config.skip_first + 1} tokens (skip_first={config.skip_first} are left out at the"
            " beginning, and the last)."
        )
    lens = JacobianLens(
        model=identity(model),
        n_iters=config.n_iters,
        addresses=sums.addresses,
        settings={**said, "n_texts": sums.n_texts},
        metrics={"relative_error": sums.relative_errors()},
        matrices=sums.mean().float().to(model.device),
    )
    if out is not None:
        lens.save(out)
        kept.drop()
    return lens


class _Sums:
    """Sums over texts of matrices and of their squares, [row, d_model, d_model] in float64 on the host."""

    def __init__(self, kept: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
        self.n_texts, self.addresses = 0, ()
        self.first = self.second = torch.zeros((), dtype=torch.float64)
        if kept is not None:
            tensors, facts = kept
            self.first, self.second = tensors["first"], tensors["second"]
            self.n_texts, self.addresses = facts["n_texts"], tuple(facts["addresses"])

    def add(self, addresses: tuple[str, ...], first: Tensor, second: Tensor, n: int) -> None:
        self.addresses, self.n_texts = addresses, self.n_texts + n
        self.first, self.second = self.first + first, self.second + second

    def mean(self) -> Tensor:
        return self.first / self.n_texts

    def relative_errors(self) -> list[float | None]:
        """[row]; None for one text, or a matrix of zeros."""
        n, mean = self.n_texts, self.mean()
        if n < 2:
            return [None] * len(mean)
        variance = (self.second - n * mean.square()).clamp_min(0) / (n - 1)
        errors = (variance.sum((1, 2)) / n).sqrt() / mean.square().sum((1, 2)).sqrt()
        return [float(e) if bool(e.isfinite()) else None for e in errors]


def _texts(model: Any, data: Data, config: JacobianConfig) -> Iterator[Window]:
    """Every document's first window; where documents run out, the second of each, and so on. Too short ones are left out."""
    asked = config.window and min(config.window, model.cfg.n_ctx)
    size = window_size(model, asked)
    least = config.skip_first + 2 - (model.tokenizer.bos_token_id is not None)
    for turn in range(config.n_texts):
        found = False
        for document in documents(data):
            windows = cut_windows([document], model.tokenizer, size)
            window = next(islice(windows, turn, None), None)
            if window is not None and len(window) >= least:
                found = True
                yield window
        if not found:
            return


def _sums_of(
    model: Any, windows: list[Window], config: JacobianConfig, steps: Progress
) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Addresses, and the sums over these texts of their J and of its squares, [row, d_model, d_model]."""
    inputs = inputs_of(model, windows, config.n_iters)
    valid = torch.from_numpy(inputs.valid).to(model.device)
    places = torch.arange(valid.shape[1], device=valid.device)
    last = valid.sum(1, keepdim=True) - 1  # windows are padded on the right
    valid = valid & (places >= config.skip_first) & (places < last)
    counted = valid.sum(1).double().cpu()
    walked, sources, y = record(model, inputs, config.blocks)
    width = y.shape[-1]
    first = torch.zeros(len(sources), width, width, dtype=torch.float64)
    second = torch.zeros_like(first)
    for i in range(width):
        cotangent = torch.zeros_like(y)
        cotangent[..., i] = valid.to(y.dtype)
        with getattr(model, "lock", None) or nullcontext():
            gradients = torch.autograd.grad(
                y, sources, cotangent, retain_graph=i < width - 1, allow_unused=True
            )
        for row, gradient in enumerate(gradients):
            if gradient is None:
                continue
            summed = torch.where(valid[..., None], gradient, 0).sum(1).cpu().double()
            mean = summed / counted[:, None]
            first[row, i] = mean.sum(0)
            second[row, i] = mean.square().sum(0)
        steps.step()
    return tuple(row.address for row in walked), first, second


def record(
    model: Any, inputs: Inputs, blocks: rows.Blocks
) -> tuple[tuple[Row, ...], list[Tensor], Tensor]:
    """A run to depth r with its graph: rows, the tensor [batch, pos, d_model] of each, and what the final norm reads."""
    found: list[tuple[Row, Tensor]] = []
    sites = rows.sites(model, blocks)
    fired: dict[str, Tensor] = {}

    def keep(tensor: Tensor, site: str) -> Tensor:
        # The graph begins at the first row, whether or not the weights take gradients.
        rooted = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        fired[site] = rooted
        return rooted

    hooks = [(site, lambda x, hook, site=site: keep(x, site)) for site in sites]
    tail = rows.tail_sites(model, blocks)
    with getattr(model, "lock", None) or nullcontext(), torch.enable_grad():
        with model.hooks(fwd_hooks=hooks):
            state = model.begin(inputs.tokens, n_iters=inputs.n_iters, attention_mask=inputs.mask)
        begun = any(site.startswith("body.") for site in fired)
        found += rows.between(fired, sites, 0, begun, inputs)
        for k in range(inputs.n_iters):
            h = state.h.expand(*inputs.tokens.shape, -1)
            h = h if h.requires_grad else h.detach().contiguous().requires_grad_()
            found.append((Row(f"{READOUT}@{k}", k), h))
            fired.clear()
            with model.hooks(fwd_hooks=hooks):
                state = model.step(restarted(model, state, h))
            found += rows.between(fired, sites, k + 1, begun, inputs)
        found.append((Row(f"{READOUT}@{inputs.n_iters}", inputs.n_iters), state.z))
        fired.clear()
        with model.hooks(fwd_hooks=[(s, lambda x, hook, s=s: keep(x, s)) for s in tail]):
            y = model.tail_output(state.z, inputs.mask, inputs.tokens)
        found += [(Row(site, inputs.n_iters), fired[site]) for site in tail]
    return tuple(row for row, _ in found), [x for _, x in found], y
