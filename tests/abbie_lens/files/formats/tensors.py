"""Which tensors a checkpoint of each published format has, by the tables of the formats, and random ones of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def weights(name: str, c: dict[str, Any], seed: int = 0, **more: Any) -> dict[str, Tensor]:
    """Random tensors of a checkpoint, large enough that every one of them moves the logits."""
    generator = torch.Generator().manual_seed(seed)
    shapes = SHAPES[name](c, **more)
    return {key: _drawn(key, shape, generator) for key, shape in shapes}


def _drawn(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    x = torch.randn(shape, generator=generator)
    if len(shape) == 1:
        is_norm = "norm" in key or "ln_" in key or key.endswith("0.weight")
        return 1 + 0.3 * x if is_norm and key.endswith("weight") else 0.5 * x
    if "embed" in key or "wte" in key:
        return 0.5 * x
    return x if key.endswith("qk_bias") else x / math.sqrt(shape[-1])


def _raven(c: dict[str, Any], norms: int, joint: bool = False) -> Shapes:
    d, f, h = c["n_embd"], c["intermediate_size"], c.get("n_heads") or c["num_attention_heads"]
    g, width = c.get("num_key_value_heads", h), c.get("head_dim") or d // h
    yield "transformer.wte.weight", (c["padded_vocab_size"], d)
    yield "transformer.ln_f.weight", (d,)
    yield "transformer.adapter.weight", (d, 2 * d)
    if not c.get("tie_embeddings", c.get("tie_word_embeddings")):
        yield "lm_head.weight", (c["padded_vocab_size"], d)
    for stage, field in (("prelude", "prelude"), ("core_block", "recurrent_block"), ("coda", "coda")):  # fmt: skip
        for b in range(c[f"n_layers_in_{field}"]):
            name = f"transformer.{stage}.{b}"
            for i in range(norms):
                yield f"{name}.norm_{i + 1}.weight", (d,)
            yield f"{name}.attn.Wqkv.weight", ((h + 2 * g) * width, d)
            yield f"{name}.attn.proj.weight", (d, h * width)
            yield f"{name}.mlp.fc.weight", (2 * f, d)
            yield f"{name}.mlp.proj.weight", (d, f)
            if norms == 4:
                yield f"{name}.attn.qk_bias", (2, 1, h, width)
            if joint:
                yield f"{name}.attn.q_norm.weight", (h * width,)
                yield f"{name}.attn.k_norm.weight", (g * width,)


def _matrices(name: str, shapes: dict[str, tuple[int, int]], biased: bool) -> Shapes:
    for part, shape in shapes.items():
        yield f"{name}.{part}.weight", shape
        if biased:
            yield f"{name}.{part}.bias", shape[:1]


def _usual(c: dict[str, Any], name: str, norms: tuple[str, ...], qk_norm: bool = False) -> Shapes:
    d, f, h = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]
    g, width = c["num_key_value_heads"], c.get("head_dim") or d // h
    attn = {"q_proj": (h * width, d), "k_proj": (g * width, d), "v_proj": (g * width, d), "o_proj": (d, h * width)}  # fmt: skip
    mlp = {"gate_proj": (f, d), "up_proj": (f, d), "down_proj": (d, f)}
    yield from _matrices(f"{name}.self_attn", attn, c.get("attention_bias", False))
    yield from _matrices(f"{name}.mlp", mlp, c.get("mlp_bias", False))
    for norm in norms:
        yield f"{name}.{norm}.weight", (d,)
    for n in "qk" if qk_norm else "":
        yield f"{name}.self_attn.{n}_norm.weight", (width,)


def _ouro(c: dict[str, Any]) -> Shapes:
    d, names = c["hidden_size"], ("input_layernorm", "post_attention_layernorm")
    yield "model.embed_tokens.weight", (c["vocab_size"], d)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], d)
    yield "model.norm.weight", (d,)
    yield from _matrices("model", {"early_exit_gate": (1, d)}, True)
    for b in range(c["num_hidden_layers"]):
        yield from _usual(c, f"model.layers.{b}", (*names, *(f"{n}_2" for n in names)))


def _hrm(c: dict[str, Any]) -> Shapes:
    d, f = c["hidden_size"], c["intermediate_size"]
    inner = c["num_attention_heads"] * (c.get("head_dim") or d // c["num_attention_heads"])
    yield "model.embed_tokens.weight", (c["vocab_size"], d)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], d)
    yield "model.z_L_init", (d,)
    for stack in "LH":
        for b in range(c.get("num_layers_per_stack") or c["num_hidden_layers"]):
            name = f"model.{stack}_module.layers.{b}"
            attn = {"gqkv_proj": (4 * inner, d), "o_proj": (d, inner)}
            mlp = {"gate_up_proj": (2 * f, d), "down_proj": (d, f)}
            yield from _matrices(f"{name}.attn", attn, c.get("attention_bias", False))
            yield from _matrices(f"{name}.mlp", mlp, c.get("mlp_bias", False))


def _parcae(c: dict[str, Any], gates: Any = None) -> Shapes:
    d, f, h = c["n_embd"], c["intermediate_size"], c["num_attention_heads"]
    inner, v = c["num_key_value_heads"] * (d // h), c["padded_vocab_size"]
    names = [
        f"transformer.{stage}.{b}"
        for stage, field in (("prelude", "prelude"), ("core_block", "recurrent_block"), ("coda", "coda"))
        for b in range(c[f"n_layers_in_{field}"])
    ]  # fmt: skip
    valued = range((len(names) - 1) % 2, len(names), 2)
    yield "transformer.wte.weight", (v, d)
    if not c["tie_embeddings"]:
        yield "lm_head.weight", (v, d)
    yield "transformer.ln_f.weight", (d,)
    if c["prelude_norm"]:
        yield "transformer.ln_prelude.weight", (d,)
    yield from (("transformer.adapter.A_log", (d,)), ("transformer.adapter.dt_bias", (d,)))
    yield from (("transformer.adapter.B", (d, d)), ("transformer.C.weight", (d, d)))
    for number, name in enumerate(names):
        for n, rows in (("q", d), ("k", inner), ("v", inner), ("proj", d)):
            yield f"{name}.attn.c_{n}.weight", (rows, d)
        yield from ((f"{name}.mlp.fc.weight", (f, d)), (f"{name}.mlp.proj.weight", (d, f)))
        yield from ((f"{name}.norm_1.weight", (d,)), (f"{name}.norm_2.weight", (d,)))
        if number in valued and gates != ():
            yield f"value_embeds.{number}.weight", (v, inner)
        if number in (valued if gates is None else gates):
            yield f"{name}.attn.ve_gate.weight", (c["num_key_value_heads"], 32)


def _pondering(c: dict[str, Any]) -> Shapes:
    d, f = c["hidden_size"], c["intermediate_size"]
    yield "gpt_neox.embed_in.weight", (c["vocab_size"], d)
    if not c["tie_word_embeddings"]:
        yield "embed_out.weight", (c["vocab_size"], d)
    yield "adapter.weight", (d, 2 * d)
    norms = ["gpt_neox.final_layer_norm"]
    for b in range(c["num_hidden_layers"]):
        name = f"gpt_neox.layers.{b}"
        norms += [f"{name}.input_layernorm", f"{name}.post_attention_layernorm"]
        attn = {"query_key_value": (3 * d, d), "dense": (d, d)}
        yield from _matrices(f"{name}.attention", attn, c.get("attention_bias", True))
        yield from _matrices(f"{name}.mlp", {"dense_h_to_4h": (f, d), "dense_4h_to_h": (d, f)}, True)  # fmt: skip
    for norm in norms:
        yield from ((f"{norm}.weight", (d,)), (f"{norm}.bias", (d,)))


def _loopus(c: dict[str, Any]) -> Shapes:
    base = c["base_config_dict"]
    d, v, rank = base["hidden_size"], base["vocab_size"], math.ceil(base["hidden_size"] / 16)
    yield from (("encoder.embed_tokens.weight", (v, d)), ("decoder.lm_head.weight", (v, d)))
    yield from (("decoder.norm.weight", (d,)), ("reasoning.gate.A_log", (d,)))
    yield from _matrices("reasoning.gate", {"delta_proj": (d, rank)}, True)
    yield from _matrices("reasoning.gate", {"dt_input_proj": (rank, d)}, False)
    yield from (("q_head.0.weight", (d,)), ("q_head.0.bias", (d,)))
    yield from _matrices("q_head", {"1": (1, d)}, True)
    for stage in ("encoder", "reasoning", "decoder"):
        for b in range(len(c[f"{stage}_layer_indices"])):
            norms = ("input_layernorm", "post_attention_layernorm")
            yield from _usual(base, f"{stage}.layers.{b}", norms, base["model_type"] == "qwen3")


SHAPES: dict[str, Callable[..., Shapes]] = {
    "huginn": lambda c: _raven(c, 4), "retrofit_llama": lambda c: _raven(c, 2),
    "retrofit_olmo": lambda c: _raven(c, 2, joint=True), "ouro": _ouro, "hrm_text": _hrm,
    "parcae": _parcae, "pondering_pythia": _pondering, "loopus": _loopus,
}  # fmt: skip
