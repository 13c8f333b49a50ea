"""The references of the two formats whose blocks are like no other's: Parcae and the pondering Pythias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.abbie_lens.files.formats.equations import (
    ACTIVATION,
    READOUT,
    STATE,
    Config,
    Outputs,
    Weights,
    attend,
    causal,
    frequencies,
    heads,
    layer_norm,
    linear,
    rms,
    softplus,
    turn,
)


def parcae(c: Config, w: Weights, tokens: Tensor, r: int, s0: Tensor, _types: Any) -> Outputs:
    """s <- core(a s + delta (B e)); the head reads coda(C s)."""
    eps, h = c["norm_eps"], c["num_attention_heads"]
    sizes = {
        "prelude": c["n_layers_in_prelude"],
        "core_block": c["n_layers_in_recurrent_block"],
        "coda": c["n_layers_in_coda"],
    }
    first = {"prelude": 0, "core_block": sizes["prelude"]}
    first["coda"] = first["core_block"] + sizes["core_block"]
    tiny = torch.finfo(torch.float32).eps

    def block(name: str, number: int, x: Tensor) -> Tensor:
        normed = rms(x, eps, w[f"{name}.norm_1.weight"])
        g = c.get("num_key_value_heads", h)
        q, k, v = (
            heads(linear(w, f"{name}.attn.c_{n}", normed), m)
            for n, m in (("q", h), ("k", g), ("v", g))
        )
        gate, embedded = f"{name}.attn.ve_gate", f"value_embeds.{number}.weight"
        if f"{gate}.weight" in w and embedded in w:
            share = 2 * linear(w, gate, normed[..., :32]).sigmoid()
            v = v + share[..., None] * heads(w[embedded][tokens], g)
        speeds = frequencies(q.shape[-1], c["rope_settings"]["rope_base"])
        q, k = (turn(t, speeds, adjacent=True) for t in (q, k))
        if c["qk_norm"]:
            q, k = rms(q, tiny), rms(k, tiny)
        x = x + linear(w, f"{name}.attn.c_proj", attend(q, k, v, causal(x.shape[1])))
        wide = linear(w, f"{name}.mlp.fc", rms(x, eps, w[f"{name}.norm_2.weight"])).clamp_min(0)
        return x + linear(w, f"{name}.mlp.proj", 0.5 * wide * wide)

    def run(stage: str, x: Tensor) -> Tensor:
        for b in range(sizes[stage]):
            x = block(f"transformer.{stage}.{b}", first[stage] + b, x)
        return x

    e = run("prelude", w["transformer.wte.weight"][tokens])
    if c["prelude_norm"]:
        e = rms(e, eps, w["transformer.ln_prelude.weight"])
    delta = softplus(w["transformer.adapter.dt_bias"])
    decay = torch.exp(-delta * w["transformer.adapter.A_log"].exp())
    injected = delta * (e @ w["transformer.adapter.B"].T)
    states = [s0]
    for _ in range(r):
        states.append(run("core_block", decay * states[-1] + injected))
    read = [s @ w["transformer.C.weight"].T for s in states]
    out = rms(run("coda", read[-1]), eps, w["transformer.ln_f.weight"])
    return {
        STATE: torch.stack(states),
        READOUT: torch.stack(read),
        "loop.hook_decay": decay.expand(r, *s0.shape),
        "loop.hook_injected": injected.expand(r, *s0.shape),
        "logits": out @ w.get("lm_head.weight", w["transformer.wte.weight"]).T,
    }


def pondering_pythia(
    c: Config, w: Weights, tokens: Tensor, r: int, _s0: Any, _types: Any
) -> Outputs:
    """E <- E + softmax(head(norm(stack(E)))) W; r updates are r + 1 passes."""
    eps, h, d = c["layer_norm_eps"], c["num_attention_heads"], c["hidden_size"]
    rope = c.get("rope_parameters") or {}
    theta = rope.get("rope_theta") or c["rotary_emb_base"]
    turning = int((rope.get("partial_rotary_factor") or c["rotary_pct"]) * (d // h))
    scale = d**0.5 if c["scale_embeds"] else 1.0
    table = w["gpt_neox.embed_in.weight"] * scale
    head = w.get("embed_out.weight", w["gpt_neox.embed_in.weight"])

    def layer(name: str, x: Tensor) -> Tensor:
        normed = layer_norm(w, f"{name}.input_layernorm", x, eps)
        fused = heads(linear(w, f"{name}.attention.query_key_value", normed), h)
        q, k, v = fused.chunk(3, -1)
        speeds = frequencies(turning, theta)
        z = attend(turn(q, speeds), turn(k, speeds), v, causal(x.shape[1]))
        attn = linear(w, f"{name}.attention.dense", z)
        asked = x if c["use_parallel_residual"] else x + attn
        normed = layer_norm(w, f"{name}.post_attention_layernorm", asked, eps)
        wide = ACTIVATION[c["hidden_act"]](linear(w, f"{name}.mlp.dense_h_to_4h", normed))
        return x + attn + linear(w, f"{name}.mlp.dense_4h_to_h", wide)

    m = r if c["mutiply_pondering_steps"] else 1
    states, read, fed = [m * table[tokens]], [], []
    for k in range(r + 1):
        x = states[-1]
        for b in range(c["num_hidden_layers"]):
            x = layer(f"gpt_neox.layers.{b}", x)
        read.append(x)
        logits = layer_norm(w, "gpt_neox.final_layer_norm", x, eps) @ head.T
        if k < r:
            fed.append(logits.softmax(-1) @ table)
            states.append(states[-1] + fed[-1])
    sites = {STATE: states, READOUT: read, "loop.hook_feedback": fed}
    return {**{n: torch.stack(x) for n, x in sites.items()}, "logits": logits}
