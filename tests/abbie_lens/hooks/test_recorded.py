"""from_cache: another program's lists read as an IterationCache whose rows are those that our own run has."""

from dataclasses import dataclass

import pytest
import torch

from abbie_lens import from_cache
from abbie_lens.errors import InputError, SiteError
from abbie_lens.loops import AbbieC


@dataclass
class Entry:
    """The shape of nnsight's: what a module gave and what it was given."""

    output: object = None
    inputs: object = None


@dataclass
class Saved:
    """A saved proxy of older versions."""

    value: object


@pytest.fixture
def run(tiny_model):
    """A model, and what forward hooks of one's own and a recorder like nnsight's would keep of it."""
    model = tiny_model(AbbieC())
    tokens = torch.randint(0, 100, (2, 5), generator=torch.Generator().manual_seed(4))
    seen = {"body.1.hook_resid_post": [], "body.1.attn.hook_pattern": []}
    hooks = [(name, lambda t, hook: seen[hook.name].append(t)) for name in seen]
    model.run_with_hooks(tokens, n_iters=3, fwd_hooks=hooks)
    _, cache = model.run_with_cache(tokens, n_iters=3)
    return model, seen, cache


def test_rows_follow_the_iteration(run):
    _, seen, ours = run
    theirs = {name: [Entry((t, None)) for t in rows] for name, rows in seen.items()}
    theirs["embed.hook_out"] = Entry(ours["embed.hook_out"])
    theirs["loop.hook_state"] = [Saved(t) for t in ours["loop.hook_state"]]
    for recorded in (seen, theirs):
        cache = from_cache(recorded)
        assert cache.n_iters == 3
        for name in recorded:
            # our run with a pattern asked for, and one without, use two kernels
            torch.testing.assert_close(cache[name], ours[name])
            if name != "embed.hook_out":
                for i in (0, 2, -1):
                    assert torch.equal(cache[f"{name}@{i}"], cache[name][i])
    with pytest.raises(SiteError, match="outside the loop"):
        from_cache(theirs)["embed.hook_out@0"]


def test_stock_tools_work_on_it(run):
    model, _, ours = run
    plain = {n: ours[n] for n in ours if not ours.iterations(n)}
    lists = {n: [ours[f"{n}@{i}"] for i in ours.iterations(n)] for n in ours if ours.iterations(n)}
    cache = from_cache(plain | lists, model=model)
    torch.testing.assert_close(
        cache.unroll().accumulated_resid(), ours.unroll().accumulated_resid()
    )


@pytest.mark.parametrize(
    ("recorded", "says"),
    [
        ([torch.ones(2)], "recorded: list"),
        ({}, "recorded: empty"),
        ({"a": []}, "a: an empty list"),
        ({"a@1": torch.ones(2)}, "no site name"),
        ({"a": [torch.ones(2), 3.0]}, "a@1: float"),
        ({"a": [Entry(None)]}, "a@0: Entry"),
        ({"a": [torch.ones(2)] * 3, "b": [torch.ones(2)] * 2}, r"b: 2 rows, expected 3.*a 3"),
        ({"a": [torch.ones(2)] * 3, "loop.hook_state": [torch.ones(2)] * 3}, "expected 4"),
        ({"a": [torch.ones(2), torch.ones(3)]}, r"shapes \(2,\) and \(3,\)"),
    ],
)
def test_what_cannot_be_an_iteration_axis_is_named(recorded, says):
    with pytest.raises(InputError, match=says):
        from_cache(recorded)


def test_ragged_lists_are_taken_when_asked_for():
    cache = from_cache({"a": [torch.ones(2), torch.ones(3)], "b": [torch.ones(2)]}, ragged=True)
    assert cache["a@1"].shape == (3,)
    assert cache.iterations("b") == [0]
