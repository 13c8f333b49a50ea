"""A looped transformer as a plain Python loop over the model's blocks: what every recorded row is held to."""

import torch

from abbie_lens.loops import AbbieD


def run_block(block, x, context, rows, prefix):
    """One block written out with explicit attention; appends every site's value to `rows[site]`."""

    def keep(site, value):
        rows.setdefault(f"{prefix}.{site}", []).append(value)
        return value

    def norm(module, site, x):
        scale = keep(f"{site}.hook_scale", (x.square().mean(-1, keepdim=True) + module.eps).sqrt())
        return keep(f"{site}.hook_normalized", x / scale) * module.weight

    attn, heads = block.attn, (block.attn.n_heads, block.attn.d_head)
    keep("hook_resid_pre", x)
    a = norm(block.ln1, "ln1", x)
    q, k, v = (
        keep(f"attn.hook_{n}", (a @ p.weight.T).unflatten(-1, heads))
        for n, p in zip("qkv", (attn.q_proj, attn.k_proj, attn.v_proj), strict=True)
    )
    cos, sin = context.rotary

    def turn(t):
        half = t.shape[-1] // 2
        swapped = torch.cat([-t[..., half:], t[..., :half]], -1)
        return t * cos + swapped * sin

    q, k = keep("attn.hook_rot_q", turn(q)), keep("attn.hook_rot_k", turn(k))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / heads[1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = keep("attn.hook_attn_scores", scores.masked_fill(future, float("-inf")))
    pattern = keep("attn.hook_pattern", scores.softmax(-1))
    z = keep("attn.hook_z", torch.einsum("bhqk,bkhd->bqhd", pattern, v))
    out = keep("hook_attn_out", z.flatten(2) @ attn.o_proj.weight.T)
    mid = keep("hook_resid_mid", x + out)
    m = norm(block.ln2, "ln2", mid)
    pre = keep("mlp.hook_pre", m @ block.mlp.gate_proj.weight.T)
    linear = keep("mlp.hook_pre_linear", m @ block.mlp.in_proj.weight.T)
    post = keep("mlp.hook_post", torch.nn.functional.silu(pre) * linear)
    mlp = keep("hook_mlp_out", post @ block.mlp.out_proj.weight.T)
    return keep("hook_resid_post", mid + mlp)


def run(model, tokens, n_iters):
    """Every site's rows, and the logits, of `n_iters` iterations."""
    context = model.begin(tokens, n_iters).context
    rows = {}
    x = model.embed.weight[tokens]
    rows["embed.hook_out"] = [x]
    for b, block in enumerate(model.head):
        x = run_block(block, x, context, rows, f"head.{b}")
    h = z = x
    rows["loop.hook_state"], rows["loop.hook_readout"] = [h], [z]
    for k in range(n_iters):
        y = h
        for b, block in enumerate(model.body):
            y = run_block(block, y, context, rows, f"body.{b}")
        h, z = carry(model.cfg.loop, h, y, k)
        rows["loop.hook_state"].append(h)
        rows["loop.hook_readout"].append(z)
    x = z
    for b, block in enumerate(model.tail):
        x = run_block(block, x, context, rows, f"tail.{b}")
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
