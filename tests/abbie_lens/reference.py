"""A looped transformer as a plain Python loop over the model's blocks: what every recorded row is held to."""

import torch

from abbie_lens.loops import AbbieD


def turning(positions, d_head, base=10000.0):
    """cos and sin [pos, 1, d_head] of rotary positions, channels i and i + d_head/2 turning together."""
    frequency = base ** (-torch.arange(0, d_head, 2) / d_head)
    angle = torch.outer(torch.as_tensor(positions).float(), frequency).repeat(1, 2)[:, None]
    return angle.cos(), angle.sin()


def rms(x, eps=2**-23):
    """x / sqrt(mean of squares): RMSNorm without weights."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def run_block(block, x, rotary, rows=None, prefix="", asks=None, serve=None, join=torch.add):
    """One block written out with explicit attention; appends every site's value to `rows[site]`.

    `asks`: the stream that queries are made of, x if None. `serve(k, v)`: the keys and values to attend to.
    `join`: how the stream and what is added to it become one.
    """
    rows = {} if rows is None else rows

    def keep(site, value):
        rows.setdefault(f"{prefix}.{site}", []).append(value)
        return value

    def norm(module, site, x):
        scale = keep(f"{site}.hook_scale", (x.square().mean(-1, keepdim=True) + module.eps).sqrt())
        return keep(f"{site}.hook_normalized", x / scale) * module.weight

    attn, heads = block.attn, (block.attn.n_heads, block.attn.d_head)
    keep("hook_resid_pre", x)
    a = norm(block.ln1, "ln1", x)
    q = a if asks is None else rms(asks, block.ln1.eps) * block.ln1.weight
    q, k, v = (
        keep(f"attn.hook_{n}", (stream @ p.weight.T).unflatten(-1, heads))
        for n, stream, p in zip(
            "qkv", (q, a, a), (attn.q_proj, attn.k_proj, attn.v_proj), strict=True
        )
    )
    cos, sin = rotary

    def turn(t):
        half = t.shape[-1] // 2
        swapped = torch.cat([-t[..., half:], t[..., :half]], -1)
        return t * cos + swapped * sin

    q, k = keep("attn.hook_rot_q", turn(q)), keep("attn.hook_rot_k", turn(k))
    if serve is not None:
        k, v = serve(k, v)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / heads[1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = keep("attn.hook_attn_scores", scores.masked_fill(future, float("-inf")))
    pattern = keep("attn.hook_pattern", scores.softmax(-1))
    z = keep("attn.hook_z", torch.einsum("bhqk,bkhd->bqhd", pattern, v))
    z = z.flatten(2)
    if attn.gate_proj is not None:
        z = z * keep("attn.hook_z_gate", (a @ attn.gate_proj.weight.T).sigmoid())
    mid = join(x, keep("hook_attn_out", z @ attn.o_proj.weight.T))
    if block.ln1_post is not None:
        mid = rms(mid, block.ln1_post.eps) * block.ln1_post.weight
    keep("hook_resid_mid", mid)
    m = norm(block.ln2, "ln2", mid)
    pre = keep("mlp.hook_pre", m @ block.mlp.gate_proj.weight.T)
    linear = keep("mlp.hook_pre_linear", m @ block.mlp.in_proj.weight.T)
    post = keep("mlp.hook_post", torch.nn.functional.silu(pre) * linear)
    out = join(mid, keep("hook_mlp_out", post @ block.mlp.out_proj.weight.T))
    if block.ln2_post is not None:
        out = rms(out, block.ln2_post.eps) * block.ln2_post.weight
    return keep("hook_resid_post", out)


def blocks(stage, x, asks=None):
    """The blocks of a stage one after the other on x [batch, pos, d_model]; `asks(b)`: block b's query stream."""
    for b, block in enumerate(stage):
        rotary = turning(range(x.shape[1]), block.attn.d_head)
        x = run_block(block, x, rotary, asks=None if asks is None else asks(b))
    return x


def final_norm(model, x):
    """The model's final norm, an RMSNorm."""
    return rms(x, model.ln_final.eps) * model.ln_final.weight


def read_out(model, z):
    """Tail, final norm, unembedding and soft cap of z [batch, pos, d_model]."""
    logits = final_norm(model, blocks(model.tail, z)) @ model.unembed.weight.T
    cap = model.cfg.output_logits_soft_cap
    return cap * (logits / cap).tanh() if cap else logits


def run(model, tokens, n_iters):
    """Every site's rows, and the logits, of `n_iters` iterations."""
    rotary = turning(range(tokens.shape[1]), model.cfg.d_head)
    rows = {}
    x = model.embed.weight[tokens]
    rows["embed.hook_out"] = [x]
    for b, block in enumerate(model.head):
        x = run_block(block, x, rotary, rows, f"head.{b}")
    h = z = x
    rows["loop.hook_state"], rows["loop.hook_readout"] = [h], [z]
    for k in range(n_iters):
        y = h
        for b, block in enumerate(model.body):
            y = run_block(block, y, rotary, rows, f"body.{b}")
        h, z = carry(model.cfg.loop, h, y, k)
        rows["loop.hook_state"].append(h)
        rows["loop.hook_readout"].append(z)
    x = z
    for b, block in enumerate(model.tail):
        x = run_block(block, x, rotary, rows, f"tail.{b}")
    scale = (x.square().mean(-1, keepdim=True) + model.ln_final.eps).sqrt()
    rows["ln_final.hook_scale"], rows["ln_final.hook_normalized"] = [scale], [x / scale]
    logits = (x / scale * model.ln_final.weight) @ model.unembed.weight.T
    rows["unembed.hook_out"] = [logits]
    return logits, rows


def carry(loop, h, y, k):
    """(h_{k+1}, z_{k+1}) from h_k and y = B(h_k), as the papers' equations have it."""
    if not isinstance(loop, AbbieD) or (loop.residual == "skip_first" and k == 0):
        return y, y
    return (y + h, y) if loop.residual == "between" else (y + h, y + h)
