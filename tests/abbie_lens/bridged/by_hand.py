"""The looped states of an untouched model of transformers, computed with its own blocks and none of our code."""

import torch


class _Passing(torch.nn.Module):
    """Stands in a stack for several blocks: runs `f` on the stream, with whatever else the block is called with."""

    def __init__(self, block, f):
        super().__init__()
        self.block, self.f = block, f
        if hasattr(block, "attention_type"):
            self.attention_type = block.attention_type

    def forward(self, x, *args, **kwargs):
        def run(h):
            out = self.block(h, *args, **kwargs)
            return out[0] if isinstance(out, tuple) else out

        out = self.f(run, x)
        return (out,) if isinstance(self.block(x, *args, **kwargs), tuple) else out


@torch.no_grad()
def logits_and_entry(model, blocks, start, stop, z, tokens, **given):
    """(what enters block `start`, logits with z in front of block `stop`): the window itself is passed by."""
    seen = {}

    def note(run, x):
        seen["x"] = x
        return x

    kept = list(blocks)
    try:
        for b in range(start, stop):
            blocks[b] = _Passing(kept[b], note if b == start else lambda run, x: x)
        last = blocks[stop - 1]
        if z is not None:
            inner = last.f
            last.f = lambda run, x: (inner(run, x), z)[1]
        return seen_after(model, tokens, given), seen["x"]
    finally:
        for b in range(start, stop):
            blocks[b] = kept[b]


def seen_after(model, tokens, given):
    """Logits of the model's own forward."""
    return model(tokens, use_cache=False, **given).logits


@torch.no_grad()
def window(model, blocks, start, stop, x, tokens, **given):
    """g(x): blocks `start` to `stop - 1` on the stream x, called as the model's own forward calls them."""
    kept, out = list(blocks), {}
    try:
        blocks[start] = _Passing(kept[start], lambda run, _: run(x))

        def last(run, h):
            out["g"] = run(x if start == stop - 1 else h)
            return out["g"]

        blocks[stop - 1] = _Passing(kept[stop - 1], last)
        model(tokens, use_cache=False, **given)
        return out["g"]
    finally:
        for b in range(start, stop):
            blocks[b] = kept[b]


def states(model, blocks, start, stop, tokens, rule, n_iters, beta=0.5, **given):
    """(h_0 … h_K, z_0 … z_K) by the rule's equation."""
    g = lambda x: window(model, blocks, start, stop, x, tokens, **given)  # noqa: E731
    _, x0 = logits_and_entry(model, blocks, start, stop, None, tokens, **given)
    hs, zs = [x0], [x0]
    for _ in range(n_iters):
        h, gh = hs[-1], g(hs[-1])
        damped = (1 - 1 / n_iters) * h + gh / n_iters
        if rule == "repeat":
            hs.append(gh), zs.append(gh)
        elif rule == "abbie-d":
            hs.append(gh + h), zs.append(gh)
        elif rule == "damped":
            hs.append(damped), zs.append(damped)
        else:
            hs.append(damped), zs.append(beta * g(x0) + (1 - beta) * damped)
    return hs, zs
