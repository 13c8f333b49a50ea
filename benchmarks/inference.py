"""Forward passes and captures: ours against ourselves without hooks, and against the peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from abbie_lens import HookedLoopedTransformer, IterationCache
from abbie_lens.loops import AbbieC, AbbieD
from benchmarks.peers import bridge, llama, nnsight_capture, require_equal
from benchmarks.shapes import Shape
from benchmarks.timing import Pairs, paired

STATES = ["loop.hook_state", "loop.hook_readout"]


def is_resid_post(name: str) -> bool:
    """Names filter, ours and TransformerLens': the residual stream after every block."""
    return name.endswith("hook_resid_post")


def forward_vs_transformers(shape: Shape, pairs: int) -> Pairs:
    """Uninstrumented forward of AbbIE-C / forward of transformers' Llama."""
    model, tokens = shape.model(AbbieC()), shape.tokens()
    peer = llama(model, shape)
    return _time(shape, pairs, lambda: model(tokens), lambda: peer(tokens), model, peer)


def states_capture(shape: Shape, pairs: int) -> Pairs:
    """Capture of every h_k and z_k of AbbIE-D / the same forward uninstrumented."""
    return _capture_vs_uninstrumented(shape, pairs, STATES)


def resid_capture(shape: Shape, pairs: int) -> Pairs:
    """Capture of the stream after every block application of AbbIE-D / the same forward uninstrumented."""
    return _capture_vs_uninstrumented(shape, pairs, is_resid_post)


def resid_capture_vs_nnsight(shape: Shape, pairs: int) -> Pairs:
    """The same capture of AbbIE-C / nnsight's of transformers' Llama."""
    model, tokens = shape.model(AbbieC()), shape.tokens()
    peer = llama(model, shape)
    theirs = nnsight_capture(peer, tokens)
    with torch.no_grad():
        logits, resid = theirs()
        _require_equal_capture(model, tokens, logits, resid)
    return _time(shape, pairs, lambda: _resid(model, tokens), theirs, model, peer)


def resid_capture_vs_bridge(shape: Shape, pairs: int) -> Pairs:
    """The same capture of AbbIE-C / TransformerBridge's of its own Llama."""
    model, tokens = shape.model(AbbieC()), shape.tokens()
    peer = bridge(model, shape)
    theirs = lambda: peer.run_with_cache(tokens, names_filter=is_resid_post)  # noqa: E731
    with torch.no_grad():
        logits, cache = theirs()
        _require_equal_capture(model, tokens, logits, list(cache.values()))
    return _time(shape, pairs, lambda: _resid(model, tokens), theirs, model, peer)


def full_capture_vs_bridge(shape: Shape, pairs: int) -> Pairs:
    """Capture of every site of AbbIE-C / TransformerBridge's capture of every hook."""
    model, tokens = shape.model(AbbieC()), shape.tokens()
    peer = bridge(model, shape)
    ours, theirs = lambda: model.run_with_cache(tokens), lambda: peer.run_with_cache(tokens)
    return _time(shape, pairs, ours, theirs, model, peer)


def _capture_vs_uninstrumented(shape: Shape, pairs: int, names_filter: Any) -> Pairs:
    model, tokens = shape.model(AbbieD()), shape.tokens()
    capture = lambda: model.run_with_cache(tokens, names_filter=names_filter)  # noqa: E731
    with torch.no_grad():
        require_equal(model(tokens), capture()[0], "capture")
    return _time(shape, pairs, capture, lambda: model(tokens), model)


def _resid(model: HookedLoopedTransformer, tokens: Tensor) -> tuple[Tensor, IterationCache]:
    return model.run_with_cache(tokens, names_filter=is_resid_post)


def _require_equal_capture(
    model: HookedLoopedTransformer, tokens: Tensor, logits: Tensor, resid: list[Tensor]
) -> None:
    ours, cache = _resid(model, tokens)
    require_equal(ours, logits, "logits")
    layers = cache.unroll()
    assert len(resid) == len(layers)
    for layer, theirs in enumerate(resid):
        require_equal(layers[f"blocks.{layer}.hook_resid_post"], theirs, f"resid_post {layer}")


def _time(
    shape: Shape,
    pairs: int,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *models: torch.nn.Module,
) -> Pairs:
    """Equality was checked in float32; from here on the networks have the shape's dtype."""
    if shape.dtype is not torch.float32:
        for model in models:
            model.to(shape.dtype)
    with torch.no_grad():
        return paired(ours, theirs, pairs, device=shape.device)
