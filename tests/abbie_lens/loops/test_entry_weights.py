"""What a loop says of how z_r is made of h_0 and updates, against the run itself."""

import pytest
import torch

from abbie_lens.bridged.rules import Anchored, Damped
from abbie_lens.loops import FAMILIES, AbbieD, Parcae, PonderNet, Relaxed, Retrofit, Std, ZeroPt
from tests.abbie_lens.families import make

LINEAR = {
    "std": Std(),
    "pondernet": PonderNet(),
    **{residual: AbbieD(residual) for residual in ("between", "skip_first", "literal")},
    "relaxed": Relaxed(rank=2),
    "relaxed-d": Relaxed(rank=2, carry="abbie-d"),
    "relaxed-steps": Relaxed(rank=2, max_iters=3, carry="steps", plain_first=True, step_init=0.4),
    "damped": Damped(),
    "anchored": Anchored(beta=0.3),
    "anchored-whole": Anchored(beta=0.3, inner="whole"),
    "parcae": Parcae(),
    "retrofit": Retrofit(),
    "0pt-none": ZeroPt(norm="none"),
}


@pytest.mark.parametrize("loop", LINEAR.values(), ids=LINEAR)
@torch.no_grad()
def test_reads_add_up_to_what_is_read_of_z(loop):
    model = make(loop).double()
    last = model.cfg.n_body_blocks - 1
    ends = ["body.0.hook_resid_pre", f"body.{last}.hook_resid_post", "loop.hook_readout"]
    read = torch.randn(32, generator=torch.Generator().manual_seed(0)).double()
    for r in (0, 1, 2, 5):
        tokens = torch.arange(6)[None]
        _, cache = model.run_with_cache(tokens, n_iters=r, names_filter=["loop.hook_state", *ends])
        found = loop.read_back(model, r, read)
        total = cache["loop.hook_state@0"] @ found.start
        assert len(found.updates) == r and len(found.injected) in (0, r)
        state = model.begin(tokens, n_iters=r)
        for i in range(r):
            total = total + (cache[f"{ends[1]}@{i}"] - cache[f"{ends[0]}@{i}"]) @ found.updates[i]
            if found.added is not None:
                total = total + found.added(state) @ found.injected[i]
        torch.testing.assert_close(total, cache[f"{ends[2]}@{r}"] @ read, rtol=1e-9, atol=1e-9)


def test_a_later_carry_doubles_what_was_there():
    assert AbbieD("between").entry_weights(4) == (8, 4, 2, 1, 1)
    assert AbbieD("literal").entry_weights(4) == (16, 8, 4, 2, 1)
    assert AbbieD("skip_first").entry_weights(4) == (8, 8, 4, 2, 1)


def test_a_carry_that_norms_or_asks_the_state_says_none():
    for name in ("lt", "ouro", "0pt", "huginn", "fprm", "loopus", "mor", "ut-act", "hrm", "spiral"):
        model = make(name)
        assert model.cfg.loop.read_back(model, 2, torch.ones(32)) is None, name


def test_the_docs_have_the_weights_of_every_loop_that_has_them(project_root):
    """The table of docs/attribution.md is what the code says at r = 4."""
    loops = [cls() for cls in FAMILIES.values()] + [AbbieD("skip_first"), AbbieD("literal")]
    loops += [
        Relaxed(carry="abbie-d", plain_first=True),
        Damped(),
        Anchored(),
        Anchored(inner="whole"),
    ]
    rows = ["| loop, r = 4 | h₀ | F₀ | F₁ | F₂ | F₃ |", "|---|---|---|---|---|---|"]
    for loop in loops:
        weights = loop.entry_weights(4)
        if weights is not None:
            rows.append("| " + " | ".join([loop.label, *(f"{w:g}" for w in weights)]) + " |")
    table = "\n".join(rows)
    assert table in (project_root / "docs" / "attribution.md").read_text(encoding="utf-8"), table
