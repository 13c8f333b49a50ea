"""Mixture-of-Recursions against its equation: only the tokens in a recursion are computed, so the mask is shown to be that."""

import math

import pytest
import torch

from abbie_lens.errors import ConfigError
from abbie_lens.loops import MoR
from abbie_lens.loops.shared.routing import balance, top_share, z_loss
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out, run_block, turning

close = dict(atol=5e-5, rtol=1e-5)
SEQUENCES = [
    "mor", "mor-token", "mor-shared", "mor-repeat_last", "mor-token-repeat_last",
]  # fmt: skip


def sparse(model, h, taken, served):
    """B(h) [pos, d] of one row where `taken`, computed over these tokens alone at their positions."""
    out, where = torch.zeros_like(h), taken.nonzero()[:, 0]
    if len(where):
        x = h[where][None]
        for block in model.body:
            x = run_block(block, x, turning(where.tolist(), 8))
        out[where] = x[0]
    return out


def shared(model, h, taken, served):
    """The same with keys and values of recursion 0, in which all tokens were."""
    x = h[None]
    for b, block in enumerate(model.body):
        serve = lambda k, v, b=b: served.setdefault(b, (k, v))  # noqa: E731
        x = run_block(block, x, turning(range(len(h)), 8), serve=serve)
    return x[0] * taken[:, None]


def equations(model, row, n_iters):
    """(h, S) of one row after 0 … n_iters recursions in eval, sums and choices written out."""
    loop, served = model.cfg.loop, {}
    h = blocks(model.head, model.embed.weight[row][None])[0]
    taken = torch.ones(len(row), dtype=torch.bool)
    if loop.routing == "token":
        p = (h @ model.loop.router.weight.T).softmax(-1)
        depth, share = p.argmax(-1) + 1, p.max(-1).values
    yield h, taken
    for k in range(n_iters):
        n = min(k, loop.max_iters - 1)
        if loop.routing == "token":
            chosen, weight = n < depth, share
        else:
            g = (h @ model.loop.router[n].weight[0]).sigmoid()
            chosen, weight = (g > 0.5) | (loop.capacities[n] == 1), loop.alpha * g
        taken = taken & chosen
        body = (shared if loop.kv == "shared" else sparse)(model, h, taken, served)
        h = torch.where(taken[:, None], h + weight[:, None] * body, h)
        yield h, taken


@pytest.mark.parametrize(
    "loop",
    [
        MoR(), MoR(kv="shared"), MoR("token"), MoR("token", kv="shared"), MoR(alpha=0.7),
        MoR(max_iters=2, beyond="repeat_last"), MoR("token", max_iters=2, beyond="repeat_last"),
        MoR(capacity=(0.9, 0.5, 0.5)),
    ],
    ids=str,
)  # fmt: skip
@torch.no_grad()
def test_every_state_is_the_equations(tokens, loop):
    model = make(loop)
    states = walk(model, tokens, 3)
    for b, row in enumerate(tokens):
        for state, (h, taken) in zip(states, equations(model, row, 3), strict=True):
            assert torch.equal(state.carry["active"][b], taken)
            torch.testing.assert_close(state.h[b], h, **close)
            logits = read_out(model, state.h)
            torch.testing.assert_close(model.readout(state), logits, **close)
    assert 0 < states[2].carry["active"].float().mean() < 1, "or nothing is routed"


@pytest.mark.parametrize("name", SEQUENCES)
@torch.no_grad()
def test_a_token_that_is_out_stays_out_and_keeps_its_state(tokens, name):
    model = make(name)
    cache = model.run_with_cache(tokens, n_iters=3)[1]
    mask, h = cache["loop.hook_mask"], cache["loop.hook_state"]
    assert mask.shape == (3, 2, 9, 1) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert (mask[1:] <= mask[:-1]).all()
    for k in range(3):
        out = mask[k, ..., 0] == 0
        assert torch.equal(h[k + 1][out], h[k][out])
        assert (h[k + 1][~out] != h[k][~out]).any(-1).all()


@pytest.mark.parametrize("name", SEQUENCES)
@torch.no_grad()
def test_decoding_never_hears_later_tokens(tokens, name):
    """Bit-equal: who is routed is decided by the token alone, whole or one token after the other."""
    model, changed = make(name), tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 3) % 100
    a, b = (
        model.run_with_cache(t, n_iters=3, names_filter=["loop.hook_mask", "unembed.hook_out"])[1]
        for t in (tokens, changed)
    )
    for site in a:
        assert torch.equal(a[site][..., :6, :], b[site][..., :6, :])
    past, masks = {}, []
    for token in tokens.split(1, dim=1):
        with model.hooks([("loop.hook_mask", lambda mask, hook: masks.append(mask[..., 0]))]):
            _, past = model.run_cached(token, past, 3)
    stepwise = torch.stack(masks).view(9, 3, 2).permute(1, 2, 0)
    assert torch.equal(stepwise, a["loop.hook_mask"][..., 0])


@torch.no_grad()
def test_training_takes_as_many_tokens_as_the_capacity_says(tokens):
    model = make(MoR(capacity=(1.0, 0.5, 0.25)))
    model.train()
    tokens = torch.randint(0, 100, (3, 16), generator=torch.Generator().manual_seed(9))
    cache = model.run_with_cache(tokens, n_iters=3)[1]
    mask, score = cache["loop.hook_mask"][..., 0], cache["loop.hook_router"][..., 0]
    assert mask.sum(-1).tolist() == [[16.0] * 3, [8.0] * 3, [4.0] * 3]
    for k in (1, 2):
        among = mask[k - 1].bool()
        best = score[k].masked_fill(~among, -1).topk(16 >> k, dim=-1).indices
        assert torch.equal(mask[k], torch.zeros(3, 16).scatter(1, best, 1.0))
    model.eval()
    decoded = model.run_with_cache(tokens, n_iters=3)[1]["loop.hook_mask"][..., 0]
    assert torch.equal(decoded[1], (score[1] > 0.5).float()), "in eval the score alone decides"


def test_the_share_is_of_real_tokens_and_of_those_still_in():
    score = torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]])
    among = torch.ones(2, 6, dtype=torch.bool)
    among[0, 0] = False
    assert top_share(score, among, 1 / 3, None).nonzero().tolist() == [
        [0, 2],
        [0, 3],
        [1, 4],
        [1, 5],
    ]
    real = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    found = top_share(score, among, 2 / 3, real)
    assert found.nonzero().tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [1, 4]]
    assert top_share(score, among, 0.01, None).sum(1).tolist() == [1, 1], "never nobody"
    assert top_share(score, torch.zeros_like(among), 0.5, None).sum() == 0
    ties = top_share(torch.zeros(1, 6), among[1:], 0.5, None)
    assert ties.tolist() == [[True] * 3 + [False] * 3]


def test_capacities_come_down_by_a_cosine(tokens):
    loop = MoR(capacity=(1.0, 0.6, 0.2), capacity_warmup=0.5)
    state = make(loop).begin(tokens, 3)
    at = lambda progress: loop.scheduled(state, progress).carry["capacity"]  # noqa: E731
    assert at(0.0) == (1.0, 1.0, 1.0) and at(0.5) == at(1.0) == pytest.approx((1.0, 0.6, 0.2))
    assert at(0.25) == pytest.approx((1.0, 0.8, 0.6))
    rest = (1 + math.cos(math.pi / 5)) / 2
    assert at(0.1) == pytest.approx((1.0, 0.6 + 0.4 * rest, 0.2 + 0.8 * rest))
    assert MoR(capacity_warmup=0.0).scheduled(state, 0.0).carry["capacity"] == MoR().capacities
    assert MoR().capacities == pytest.approx((1, 2 / 3, 1 / 3))


def test_the_routers_learn_to_find_the_tokens_that_were_taken(tokens):
    model = make(MoR(router_weight=0.5)).train()
    loss, nll = Objective(model, Recipe())(tokens, None, 3, 1.0)
    cache = model.run_with_cache(tokens, n_iters=3)[1]
    g, mask = cache["loop.hook_router"][..., 0], cache["loop.hook_mask"][..., 0].bool()
    expected = 0.0
    for k in range(3):
        among = mask[k - 1] if k else torch.ones_like(mask[0])
        terms = -torch.where(mask[k], g[k].log(), (1 - g[k]).log())
        expected += 0.5 * terms[among].mean()
    torch.testing.assert_close(loss.detach() - nll, expected)
    early, _ = Objective(model, Recipe())(tokens, None, 3, 0.0)
    assert early != loss, "all tokens are in at the start of the run"


def test_depths_are_balanced_and_logits_kept_small(tokens):
    model = make(MoR("token", balance_weight=0.3, z_weight=0.01)).train()
    loss, nll = Objective(model, Recipe())(tokens, None, 3, 1.0)
    with torch.no_grad():
        h = blocks(model.head, model.embed.weight[tokens])
        logits = h @ model.loop.router.weight.T
        p, n = logits.softmax(-1), logits.argmax(-1)
        uneven = 3 * sum((n == i).float().mean() * p[..., i].mean() for i in range(3))
        z = logits.exp().sum(-1).log().square().mean()
    torch.testing.assert_close(loss.detach() - nll, 0.3 * uneven + 0.01 * z)
    even = torch.full((1, 6, 3), 1 / 3)
    assert balance(even, torch.tensor([[0, 1, 2, 0, 1, 2]])).item() == pytest.approx(1)
    sure = torch.nn.functional.one_hot(torch.zeros(1, 6, dtype=torch.long), 3).float()
    assert balance(sure, sure.argmax(-1)).item() == pytest.approx(3)
    assert z_loss(torch.zeros(2, 3, 4)).item() == pytest.approx(math.log(4) ** 2)


@torch.no_grad()
def test_an_imposed_mask_is_the_one_that_counts(tokens):
    """As analyses impose one: whoever it lets in is updated, seen, and in the next choice."""
    model = make(MoR("token"))
    everyone = model.hooks([("loop.hook_mask", lambda mask, hook: torch.ones_like(mask))])
    with everyone:
        h = walk(model, tokens, 3)
    share = h[1].carry["share"]
    expected = h[0].h
    for state in h:
        torch.testing.assert_close(state.h, expected, **close)
        expected = expected + share * blocks(model.body, expected)
    nobody = model.hooks([("loop.hook_mask", lambda mask, hook: torch.zeros_like(mask))])
    with nobody:
        assert all(torch.equal(state.h, h[0].h) for state in walk(model, tokens, 3))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"routing": "both"}, "routing='both': expected one of"),
        ({"max_iters": 1}, "max_iters=1: expected at least n_iters=2"),
        ({"capacity": (1.0, 0.5)}, "capacity=.*: expected max_iters=3 shares above 0, to 1"),
        ({"capacity": (1.0, 0.5, 0.0)}, "shares above 0"),
        ({"capacity": (1.5, 0.5, 0.5)}, "shares above 0"),
        ({"kv": "none"}, "kv='none': expected one of"),
        ({"beyond": "stop"}, "beyond='stop': expected one of"),
        ({"alpha": -1.0}, "alpha=-1.0: expected a number >= 0"),
        ({"capacity_warmup": 2.0}, "capacity_warmup=2.0: expected 0 to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        make(MoR(**settings))
