"""What holds of every loop, whatever its equation: causality, caching, stepping, padding, files, hooks, training."""

import copy
import threading

import pytest
import torch

from abbie_lens import HookedLoopedTransformer
from abbie_lens.errors import AbbieLensError, InputError, SiteError
from abbie_lens.loops import FAMILIES
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import LOOPS, make, walk

CONCEPT = ["loop.hook_state", "loop.hook_readout"]
DRAWN = [name for name, loop in LOOPS.items() if loop.draws_state]
every_loop = pytest.mark.parametrize("name", LOOPS)


def test_no_family_is_left_out():
    assert {loop.family for loop in LOOPS.values()} == set(FAMILIES)


@every_loop
@torch.no_grad()
def test_later_tokens_leave_earlier_logits_bit_equal(tokens, name):
    model, changed = make(name), tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 100
    before, after = model(tokens, n_iters=3), model(changed, n_iters=3)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])
    assert not torch.equal(before[:, -1:], model(tokens.flip(1).roll(-1, 1), n_iters=3)[:, -1:])


@every_loop
@torch.no_grad()
def test_a_restart_forgets_the_input_unless_the_loop_reads_it_again(tokens, name):
    """From another input's state a run ends where that input does, or, with injection, elsewhere."""
    model = make(name).double()
    loop, own, other = model.cfg.loop, tokens[:1], (tokens[:1] * 7 + 3) % 100
    there = model.begin(other, 3)
    moved = loop.restart(model, model.begin(own, 3), there.h)
    for _ in range(3):
        there, moved = model.step(there), model.step(moved)
    off = (moved.h - there.h).norm() / there.h.norm()
    assert off > 0.01 if loop.reinjects else off < 1e-12


@every_loop
@pytest.mark.parametrize("positions", ["rotary", "standard"])
@torch.no_grad()
def test_cached_logits_equal_uncached(name, positions):
    model = make(name, positional_embedding_type=positions, n_key_value_heads=2)
    tokens = torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(6))
    expected = model(tokens, n_iters=3)
    past, pieces = {}, []
    for chunk in tokens.split([5, 1, 1, 4, 1], dim=1):
        logits, past = model.run_cached(chunk, past, 3)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-4, rtol=0)
    passes = {("body", k) for k in range(model.rows("body.0.hook_resid_pre", 3))}
    ends = {("head", 0), ("tail", 3)} if model.cfg.n_head_blocks else set()
    assert {slot[:2] for slot in past if slot[0] not in ("run", "loop")} == passes | ends
    assert ("run", 3) in past


@every_loop
@torch.no_grad()
def test_forward_is_begin_steps_readout_and_decode(tokens, name):
    model = make(name)
    states = walk(model, tokens, 3)
    readouts = [model.readout(state) for state in states]
    assert torch.equal(readouts[-1], model(tokens, n_iters=3))
    assert torch.equal(readouts[1], model(tokens, n_iters=1)), "the planned depth changes nothing"
    decoded = model.decode(torch.stack([state.z for state in states]), tokens=tokens)
    torch.testing.assert_close(decoded, torch.stack(readouts), atol=1e-5, rtol=0)
    assert [state.k for state in states] == [0, 1, 2, 3]
    with pytest.raises(AttributeError):
        states[0].k = 5
    assert torch.equal(model.step(states[1]).h, states[2].h), "a step changes no State"
    assert len({r.sum().item() for r in readouts}) == 4, "an iteration that does nothing"


@every_loop
@torch.no_grad()
def test_restarting_from_the_same_state_changes_nothing_and_from_another_does(tokens, name):
    model = make(name)
    state, after, _ = walk(model, tokens, 2)
    restart = lambda state, h: model.step(model.cfg.loop.restart(model, state, h)).h  # noqa: E731
    torch.testing.assert_close(restart(state, state.h), after.h, atol=1e-5, rtol=0)
    later = model.step(after).h
    torch.testing.assert_close(restart(after, after.h), later, atol=1e-5, rtol=0)
    assert not torch.allclose(restart(after, after.h.flip(-1)), later, atol=1e-3)


@every_loop
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_nothing(tokens, name, side):
    model, pad, ones = make(name), torch.zeros(2, 4, dtype=torch.long), torch.ones_like(tokens)
    join = lambda a: torch.cat([pad, a] if side == "left" else [a, pad], 1)  # noqa: E731
    padded, mask = join(tokens), join(ones)
    real = slice(4, None) if side == "left" else slice(0, 9)
    expected = model(tokens, n_iters=3)
    got, cache = model.run_with_cache(
        padded, n_iters=3, attention_mask=mask, names_filter="loop.hook_readout"
    )
    decoded = model.decode(cache["loop.hook_readout@3"], attention_mask=mask, tokens=padded)
    loss = model(padded, n_iters=3, attention_mask=mask, return_type="loss")
    torch.testing.assert_close(got[:, real], expected, atol=5e-5, rtol=0)
    torch.testing.assert_close(decoded[:, real], expected, atol=5e-5, rtol=0)
    whole = model(tokens, n_iters=3, return_type="loss")
    torch.testing.assert_close(loss, whole, atol=5e-5, rtol=0)
    assert got.isfinite().all()
    wrong = model(padded, n_iters=3)[:, real]
    assert side == "right" or (wrong - expected).abs().max() > 1e-3


@every_loop
@torch.no_grad()
def test_rows_of_unequal_length_do_not_mix(tokens, name):
    """Each row of a batch padded to its own length is what it is alone."""
    model, mask = make(name), torch.ones(2, 9, dtype=torch.long)
    mask[0, :3] = 0
    mask[1, 6:] = 0
    both = model(tokens, n_iters=3, attention_mask=mask)
    for row, real in ((0, slice(3, None)), (1, slice(0, 6))):
        alone = model(tokens[row : row + 1, real], n_iters=3)
        torch.testing.assert_close(both[row : row + 1, real], alone, atol=5e-5, rtol=0)


@every_loop
@torch.no_grad()
def test_a_saved_model_is_the_same(tokens, name, tmp_path):
    model = make(name)
    model.save_pretrained(tmp_path / "model")
    again = HookedLoopedTransformer.from_pretrained(tmp_path / "model")
    assert again.cfg.loop == model.cfg.loop
    assert torch.equal(again(tokens, n_iters=3), model(tokens, n_iters=3))


@every_loop
@torch.no_grad()
def test_a_label_is_the_row_and_every_site_has_its_rows(tokens, name):
    model, fired = make(name), {}
    note = lambda x, hook: fired.setdefault(hook.name, []).append(hook.iteration)  # noqa: E731
    looped = [site for site, point in model.hook_dict.items() if point.looped]
    with model.hooks([(site, note) for site in looped]):
        logits, cache = model.run_with_cache(tokens, n_iters=3)
    assert torch.equal(logits, cache["unembed.hook_out"])
    for site in looped:
        n_rows = model.rows(site, 3)
        assert fired[site] == list(range(n_rows)) == cache.iterations(site), site
        rows = [cache[f"{site}@{i}"] for i in range(n_rows)]
        assert torch.equal(cache[f"{site}@-1"], rows[-1])
        if len({row.shape for row in rows}) > 1:
            with pytest.raises(SiteError, match="shape changes"):
                cache[site]
        else:
            stack = cache[site]
            assert all(torch.equal(stack[i], row) for i, row in enumerate(rows))
    torch.testing.assert_close(logits, model(tokens, n_iters=3), atol=1e-4, rtol=0)


# Row 1 of HRM's low blocks is the second inner cycle of the first outer one, which leads to h_1.
LEADS_TO = {"hrm": 1}


@every_loop
@pytest.mark.parametrize("site", ["loop.hook_state@1", "body.0.hook_resid_post@1"])
@torch.no_grad()
def test_a_hook_changes_nothing_before_its_iteration(tokens, name, site):
    model = make(name)
    clean, expected = model.run_with_cache(tokens, n_iters=3, names_filter=CONCEPT)
    noise = torch.randn(32, generator=torch.Generator().manual_seed(0))
    with model.hooks([(site, lambda x, hook: x + noise)]):
        logits, cache = model.run_with_cache(tokens, n_iters=3, names_filter=CONCEPT)
    state, readout = cache["loop.hook_state"], cache["loop.hook_readout"]
    first = 1 if site.startswith("loop") else LEADS_TO.get(name, 2)
    assert torch.equal(state[:first], expected["loop.hook_state"][:first])
    assert torch.equal(readout[0], expected["loop.hook_readout"][0])
    assert not torch.equal(state[first:], expected["loop.hook_state"][first:])
    assert (logits - clean).abs().max() > 1e-3
    torch.testing.assert_close(model(tokens, n_iters=3), clean)


@pytest.mark.parametrize("name", DRAWN)
@torch.no_grad()
def test_a_drawn_state_is_chosen_by_seed_or_given(tokens, name):
    model = make(name)
    run = lambda **given: model(tokens, n_iters=2, **given)  # noqa: E731
    assert torch.equal(run(), run(seed=0)) and not torch.equal(run(seed=0), run(seed=1))
    h = model.begin(tokens, 2, seed=1).h
    assert torch.equal(run(initial_state=h), run(seed=1))
    twice = tokens[:1].expand(2, -1)
    assert torch.equal(*model.begin(twice, 2).h)
    # A product with few columns (Parcae's gates of values) rounds by row.
    torch.testing.assert_close(*model(twice, n_iters=2), atol=1e-5, rtol=0)
    _, cache = model.run_with_cache(tokens, n_iters=2, seed=1, names_filter="loop.hook_state@0")
    assert torch.equal(cache["loop.hook_state@0"], h)
    with pytest.raises(InputError, match=r"initial_state: shape \(2, 9, 31\)"):
        run(initial_state=h[..., 1:])


@pytest.mark.parametrize("name", sorted(set(LOOPS) - set(DRAWN)))
def test_a_family_without_a_drawn_state_refuses_one(tokens, name):
    with pytest.raises(InputError, match="draws no initial state"):
        make(name)(tokens, seed=0)


# A chunk of one token is its own mean, whatever the weights that its softmax is taken of.
NO_GRADIENT = {"spiral": {"loop.pool.2.weight", "loop.spread.2.weight", "loop.spread.2.bias"}}
NO_GRADIENT["spiral-mesh"] = NO_GRADIENT["spiral"]


@every_loop
def test_a_training_step_moves_every_parameter(tokens, name):
    model = make(name).train()
    depth = 1 if name == "adaponder-repeat_last" else 3
    loss, nll = Objective(model, Recipe(loss="step"))(tokens, None, depth, 1.0)
    loss.backward()
    assert loss.isfinite() and nll.isfinite()
    idle = set()
    for parameter, value in model.named_parameters():
        if value.numel():  # a tied unembedding has none of its own
            assert value.grad is not None and value.grad.isfinite().all(), parameter
            if not value.grad.any():
                idle.add(parameter)
    assert idle == NO_GRADIENT.get(name, set())


@every_loop
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_runs(tokens, name, dtype):
    model = make(name)
    full, half = model(tokens, n_iters=3), model.to(dtype)(tokens, n_iters=3)
    assert half.dtype == dtype and half.isfinite().all()
    if not name.startswith("adaponder"):  # a gate beside its threshold may close
        agree = (half.argmax(-1) == full.argmax(-1)).float().mean()
        assert agree >= 0.6, "chance is a hundredth"


# Parcae's B begins as the identity.
NOT_DRAWN = {"parcae": {"loop.injection.B.weight"}}
NOT_DRAWN["parcae-bare"] = NOT_DRAWN["parcae"]


@every_loop
@torch.no_grad()
def test_the_control_has_other_weights_and_the_same_shape(tokens, name):
    model = make(name)
    control = model.randomized(seed=7)
    assert torch.equal(control(tokens), model.randomized(seed=7)(tokens))
    shapes = lambda m: {k: v.shape for k, v in m.state_dict().items()}  # noqa: E731
    assert shapes(control) == shapes(model)
    for key, value in control.named_parameters():
        if value.ndim > 1 and value.numel():
            same = torch.equal(value, model.get_parameter(key))
            assert same == (key in NOT_DRAWN.get(name, set())), key


@every_loop
@torch.no_grad()
def test_unrolling_is_exact_or_refused(tokens, name):
    model = make(name)
    logits, cache = model.run_with_cache(tokens, n_iters=3)
    if not model.cfg.loop.unrolls:
        with pytest.raises(SiteError, match=f"unroll: {model.cfg.loop.family} has no plain"):
            cache.unroll()
        return
    plain = cache.unroll()
    stack = plain.accumulated_resid(apply_ln=True)
    assert len(stack) == model.cfg.n_layers(3) + 1
    torch.testing.assert_close(model.unembed(stack[-1]), logits, atol=1e-4, rtol=0)
    if model.cfg.loop.sums_plainly(3):
        last = f"blocks.{model.cfg.n_layers(3) - 1}.hook_resid_post"
        torch.testing.assert_close(plain.decompose_resid().sum(0), plain[last], atol=1e-4, rtol=0)
    else:
        with pytest.raises(
            SiteError, match=f"decompose_resid: in {model.cfg.loop.family} at r = 3"
        ):
            plain.decompose_resid()


@every_loop
def test_generation_is_the_same_cached_and_its_cache_has_all_rows(tokens, name):
    model, prompt = make(name), tokens[:1, :5]
    given = dict(max_new_tokens=5, n_iters=3, temperature=0)
    whole, cache = model.generate(prompt, return_cache=True, names_filter=CONCEPT, **given)
    assert torch.equal(whole, model.generate(prompt, use_kv_cache=False, **given))
    assert torch.equal(whole[:, :5], prompt)
    assert cache["loop.hook_state"].shape == (4, 1, 10, 32)
    with torch.no_grad():
        decoded = model.decode(cache["loop.hook_readout@3"], tokens=whole)
    assert torch.equal(decoded[0, 4:-1].argmax(-1), whole[0, 5:])


@every_loop
@torch.no_grad()
def test_a_deep_copy_is_independent(tokens, name):
    model = make(name)
    expected = model(tokens)
    copied, seen = copy.deepcopy(model), []
    for parameter in copied.parameters():
        parameter.mul_(0.5)
    note = lambda x, hook: seen.append(hook.iteration)  # noqa: E731
    copied.run_with_hooks(tokens, n_iters=2, fwd_hooks=[("loop.hook_state", note)])
    assert seen == [0, 1, 2]
    assert torch.equal(model(tokens), expected)


@every_loop
def test_threads_do_not_see_each_others_hooks(tokens, name):
    model, results = make(name), {}
    with torch.no_grad():
        clean = model(tokens, n_iters=2)
    started = threading.Barrier(2)

    def run(scale):
        with torch.no_grad(), model.hooks([("loop.hook_state@1", lambda x, hook: scale * x)]):
            started.wait(30)
            results[scale] = [model(tokens, n_iters=2) for _ in range(2)]

    threads = [threading.Thread(target=run, args=(scale,)) for scale in (1.0, -1.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(torch.equal(logits, clean) for logits in results[1.0])
    assert torch.equal(*results[-1.0]) and not torch.equal(results[-1.0][0], clean)


@every_loop
@pytest.mark.parametrize(
    ("input", "n_iters"), [([[1, 2]], -1), ([[1, 100]], 1), ([[]], 1), ([[1] * 97], 1)]
)
def test_bad_input_is_one_of_our_errors(name, input, n_iters):
    with pytest.raises(AbbieLensError):
        make(name)(input, n_iters=n_iters)


@pytest.mark.gpu
@every_loop
@torch.no_grad()
def test_gpu_equals_cpu(tokens, name):
    cpu = make(name)(tokens, n_iters=3)
    logits, cache = make(name).to("cuda").run_with_cache(tokens, n_iters=3)
    torch.testing.assert_close(logits.cpu(), cpu, atol=1e-3, rtol=1e-2)
    assert cache["loop.hook_state"].device.type == "cuda"
