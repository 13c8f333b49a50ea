"""What a loaded checkpoint of a published format can do: sites, decoding, padding, first states, unrolling, precision."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import InputError, SiteError
from tests.abbie_lens.files.formats.checkpoints import CONFIGS, DRAWS, write
from tests.abbie_lens.originals import CLOSE

R = 3
TOKENS = torch.randint(0, 90, (2, 9), generator=torch.Generator().manual_seed(7))
OWN = {
    "huginn": {"loop.hook_state": 4, "loop.hook_readout": 4},
    "retrofit_llama": {"loop.hook_state": 4},
    "retrofit_olmo": {"body.1.ln1_post.hook_normalized": 3},
    "ouro": {"loop.hook_gate": 3, "loop.hook_readout": 4},
    "hrm_text": {"loop.hook_low_state": 6, "body.1.attn.hook_z_gate": 6, "body.2.attn.hook_z_gate": 3},
    "parcae": {"loop.hook_decay": 3, "loop.hook_injected": 3, "body.1.attn.value_embed.hook_value_gate": 3},
    "pondering_pythia": {"loop.hook_feedback": 3, "body.0.hook_resid_pre": 4},
    "loopus": {"loop.hook_gate": 3, "loop.hook_update_gate": 3},
}  # fmt: skip
"""Sites that a format's own mechanism has, and their rows after three iterations."""
every_format = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """`model(name, **fields)`: a model of that format, loaded once."""
    loaded = {}

    def made(name):
        if name not in loaded:
            folder = tmp_path_factory.mktemp("formats") / name
            write(name, folder)
            loaded[name] = load(folder, device="cpu")
        return loaded[name]

    return made


@every_format
@torch.no_grad()
def test_its_own_sites_are_listed_and_have_a_row_for_each_iteration(model, name):
    it = model(name)
    _, cache = it.run_with_cache(TOKENS, n_iters=R)
    for site, rows in OWN[name].items():
        assert site in it.hook_dict and it.rows(site, R) == rows == len(cache[site])
        last = rows - 1
        assert torch.equal(cache[f"{site}@{last}"], cache[site][last])
    assert set(cache) == set(it.hook_dict)


@torch.no_grad()
def test_nested_cycles_of_hrm_keep_both_indices(model):
    it = model("hrm_text")
    _, cache = it.run_with_cache(TOKENS, n_iters=R)
    for outer in range(R):
        for inner in range(2):
            row = outer * 2 + inner
            low = torch.nn.functional.rms_norm(
                cache[f"body.1.hook_resid_post@{row}"], (48,), eps=it.cfg.eps
            )
            torch.testing.assert_close(cache[f"loop.hook_low_state@{row}"], low, **CLOSE)
        heard = cache[f"loop.hook_state@{outer}"] + cache[f"loop.hook_low_state@{outer * 2 + 1}"]
        torch.testing.assert_close(cache[f"body.2.hook_resid_pre@{outer}"], heard, **CLOSE)


@every_format
@torch.no_grad()
def test_decoding_with_a_cache_is_decoding_without(model, name):
    it = model(name)
    greedy = dict(n_iters=R, temperature=0.0)
    cached = it.generate(TOKENS[:1], 6, **greedy)
    assert torch.equal(cached, it.generate(TOKENS[:1], 6, use_kv_cache=False, **greedy))
    past, pieces = {}, []
    for chunk in TOKENS.split([4, 1, 4], dim=1):
        logits, past = it.run_cached(chunk, past, R)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), it(TOKENS, n_iters=R), **CLOSE)


@every_format
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padding_changes_nothing(model, name, side):
    it, pad = model(name), torch.zeros(2, 3, dtype=torch.long)
    join = lambda a, b: torch.cat([b, a] if side == "left" else [a, b], 1)  # noqa: E731
    mask = join(torch.ones_like(TOKENS), pad)
    padded, cache = it.run_with_cache(join(TOKENS, pad), n_iters=R, attention_mask=mask)
    alone, expected = it.run_with_cache(TOKENS, n_iters=R)
    real = mask[0].bool()
    torch.testing.assert_close(padded[:, real], alone, **CLOSE)
    states = "loop.hook_state"
    torch.testing.assert_close(cache[states][:, :, real], expected[states], **CLOSE)


@every_format
@torch.no_grad()
def test_first_states_are_given_or_drawn_from_a_seed(model, name):
    it = model(name)
    given = torch.randn(2, 9, 48, generator=torch.Generator().manual_seed(1))
    if name not in DRAWS:
        for first in ({"initial_state": given}, {"seed": 1}):
            for run in (it, it.begin, it.run_with_cache):
                with pytest.raises(InputError, match="draws no initial state"):
                    run(TOKENS, n_iters=R, **first)
        return
    for first in ({"initial_state": given}, {"seed": 5}):
        state = it.begin(TOKENS, R, **first)
        logits, cache = it.run_with_cache(TOKENS, n_iters=R, **first)
        assert torch.equal(cache["loop.hook_state@0"], state.h)
        for _ in range(R):
            state = it.step(state)
        torch.testing.assert_close(it.readout(state), logits, **CLOSE)
        torch.testing.assert_close(it(TOKENS, n_iters=R, **first), logits, **CLOSE)
        assert (logits - it(TOKENS, n_iters=R, seed=6)).abs().max() > 1e-3
    assert torch.equal(it.begin(TOKENS, R, initial_state=given).h, given)
    assert torch.equal(it.begin(TOKENS, R).h, it.begin(TOKENS, R, seed=0).h)
    with pytest.raises(InputError, match=r"initial_state: shape \(2, 8, 48\)"):
        it(TOKENS, initial_state=given[:, 1:])


@every_format
@torch.no_grad()
def test_unrolled_as_its_loop_allows(model, name):
    it = model(name)
    logits, cache = it.run_with_cache(TOKENS, n_iters=R)
    if name in ("hrm_text", "pondering_pythia"):
        with pytest.raises(SiteError, match=it.cfg.loop.family):
            cache.unroll()
        return
    flat = cache.unroll()
    n_head, n_body = it.cfg.n_head_blocks, it.cfg.n_body_blocks
    for k in range(R):
        layer = f"blocks.{n_head + k * n_body}.hook_resid_pre"
        assert torch.equal(flat[layer], cache[f"body.0.hook_resid_pre@{k}"])
    stream = flat.accumulated_resid(layer=-1, incl_mid=False)
    assert len(stream) == it.cfg.n_layers(R) + 1
    torch.testing.assert_close(it.unembed(it.ln_final(stream[-1])), logits, **CLOSE)
    for tool in (flat.decompose_resid, flat.stack_head_results):
        with pytest.raises(SiteError, match=f"in {it.cfg.loop.family} at r = {R}"):
            tool(layer=-1)


@every_format
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@torch.no_grad()
def test_half_precision(tmp_path, model, name, dtype):
    write(name, tmp_path)
    it = load(tmp_path, device="cpu", dtype=dtype)
    first = {"initial_state": torch.randn(2, 9, 48) * 0} if name in DRAWS else {}
    logits, cache = it.run_with_cache(TOKENS, n_iters=R, **first)
    exact = model(name)(TOKENS, n_iters=R, **first)
    assert logits.dtype == it.dtype == getattr(torch, dtype) and logits.isfinite().all()
    distance = (logits.float() - exact).norm() / exact.norm()
    assert distance < {"bfloat16": 0.15, "float16": 0.02}[dtype]
    assert cache["loop.hook_state"].dtype == it.dtype
    assert it.generate(TOKENS[:1], 2, n_iters=R, temperature=0.0).shape[1] == 11
