"""Hooks by address: they fire where they say, nowhere else, and leave nothing behind."""

import threading

import pytest
import torch

from abbie_lens.errors import SiteError
from abbie_lens.hooks.points import Site


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (2, 7), generator=torch.Generator().manual_seed(3))


def zero(tensor, hook):
    return torch.zeros_like(tensor)


def test_a_hook_at_iteration_2_changes_nothing_before_it(tiny_model, tokens):
    model = tiny_model()
    with torch.no_grad():
        _, clean = model.run_with_cache(tokens, n_iters=4)
        with model.hooks(fwd_hooks=[("body.0.hook_resid_pre@2", zero)]):
            _, hooked = model.run_with_cache(tokens, n_iters=4)
    for name in clean:
        if name.startswith("body."):
            assert torch.equal(clean[f"{name}@:2"], hooked[f"{name}@:2"]), name
        elif name.startswith("loop."):
            assert torch.equal(clean[f"{name}@:3"], hooked[f"{name}@:3"]), name
            assert not torch.equal(clean[f"{name}@3"], hooked[f"{name}@3"])
    assert not torch.equal(clean["unembed.hook_out"], hooked["unembed.hook_out"])


def test_hooks_see_the_loops_own_counter(tiny_model, tokens):
    model, seen = tiny_model(), []
    note = lambda tensor, hook: seen.append((hook.name, hook.iteration))  # noqa: E731
    addresses = [
        "body.1.hook_resid_post",
        "loop.hook_state@-1",
        "loop.hook_readout@1:3",
        "tail.0.hook_resid_pre",
    ]
    model.run_with_hooks(tokens, n_iters=3, fwd_hooks=[(a, note) for a in addresses])
    assert seen == [
        ("body.1.hook_resid_post", 0), ("loop.hook_readout", 1), ("body.1.hook_resid_post", 1), ("loop.hook_readout", 2),
        ("body.1.hook_resid_post", 2), ("loop.hook_state", 3), ("tail.0.hook_resid_pre", None),
    ]  # fmt: skip


def test_hooks_follow_the_stepping_interface(tiny_model, tokens):
    model, seen = tiny_model(), []
    with model.hooks(
        fwd_hooks=[("body.0.hook_resid_pre", lambda t, hook: seen.append(hook.iteration))]
    ):
        state = model.begin(tokens, n_iters=5)
        middle = model.step(model.step(state))
        model.step(state)
        model.step(middle)
    assert seen == [0, 1, 0, 2]


def test_patching_the_state_is_a_hook_on_the_state(tiny_model, tokens):
    """`loop.hook_state@k` is what Body application k reads, so a patch there equals replacing the State's h."""
    model = tiny_model()
    with torch.no_grad():
        patched = model.run_with_hooks(tokens, n_iters=3, fwd_hooks=[("loop.hook_state@1", zero)])
        state = model.step(model.begin(tokens, n_iters=3))
        state = state.replace(h=torch.zeros_like(state.h))
        assert torch.equal(patched, model.readout(model.step(model.step(state))))


def test_backward_hooks_by_address(tiny_model, tokens):
    model, seen = tiny_model(), {}

    def see(grad, hook):
        seen[hook.iteration] = grad.clone()

    with model.hooks(bwd_hooks=[("loop.hook_state@1:3", see)]):
        model(tokens, n_iters=3, return_type="loss").backward()
    assert sorted(seen) == [1, 2]
    expected = model.run_with_cache(
        tokens, n_iters=3, incl_bwd=True, return_type="loss", names_filter="loop.hook_state"
    )[1]
    torch.testing.assert_close(seen[2], expected["loop.hook_state_grad@2"])

    model.zero_grad()
    with model.hooks(bwd_hooks=[("loop.hook_state@0", lambda grad, hook: torch.zeros_like(grad))]):
        model(tokens, n_iters=3, return_type="loss").backward()
    assert model.head[0].attn.q_proj.weight.grad.abs().max() == 0, (
        "the replaced gradient must be what flows on"
    )
    assert model.body[0].attn.q_proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("body.0.hook_resid_per", "Nearest: body.0.hook_resid_pre"),
        ("body.7.hook_resid_pre", "no such site"),
        ("body.0.hook_resid_pre@4", "allowed: 0 to 3"),
        ("loop.hook_state@5", "allowed: 0 to 4"),
        ("head.0.hook_resid_pre@0", "outside the loop"),
    ],
)
def test_unknown_addresses_raise_with_what_is_allowed(tiny_model, tokens, address, says):
    model = tiny_model()
    with pytest.raises(SiteError, match=says):
        model.run_with_hooks(tokens, n_iters=4, fwd_hooks=[(address, zero)])
    with pytest.raises(SiteError, match=says):
        model.run_with_cache(tokens, n_iters=4, names_filter=[address])
    assert not any(site.fwd_hooks for site in model.hook_dict.values()), (
        "a refused hook must leave nothing behind"
    )


def test_an_error_in_a_hook_removes_all_of_them(tiny_model, tokens):
    model = tiny_model()

    def fail(tensor, hook):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.run_with_hooks(
            tokens, fwd_hooks=[("body.0.hook_resid_pre", fail), ("body.1.hook_resid_pre", zero)]
        )
    assert not any(site._forward_hooks for site in model.hook_dict.values())
    assert model.asked == []


def test_permanent_hooks_of_transformerlens_still_work(tiny_model, tokens):
    model = tiny_model()
    model.add_perma_hook("body.0.hook_mlp_out", zero)
    with torch.no_grad():
        permanent = model(tokens)
        model.reset_hooks(including_permanent=True)
        assert torch.equal(
            permanent, model.run_with_hooks(tokens, fwd_hooks=[("body.0.hook_mlp_out", zero)])
        )
        assert not torch.equal(permanent, model(tokens))


def test_explicit_attention_only_when_scores_or_patterns_are_named(tiny_model, tokens, monkeypatch):
    model, explicit = tiny_model(), []
    inner = type(model.body[0].attn)._explicit
    monkeypatch.setattr(
        type(model.body[0].attn),
        "_explicit",
        lambda self, *a: explicit.append(self.hook_z.name) or inner(self, *a),
    )
    model.run_with_cache(tokens, n_iters=2, names_filter=["loop.hook_state", "body.0.attn.hook_z"])
    assert explicit == []
    model.run_with_cache(tokens, n_iters=2, names_filter=["body.1.attn.hook_pattern"])
    assert explicit == ["body.1.attn.hook_z"] * 2


def test_threads_never_see_each_others_hooks(tiny_model):
    """8 threads, 200 runs with different prompts, depths and hooks on one model; each equals its own run alone."""
    model = tiny_model()
    g = torch.Generator().manual_seed(4)
    jobs = [
        (torch.randint(0, 100, (1, 5 + i % 4), generator=g), 1 + i % 4, i % 3, i % 2)
        for i in range(200)
    ]

    @torch.no_grad()
    def run(job):
        tokens, r, kind, block = job
        scale = lambda t, hook: t * (1 + 0.1 * block)  # noqa: E731
        hooks = [
            [],
            [(f"body.{block}.hook_resid_pre@{r - 1}", scale)],
            [(f"body.{block}.hook_mlp_out", zero)],
        ][kind]
        with model.hooks(fwd_hooks=hooks):  # held open across the run: the dashboard's worst case
            out, cache = model.run_with_cache(
                tokens,
                n_iters=r,
                names_filter=["loop.hook_state", *(["body.0.attn.hook_pattern"] if block else [])],
            )
        return out, cache["loop.hook_state"]

    alone = [run(job) for job in jobs]
    together, failed = [None] * len(jobs), []

    def work(start):
        try:
            for i in range(start, len(jobs), 8):
                together[i] = run(jobs[i])
        except Exception as error:  # a thread's failure must fail the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_every_site_knows_its_name_and_block(tiny_model):
    model = tiny_model()
    assert all(
        isinstance(site, Site) and site.name == name for name, site in model.hook_dict.items()
    )
    assert model.hook_dict["body.1.hook_resid_pre"].layer() == 1
