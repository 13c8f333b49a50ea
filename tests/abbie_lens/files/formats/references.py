"""One forward pass of each published format by its equations, from the raw tensors of a checkpoint.

Every reference takes (config, weights, tokens [batch, pos], number of iterations, first state or None, token types or
None) and returns what our sites of the same names hold, [row, batch, pos, ...], and the logits.
"""

from __future__ import annotations

from collections.abc import Callable
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
    gated,
    heads,
    layer_norm,
    linear,
    rms,
    softplus,
    turn,
)

GATE = "loop.hook_gate"


# -- Huginn and the retrofits -------------------------------------------------------------------------------


def raven(kind: str) -> Callable[..., Outputs]:
    """`huginn`, `llama` or `olmo`: one loop, three kinds of blocks."""

    def forward(c: Config, w: Weights, tokens: Tensor, r: int, s0: Tensor, _types: Any) -> Outputs:
        final = lambda x: rms(x, c["norm_eps"], w["transformer.ln_f.weight"])  # noqa: E731
        run = lambda stage, x: _raven_blocks(kind, c, w, stage, x)  # noqa: E731
        e = run("prelude", w["transformer.wte.weight"][tokens] * c["init_values"]["embed_scale"])
        states, inputs = [s0], []
        for _ in range(r):
            inputs.append(linear(w, "transformer.adapter", torch.cat([states[-1], e], -1)))
            states.append(run("core_block", inputs[-1]))
        read = [final(s) if kind == "huginn" else s for s in states]
        head = w.get("lm_head.weight", w["transformer.wte.weight"])
        return {
            STATE: torch.stack(states),
            READOUT: torch.stack(read),
            "body.0.hook_resid_pre": torch.stack(inputs),
            "logits": final(run("coda", read[-1])) @ head.T,
        }

    return forward


def _raven_blocks(kind: str, c: Config, w: Weights, stage: str, x: Tensor) -> Tensor:
    n = c[{"prelude": "n_layers_in_prelude", "coda": "n_layers_in_coda"}.get(stage, "n_layers_in_recurrent_block")]  # fmt: skip
    for b in range(n):
        name = f"transformer.{stage}.{b}"
        norm = lambda i, x, name=name: rms(x, c["norm_eps"], w[f"{name}.norm_{i}.weight"])  # noqa: E731
        attn = lambda x, name=name: _raven_attention(kind, c, w, f"{name}.attn", x)  # noqa: E731
        mlp = lambda x, name=name: gated(w, f"{name}.mlp.fc", f"{name}.mlp.proj", x)  # noqa: E731
        if kind == "huginn":
            x = norm(2, x + attn(norm(1, x)))
            x = norm(4, x + mlp(norm(3, x)))
        elif kind == "llama":
            x = x + attn(norm(1, x))
            x = x + mlp(norm(2, x))
        else:
            x = x + norm(1, attn(x))
            x = x + norm(2, mlp(x))
    return x


def _raven_attention(kind: str, c: Config, w: Weights, name: str, x: Tensor) -> Tensor:
    h = c.get("n_heads") or c["num_attention_heads"]
    g, width = c.get("num_key_value_heads", h), c.get("head_dim") or c["n_embd"] // h
    q, k, v = linear(w, f"{name}.Wqkv", x).split([h * width, g * width, g * width], -1)
    if kind == "olmo":
        q, k = (
            rms(t, c["norm_eps"], w[f"{name}.{n}_norm.weight"]) for t, n in ((q, "q"), (k, "k"))
        )
    q, k, v = heads(q, h), heads(k, g), heads(v, g)
    if kind == "huginn":
        q, k = q + w[f"{name}.qk_bias"][0], k + w[f"{name}.qk_bias"][1]
        speeds = frequencies(width, c["rope_base"])
    else:
        speeds = frequencies(width, c["rope_theta"], c.get("rope_scaling"))
    q, k = (turn(t, speeds, adjacent=kind == "huginn") for t in (q, k))
    return linear(w, f"{name}.proj", attend(q, k, v, causal(x.shape[1])))


# -- layers under the usual names ---------------------------------------------------------------------------


def _usual_attention(c: Config, w: Weights, name: str, x: Tensor) -> Tensor:
    h, g = c["num_attention_heads"], c["num_key_value_heads"]
    q, k, v = (
        heads(linear(w, f"{name}.{n}_proj", x), m) for n, m in (("q", h), ("k", g), ("v", g))
    )
    if f"{name}.q_norm.weight" in w:
        eps = c["rms_norm_eps"]
        q, k = (rms(t, eps, w[f"{name}.{n}_norm.weight"]) for t, n in ((q, "q"), (k, "k")))
    scaling = c.get("rope_parameters") or c.get("rope_scaling") or {}
    speeds = frequencies(q.shape[-1], scaling.get("rope_theta", c.get("rope_theta")), scaling)
    z = attend(turn(q, speeds), turn(k, speeds), v, causal(x.shape[1]))
    return linear(w, f"{name}.o_proj", z)


def _usual_mlp(c: Config, w: Weights, name: str, x: Tensor) -> Tensor:
    act = ACTIVATION[c["hidden_act"]](linear(w, f"{name}.gate_proj", x))
    return linear(w, f"{name}.down_proj", act * linear(w, f"{name}.up_proj", x))


def ouro(c: Config, w: Weights, tokens: Tensor, r: int, _s0: Any, _types: Any) -> Outputs:
    """h_t = norm(all layers(h_{t-1})); gate and head read h_t."""
    states, read, gates = [w["model.embed_tokens.weight"][tokens]], [], []
    read.append(states[0])
    for _ in range(r):
        x = states[-1]
        for b in range(c["num_hidden_layers"]):
            name = f"model.layers.{b}"
            norm = lambda n, x, name=name: rms(x, c["rms_norm_eps"], w[f"{name}.{n}.weight"])  # noqa: E731
            a = _usual_attention(c, w, f"{name}.self_attn", norm("input_layernorm", x))
            x = x + norm("input_layernorm_2", a)
            m = _usual_mlp(c, w, f"{name}.mlp", norm("post_attention_layernorm", x))
            x = x + norm("post_attention_layernorm_2", m)
        read.append(x)
        states.append(rms(x, c["rms_norm_eps"], w["model.norm.weight"]))
        gates.append(linear(w, "model.early_exit_gate", states[-1]).sigmoid())
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    sites = {STATE: states, READOUT: read, GATE: gates}
    return {**{n: torch.stack(x) for n, x in sites.items()}, "logits": states[-1] @ head.T}


def loopus(c: Config, w: Weights, tokens: Tensor, r: int, _s0: Any, _types: Any) -> Outputs:
    """s <- a b + (1 - a) s with b = layers(s) and a from b - s; q reads the new state."""
    base = c["base_config_dict"]
    eps = base["rms_norm_eps"]

    def run(stage: str, x: Tensor) -> Tensor:
        for b in range(len(c[f"{stage}_layer_indices"])):
            name = f"{stage}.layers.{b}"
            normed = rms(x, eps, w[f"{name}.input_layernorm.weight"])
            x = x + _usual_attention(base, w, f"{name}.self_attn", normed)
            normed = rms(x, eps, w[f"{name}.post_attention_layernorm.weight"])
            x = x + _usual_mlp(base, w, f"{name}.mlp", normed)
        return x

    states, opened, asked = [run("encoder", w["encoder.embed_tokens.weight"][tokens])], [], []
    for _ in range(r):
        s = states[-1]
        b = run("reasoning", s)
        step = linear(w, "reasoning.gate.dt_input_proj", b - s)
        rate = softplus(linear(w, "reasoning.gate.delta_proj", step))
        opened.append(torch.exp(-rate * w["reasoning.gate.A_log"].exp()))
        states.append(opened[-1] * b + (1 - opened[-1]) * s)
        asked.append(linear(w, "q_head.1", layer_norm(w, "q_head.0", states[-1], 1e-5)).sigmoid())
    out = rms(run("decoder", states[-1]), eps, w["decoder.norm.weight"])
    sites = {STATE: states, "loop.hook_update_gate": opened, GATE: asked}
    return {
        **{n: torch.stack(x) for n, x in sites.items()},
        "logits": out @ w["decoder.lm_head.weight"].T,
    }


def hrm_text(c: Config, w: Weights, tokens: Tensor, r: int, _s0: Any, types: Any) -> Outputs:
    """z_L <- L(z_L + z_H) L_cycles times, then z_H <- H(z_H + z_L)."""
    eps, h = c["rms_norm_eps"], c["num_attention_heads"]
    mask = causal(tokens.shape[1], types)
    rope = c["rope_parameters"]
    depth = c.get("num_layers_per_stack") or c["num_hidden_layers"]

    def run(stack: str, x: Tensor) -> Tensor:
        for b in range(depth):
            name = f"model.{stack}_module.layers.{b}"
            fused = linear(w, f"{name}.attn.gqkv_proj", rms(x, eps))
            gate, q, k, v = (heads(t, h) for t in fused.chunk(4, -1))
            speeds = frequencies(q.shape[-1], rope["rope_theta"], rope)
            z = attend(turn(q, speeds), turn(k, speeds), v, mask) * gate.flatten(2).sigmoid()
            x = x + linear(w, f"{name}.attn.o_proj", z)
            up, down = f"{name}.mlp.gate_up_proj", f"{name}.mlp.down_proj"
            x = x + gated(w, up, down, rms(x, eps), c["hidden_act"])
        return rms(x, eps)

    scale = c.get("embedding_scale") or 1 / c["initializer_range"]
    high = [w["model.embed_tokens.weight"][tokens] * scale]
    low = [w["model.z_L_init"].expand_as(high[0])]
    for _ in range(r):
        for _ in range(c["L_cycles"]):
            low.append(run("L", low[-1] + high[-1]))
        high.append(run("H", high[-1] + low[-1]))
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    return {
        STATE: torch.stack(high),
        "loop.hook_low_state": torch.stack(low[1:]),
        "logits": high[-1] @ head.T,
    }
