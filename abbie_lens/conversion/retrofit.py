"""A looped model cut out of a plain one: its blocks, chosen, as Head, Body and Tail with an adapter between them.

    blocks of the source, numbered from 0:   head = 0-3,  body = 10-17,  tail = 18-21   (TinyLlama's, arXiv 2511.07384)
    e = Head(E[x]),  h_{k+1} = Body(A [h_k; e]),  logits = W_U N(Tail(h_r))

Blocks that are not chosen are dropped. At depth 1 from a state of 0, and with an adapter that passes e, that is the plain
model of the chosen blocks. Under another family than `retrofit` the blocks are joined by its rule; low-rank adapters
(`relaxed`) begin as nothing, so that the first loss is that of the rule alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from abbie_lens.components.adapted import Adapter
from abbie_lens.errors import InputError
from abbie_lens.loops import LoopFamily, Retrofit
from abbie_lens.model import HookedLoopedTransformer

ADAPTERS = ("sum", "input", "random")


@torch.no_grad()
def cut(
    source: HookedLoopedTransformer,
    head: Sequence[int],
    body: Sequence[int],
    tail: Sequence[int],
    *,
    n_iters: int = 4,
    adapter: str = "sum",
    untie: bool | None = None,
    loop: LoopFamily | None = None,
    n_ctx: int | None = None,
    seed: int = 0,
) -> HookedLoopedTransformer:
    """The looped model of these blocks of `source`, counted over its Head, Body and Tail; weights are copied.

    `adapter`: how A begins: `sum` [I | I], so that nothing of either is lost; `input` [0 | I], so that every depth is
    depth 1; or `random`, as the published conversions are, drawn from `seed`. `untie` gives the model an unembedding
    of its own where the source has none; None: as published, in the family `retrofit` alone. `loop` None: that family
    with its usual settings. `n_ctx` another context, for a model whose positions are not learned.
    Errors: InputError for block numbers that the source does not have or blocks that are more than plain ones.
    """
    chosen = {"head": list(head), "body": list(body), "tail": list(tail)}
    blocks = [*source.head, *source.body, *source.tail]
    for stage, numbers in chosen.items():
        for b in numbers:
            if not 0 <= b < len(blocks):
                raise InputError(
                    f"{stage}={numbers}: {b} is none of the blocks 0 to {len(blocks) - 1}."
                )
    if not chosen["body"]:
        raise InputError("body=[]: expected at least one block to loop over.")
    if adapter not in ADAPTERS:
        raise InputError(f"adapter={adapter!r}: expected one of {ADAPTERS}.")
    if source.cfg.value_embeddings != "none":
        raise InputError("source: it has value embeddings, which belong to a block's number.")
    if n_ctx not in (None, source.cfg.n_ctx) and source.pos_embed is not None:
        raise InputError(f"n_ctx={n_ctx}: the source has learned {source.cfg.n_ctx} positions.")
    loop = Retrofit() if loop is None else loop
    untie = isinstance(loop, Retrofit) if untie is None else untie
    cfg = source.cfg.replace(
        **{f"n_{stage}_blocks": len(numbers) for stage, numbers in chosen.items()},
        loop=loop,
        n_ctx=source.cfg.n_ctx if n_ctx is None else n_ctx,
        n_iters=n_iters,
        tie_word_embeddings=source.cfg.tie_word_embeddings and not untie,
        dtype=str(source.dtype).removeprefix("torch."),
        seed=seed,
        model_name=f"{source.name} retrofitted",
    )
    model = HookedLoopedTransformer(cfg, tokenizer=source.tokenizer)
    copies = [("embed", source.embed, model.embed), ("ln_final", source.ln_final, model.ln_final)]
    if source.pos_embed is not None and model.pos_embed is not None:
        copies.append(("pos_embed", source.pos_embed, model.pos_embed))
    for stage, numbers in chosen.items():
        copies += [
            (f"block {b}", blocks[b], ours)
            for b, ours in zip(numbers, getattr(model, stage), strict=True)
        ]
    for name, theirs, ours in copies:
        weights = theirs.state_dict()
        if weights.keys() != ours.state_dict().keys():
            raise InputError(f"source: {name} has parts of its loop, and is no plain one.")
        ours.load_state_dict(weights)
    model.unembed.weight.copy_(source.unembed.weight)
    for part in model.loop.modules():
        if isinstance(part, Adapter):
            part.up.weight.zero_()
    if isinstance(loop, Retrofit) and adapter != "random":
        eye = torch.eye(cfg.d_model)
        first = eye if adapter == "sum" else torch.zeros_like(eye)
        model.loop.adapter.weight.copy_(torch.cat([first, eye], dim=1))
    return model.to(source.device).eval()
