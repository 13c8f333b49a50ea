"""The same network elsewhere: `transformers`, TransformerBridge and nnsight, with our weights in each layer.

Every peer is the unrolled stack: one untied copy of our block for each of its applications. Each
constructor checks that the peer's logits are ours, so that what is timed is equal work.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM

from abbie_lens import HookedLoopedTransformer
from abbie_lens.components.block import Block
from benchmarks.shapes import Shape

Captured = tuple[Tensor, list[Tensor]]
"""Logits and the residual stream after each layer."""


class UnavailableError(Exception):
    """A peer that is not installed or does not run here; the message says why."""


def unrolled(model: HookedLoopedTransformer) -> list[Block]:
    """Our blocks in the order of their applications at the trained depth."""
    return [*model.head, *(list(model.body) * model.cfg.n_iters), *model.tail]  # type: ignore[list-item]


def require_equal(ours: Tensor, theirs: Tensor, what: str) -> None:
    """Errors: AssertionError unless both are equal to float32 rounding."""
    torch.testing.assert_close(
        theirs, ours, rtol=1e-4, atol=3e-5, msg=lambda text: f"{what}: not equal work. {text}"
    )


def llama(model: HookedLoopedTransformer, shape: Shape) -> LlamaForCausalLM:
    """`transformers`' Llama with fused attention and without a KV cache."""
    cfg = model.cfg
    config = LlamaConfig(
        vocab_size=cfg.d_vocab,
        hidden_size=cfg.d_model,
        intermediate_size=cfg.mlp_width,
        num_hidden_layers=cfg.n_layers(),
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.kv_heads,
        max_position_embeddings=cfg.n_ctx,
        rms_norm_eps=cfg.eps,
        rope_parameters={"rope_type": "default", "rope_theta": cfg.rotary_base},
        tie_word_embeddings=cfg.tie_word_embeddings,
        use_cache=False,
        attn_implementation="sdpa",
    )
    peer = LlamaForCausalLM(config).eval().to(shape.device)
    with torch.no_grad():
        peer.model.embed_tokens.weight.copy_(model.embed.weight)
        peer.lm_head.weight.copy_(model.unembed.weight)
        peer.model.norm.weight.copy_(model.ln_final.weight)
        for theirs, ours in zip(peer.model.layers, unrolled(model), strict=True):
            _copy(theirs.input_layernorm, ours.ln1)
            _copy(theirs.post_attention_layernorm, ours.ln2)
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                _copy(getattr(theirs.self_attn, name), getattr(ours.attn, name))
            _copy(theirs.mlp.gate_proj, ours.mlp.gate_proj)
            _copy(theirs.mlp.up_proj, ours.mlp.in_proj)
            _copy(theirs.mlp.down_proj, ours.mlp.out_proj)
        tokens = shape.tokens()
        require_equal(model(tokens), peer(tokens).logits, "transformers' Llama")
    return peer


def bridge(model: HookedLoopedTransformer, shape: Shape) -> TransformerBridge:
    """TransformerLens' `boot_native` bridge. Its attention projections have biases; here they are 0."""
    cfg = model.cfg
    config = TransformerBridgeConfig(
        d_model=cfg.d_model,
        d_head=cfg.head_width,
        n_heads=cfg.n_heads,
        n_layers=cfg.n_layers(),
        n_ctx=cfg.n_ctx,
        d_mlp=cfg.mlp_width,
        d_vocab=cfg.d_vocab,
        act_fn=cfg.act_fn,
        gated_mlp=cfg.gated_mlp,
        normalization_type=cfg.normalization_type,
        positional_embedding_type=cfg.positional_embedding_type,
        rotary_base=cfg.rotary_base,
        eps=cfg.eps,
    )
    weights = {
        "embed.weight": model.embed.weight,
        "ln_final.weight": model.ln_final.weight,
        "unembed.weight": model.unembed.weight,
        "unembed.bias": model.unembed.weight.new_zeros(cfg.d_vocab),
    }
    for layer, block in enumerate(unrolled(model)):
        attn, mlp = block.attn, block.mlp
        turned = {
            "q": _adjacent(attn.q_proj, cfg.n_heads),
            "k": _adjacent(attn.k_proj, cfg.n_heads),
        }
        projections = turned | {"v": attn.v_proj.weight, "o": attn.o_proj.weight}
        parts = {
            "ln1.weight": block.ln1.weight,
            "ln2.weight": block.ln2.weight,
            "mlp.gate.weight": mlp.gate_proj.weight,
            "mlp.in.weight": mlp.in_proj.weight,
            "mlp.out.weight": mlp.out_proj.weight,
        }
        for name, weight in projections.items():
            parts[f"attn.{name}.weight"] = weight
            parts[f"attn.{name}.bias"] = weight.new_zeros(len(weight))
        weights |= {f"blocks.{layer}.{name}": value for name, value in parts.items()}
    peer = TransformerBridge.boot_native(config, device=shape.device).eval()
    peer.load_state_dict({name: value.detach() for name, value in weights.items()})
    with torch.no_grad():
        tokens = shape.tokens()
        require_equal(model(tokens), peer(tokens), "TransformerBridge")
    return peer


def nnsight_capture(peer: LlamaForCausalLM, tokens: Tensor) -> Callable[[], Captured]:
    """A function that saves the output of every layer of a Llama, and its logits, in one nnsight trace.

    nnsight instruments the module it is given, and patches every object of the process when imported:
    hand it a module that nothing else is measured on, in a process of its own.
    Errors: UnavailableError where nnsight is not installed.
    """
    try:
        nnsight: Any = import_module("nnsight")
    except ImportError as error:
        raise UnavailableError(f"nnsight cannot be imported ({error})") from None
    model = nnsight.NNsight(peer)

    def capture() -> Captured:
        with model.trace(tokens):
            resid = nnsight.save([])
            for layer in model.model.layers:
                resid.append(layer.output)
            logits = nnsight.save(model.output.logits)
        return logits, resid

    return capture


def _copy(theirs: nn.Module, ours: nn.Module) -> None:
    theirs.load_state_dict(ours.state_dict())


def _adjacent(linear: nn.Linear, n_heads: int) -> Tensor:
    """Rows of a query or key projection for rotary pairs (2i, 2i+1) instead of (i, i + d_head/2)."""
    halves = linear.weight.unflatten(0, (n_heads, 2, -1))
    return halves.transpose(1, 2).flatten(0, 2)
