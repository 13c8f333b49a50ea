"""Every family, with the settings that make it another function, as the smallest model that shows it."""

import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.loops import (
    FAMILIES,
    FPRM,
    HRM,
    UTACT,
    AbbieD,
    AdaPonder,
    LoopUS,
    MoR,
    Parcae,
    Ponder,
    Ponder2,
    Relaxed,
    Spiral,
    ZeroPt,
)

# Gates that are not trained lie about 1/2: at this threshold some tokens halt at each, and some never.
_VARIANTS = {
    "abbie-d-skip_first": AbbieD("skip_first"),
    "abbie-d-literal": AbbieD("literal"),
    "0pt-readout": ZeroPt(norm="readout"),
    "ponder-top_k": Ponder(top_k=7),
    "ponder-trained_scale": Ponder(first_scale="trained"),
    "adaponder": AdaPonder(max_iters=3, threshold=0.3, gate_init=0.5),
    "adaponder-repeat_last": AdaPonder(
        max_iters=1, beyond="repeat_last", threshold=0.3, gate_init=0.5
    ),
    "adaponder-thaw": AdaPonder(max_iters=3, threshold=0.3, gate_init=0.5, freeze=False),
    "parcae-bare": Parcae(input_norm=False),
    "spiral-mesh": Spiral(merge="mesh"),
    "spiral-mean": Spiral(pooling="mean", beyond="refuse"),
    "spiral-no_overlap": Spiral(schedule=(3, 2), no_overlap=True),
    # Some tokens halt at the second iteration, the others at the third.
    "ut-act": UTACT(gate_init=0.25),
    "ut-act-thaw": UTACT(gate_init=0.25, freeze=False),
    "hrm-one_cycle": HRM(low_cycles=1, backprop_cycles=(1,)),
    "relaxed-refuse": Relaxed(rank=2, max_iters=3, beyond="refuse"),
    "relaxed-abbie_d": Relaxed(rank=2, carry="abbie-d", plain_first=True),
    "relaxed-steps": Relaxed(rank=2, max_iters=3, carry="steps", plain_first=True, step_init=0.4),
    "fprm-step_size": FPRM(step_size=0.6),
    "ponder-2-raw": Ponder2(thought="raw"),
    "mor-token": MoR(routing="token"),
    "mor-shared": MoR(kv="shared", capacity=(0.8, 1.0, 1.0)),
    "mor-repeat_last": MoR(max_iters=2, beyond="repeat_last"),
    "mor-token-repeat_last": MoR("token", max_iters=2, beyond="repeat_last", kv="shared"),
    "loopus-change": LoopUS(confidence="change", dt_rank=3),
}
LOOPS = {name: cls() for name, cls in FAMILIES.items()} | _VARIANTS


def make(loop, tokenizer=None, **changes):
    """A fresh model of a loop, or of its name in LOOPS, in eval mode, with weights large enough to matter.

    In the shape of the family's preset, with two blocks in the Body and trained depth 2.
    """
    loop = LOOPS[loop] if isinstance(loop, str) else loop
    sizes = dict(
        d_model=32, n_heads=4, d_head=8, d_mlp=64, n_ctx=96, d_vocab=100, seed=0,
        n_head_blocks=1, n_tail_blocks=1,
    )  # fmt: skip
    chosen = dict(n_body_blocks=2, n_iters=2, initializer_range=0.15)
    cfg = LoopedConfig(loop=loop, **(sizes | loop.shape(32) | chosen | changes))
    return HookedLoopedTransformer(cfg, tokenizer=tokenizer).eval()


@torch.no_grad()
def walk(model, tokens, n_iters, **given):
    """The States after 0 … n_iters iterations."""
    states = [model.begin(tokens, n_iters, **given)]
    for _ in range(n_iters):
        states.append(model.step(states[-1]))
    return states
