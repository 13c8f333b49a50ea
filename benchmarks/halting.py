"""Halting in wall-clock time: what leaves a run has to be worth leaving, and what stays may cost no more than before.

The policies are synthetic where shares are asked for, so that the runtime is timed and not a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import abbie_lens
from abbie_lens import halting
from abbie_lens.halting import Decision, HaltingPolicy, Observation
from abbie_lens.halting.measures import wide
from abbie_lens.halting.run import halted
from benchmarks.shapes import CPU, Shape
from benchmarks.timing import Pairs, paired

MODEL = "abbie-d-novels"
DEEP = replace(CPU, batch=16, pos=256, n_iters=16)
DECODED = replace(CPU, batch=1, pos=256, n_iters=16)
PROMPT = 1
"""Tokens of the prompt that is continued; the model's context holds the rest."""


@dataclass(frozen=True)
class Dealt(HaltingPolicy):
    """Stops each token after the number of iterations it was dealt."""

    name = "dealt"
    title = "Dealt depths"
    formula = "k ≥ dealt"
    unit = "iterations"
    stops = "at_least"
    depths: Any = field(default=None, repr=False)
    """[token] in the order of the batch."""

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        return wide(current.k - self._left(previous))

    def remember(self, current: Observation, previous: Decision | None) -> dict[str, Tensor]:
        return {"depths": self._left(previous)}

    def _left(self, previous: Decision | None) -> Tensor:
        return self.depths if previous is None else previous.memory["depths"]


def half_halted(shape: Shape, pairs: int) -> Pairs:
    """The bundled model with half of all token-iterations left out by chance, depths uniform from 1 / its full depth."""
    r = shape.n_iters
    depths = torch.arange(shape.batch * shape.pos) % (r - 1) + 1
    order = torch.randperm(len(depths), generator=torch.Generator().manual_seed(0))
    policy = Dealt(depths=depths[order].to(shape.device))
    return _forwards(shape, pairs, policy, r, r)


def all_halted_at_one(shape: Shape, pairs: int) -> Pairs:
    """The bundled model whose tokens all stop after iteration 1 of many / the same model run to depth 1."""
    return _forwards(shape, pairs, halting.policy("fixed_k", threshold=1), shape.n_iters, 1)


def none_halted(shape: Shape, pairs: int) -> Pairs:
    """The bundled model under a policy that stops no token / without a policy."""
    r = shape.n_iters
    return _forwards(shape, pairs, halting.policy("fixed_k", threshold=r), r, r)


def direction_rule(shape: Shape, pairs: int) -> Pairs:
    """The bundled model under `direction_distance` at its default threshold, rule included / its full depth."""
    r = shape.n_iters
    return _forwards(shape, pairs, halting.policy("direction_distance"), r, r)


def decoding_at_a_quarter(shape: Shape, pairs: int) -> Pairs:
    """Cached greedy decoding of the bundled model at mean depth 4 of 16 / the same at full depth."""
    model, tokens, n_new = _decoded(shape)
    policy = halting.policy("fixed_k", threshold=shape.n_iters / 4)
    given = dict(n_iters=shape.n_iters, temperature=0, stop_at_eos=False)
    return paired(
        lambda: model.generate(tokens, n_new, halting=policy, **given),
        lambda: model.generate(tokens, n_new, **given),
        pairs,
        warmup=1,
        device=shape.device,
    )


def decoding_vs_transformers(shape: Shape, pairs: int) -> Pairs:
    """Cached greedy decoding of the bundled model at r = 1 / transformers' generate of a Llama of that size, random weights."""
    model, tokens, n_new = _decoded(shape)
    cfg = model.cfg
    torch.manual_seed(0)
    shape_of: dict[str, Any] = dict(
        vocab_size=cfg.d_vocab,
        hidden_size=cfg.d_model,
        intermediate_size=cfg.mlp_width,
        num_hidden_layers=cfg.n_layers(1),
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.kv_heads,
        max_position_embeddings=cfg.n_ctx,
        tie_word_embeddings=cfg.tie_word_embeddings,
        attn_implementation="sdpa",
    )
    peer: Any = LlamaForCausalLM(LlamaConfig(**shape_of)).eval()
    peer = peer.to(shape.device)
    theirs: dict[str, Any] = dict(
        max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False, pad_token_id=0
    )
    mask = torch.ones_like(tokens)
    return paired(
        lambda: model.generate(tokens, n_new, n_iters=1, temperature=0, stop_at_eos=False),
        lambda: peer.generate(tokens, attention_mask=mask, **theirs),
        pairs,
        warmup=1,
        device=shape.device,
    )


def _forwards(
    shape: Shape, pairs: int, policy: HaltingPolicy, n_iters: int, compared: int
) -> Pairs:
    model = _model(shape)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.cfg.d_vocab, (shape.batch, shape.pos), generator=generator)
    tokens = ids.to(shape.device)
    ours: Callable[[], Any] = lambda: model(tokens, n_iters, halting=policy)  # noqa: E731
    with torch.no_grad():
        run = halted(model, tokens, n_iters, policy)
        if compared == int(run.exits.max()) == int(run.exits.min()):
            torch.testing.assert_close(run.logits, model(tokens, compared), rtol=1e-4, atol=1e-4)
        return paired(ours, lambda: model(tokens, compared), pairs, device=shape.device)


def _decoded(shape: Shape) -> tuple[Any, Tensor, int]:
    model = _model(shape)
    tokens = torch.full((1, PROMPT), 5, device=shape.device)
    return model, tokens, min(shape.pos, model.cfg.n_ctx) - PROMPT


def _model(shape: Shape) -> Any:
    return abbie_lens.load(MODEL).eval().to(shape.device)
