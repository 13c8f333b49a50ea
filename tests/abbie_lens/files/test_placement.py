"""Blocks elsewhere, in memory or on disk: the same model, and what does not fit is said before a weight is read."""

import gc
import threading

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files import memory_plan, pretrained
from abbie_lens.files.inspect import inspect
from abbie_lens.files.memory_plan import Where
from abbie_lens.loops import AbbieD, Huginn, Relaxed

EVERYWHERE = {"": "cpu", "head": "disk", "body.1": "disk", "tail": "disk"}
TOKENS = torch.randint(0, 100, (2, 6), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def saved(tiny_model, tmp_path):
    return tiny_model(AbbieD(), d_vocab=100).save_pretrained(tmp_path / "model")


def meta(model) -> set[str]:
    return {".".join(n.split(".")[:2]) for n, p in model.named_parameters() if p.is_meta}


@pytest.mark.parametrize("loop", [AbbieD(), Huginn()])
@torch.no_grad()
def test_blocks_on_disk_give_the_same_model(tiny_model, tmp_path, loop):
    saved = tiny_model(loop).save_pretrained(tmp_path / "model")
    plain = load(saved, device="cpu")
    spread = load(saved, device_map=EVERYWHERE, offload_folder=tmp_path / "off")
    assert meta(spread) == {"head.0", "body.1", "tail.0"}
    start = {"seed": 3} if loop.draws_state else {}
    ours, theirs = (m.run_with_cache(TOKENS, n_iters=3, **start) for m in (plain, spread))
    assert torch.equal(ours[0], theirs[0])
    assert set(ours[1]) == set(theirs[1])
    for name in ours[1]:
        assert torch.equal(ours[1][name], theirs[1][name]), name
    assert meta(spread) == {"head.0", "body.1", "tail.0"}  # and are let go again
    assert plain.info().weight_hash == spread.info().weight_hash


@torch.no_grad()
def test_hooks_reach_into_offloaded_blocks_and_generation_runs_them(saved, tmp_path):
    plain = load(saved, device="cpu")
    spread = load(saved, device_map=EVERYWHERE, offload_folder=tmp_path / "off")
    hooks = [("body.1.attn.hook_z@1", lambda t, hook: t * 2), ("head.0.hook_mlp_out", torch_zero)]
    edited = [m.run_with_hooks(TOKENS, n_iters=3, fwd_hooks=hooks) for m in (plain, spread)]
    assert torch.equal(*edited) and not torch.equal(edited[0], plain(TOKENS, n_iters=3))
    prompt = TOKENS[:1, :3]
    outputs = [m.generate(prompt, max_new_tokens=3, temperature=0.0) for m in (plain, spread)]
    assert torch.equal(*(torch.as_tensor(o) for o in outputs))


def torch_zero(tensor, hook):
    return torch.zeros_like(tensor)


def test_gradients_pass_through_offloaded_blocks(saved, tmp_path):
    plain = load(saved, device="cpu")
    spread = load(saved, device_map=EVERYWHERE, offload_folder=tmp_path / "off")
    gradients = []
    for model in (plain, spread):
        h = model.begin(TOKENS, n_iters=1).h.detach().requires_grad_()
        state = model.begin(TOKENS, n_iters=1).replace(h=h, z=h)
        model.readout(model.step(state)).sum().backward()
        gradients.append(h.grad)
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_two_threads_take_turns(saved, tmp_path):
    model = load(saved, device_map=EVERYWHERE, offload_folder=tmp_path / "off")
    expected = {r: model(TOKENS, n_iters=r) for r in (1, 4)}
    wrong, failed = [], []

    def run(r):
        try:
            with torch.no_grad():
                for _ in range(5):
                    if not torch.equal(model(TOKENS, n_iters=r), expected[r]):
                        wrong.append(r)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(r,)) for r in (1, 4, 1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and not failed


def test_the_files_go_with_the_model_and_with_a_failed_load(saved, tmp_path, monkeypatch):
    folder = tmp_path / "off"
    model = load(saved, device_map=EVERYWHERE, offload_folder=folder)
    assert any(folder.iterdir())
    again = model.save_pretrained(tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()
    del model
    gc.collect()
    assert not any(folder.iterdir())
    put = pretrained.Draft.put

    def breaks(self, name, tensor):
        if name.startswith("tail"):
            raise CheckpointError("damaged")
        return put(self, name, tensor)

    monkeypatch.setattr(pretrained.Draft, "put", breaks)
    with pytest.raises(CheckpointError, match="damaged"):
        load(saved, device_map=EVERYWHERE, offload_folder=folder)
    assert not any(folder.iterdir())


@torch.no_grad()
def test_auto_fills_a_device_and_puts_the_rest_on_disk(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plain = load(saved, device="cpu")
    everything = load(saved, device_map="auto")
    assert not meta(everything)
    block = sum(p.nbytes for p in plain.body[0].parameters())
    shared = sum(
        p.nbytes for n, p in plain.named_parameters() if n.split(".")[0] in ("embed", "ln_final")
    )
    room = {"cpu": shared + 2 * block + 4096}  # one block, and room to bring another
    seen = []
    spread = load(
        saved,
        device_map="auto",
        max_memory=room,
        offload_folder=tmp_path / "off",
        announce=seen.append,
    )
    assert meta(spread) and not {"embed", "ln_final"} & {n.split(".")[0] for n in meta(spread)}
    assert seen[0].weights["disk"] == len(meta(spread)) * block
    assert torch.equal(spread(TOKENS), plain(TOKENS))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (dict(device_map={"": "cpu", "bodi": "disk"}), r"'bodi' is no part.*Nearest: body"),
        (dict(device_map={"body": "cpu"}), "no device for"),
        (dict(device_map={"": "disk"}), "only blocks can be on disk"),
        (
            dict(device_map={"": "cpu", "body": "disk"}),
            "offload_folder: needed, for body.0, body.1",
        ),
        (dict(device_map="balanced"), "device='balanced'"),
        (dict(device_map=3), "expected auto, a device, or a mapping"),
        (dict(device_map="cpu", device="cpu"), "give one of them"),
        (dict(max_memory={"cpu": 1}), "only with device_map"),
        (dict(device_map="auto", max_memory={"gpu": 1}), "max_memory="),
    ],
)
def test_what_cannot_be_placed_is_named(saved, asked, says):
    with pytest.raises(InputError, match=says):
        load(saved, **asked)


def test_a_body_that_runs_as_copies_stays_on_the_main_device(tiny_model, tmp_path):
    saved = tiny_model(Relaxed(max_iters=2, rank=2)).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="relaxed runs copies"):
        load(saved, device_map={"": "cpu", "body.0": "disk"}, offload_folder=tmp_path)
    plain, spread = (
        load(saved, device="cpu"),
        load(saved, device_map={"": "cpu", "tail": "disk"}, offload_folder=tmp_path / "off"),
    )
    assert torch.equal(plain(TOKENS), spread(TOKENS))


def test_a_load_that_does_not_fit_is_refused_unless_insisted(saved, monkeypatch):
    monkeypatch.setattr(memory_plan, "free_bytes", lambda _at: 1000)
    with monkeypatch.context() as unread:
        unread.setattr(pretrained.Draft, "put", None)
        with pytest.raises(
            InputError, match=r"loading needs .* KiB on cpu, where .*check_memory=False"
        ):
            load(saved, device="cpu")
    assert load(saved, device="cpu", check_memory=False)(TOKENS).shape == (2, 6, 100)
    assert not inspect(saved, where=Where(torch.device("cpu"))).memory.fits


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@torch.no_grad()
def test_other_dtypes_are_kept_on_disk(saved, tmp_path, dtype):
    plain = load(saved, device="cpu", dtype=dtype)
    spread = load(saved, device_map=EVERYWHERE, offload_folder=tmp_path / "off", dtype=dtype)
    assert torch.equal(plain(TOKENS), spread(TOKENS))


@torch.no_grad()
def test_published_weights_are_placed_too(shared_fixtures, tmp_path):
    folder = shared_fixtures / "huginn"  # fused projections, split on the way
    plain = load(folder, device="cpu", dtype="float32")
    spread = load(
        folder,
        device_map={"": "cpu", "body": "disk"},
        offload_folder=tmp_path / "off",
        dtype="float32",
    )
    assert meta(spread) == {f"body.{b}" for b in range(len(plain.body))}
    assert torch.equal(plain(TOKENS[:, :4], seed=1), spread(TOKENS[:, :4], seed=1))


@pytest.mark.gpu
@torch.no_grad()
def test_blocks_in_memory_are_brought_to_the_gpu(saved, tmp_path):
    plain = load(saved, device="cuda:0")
    spread = load(
        saved,
        device_map={"": "cuda:0", "body.0": "cpu", "tail": "disk"},
        offload_folder=tmp_path / "off",
    )
    assert meta(spread) == {"body.0", "tail.0"} and spread.device.type == "cuda"
    tokens = TOKENS.to("cuda:0")
    logits, cache = spread.run_with_cache(tokens, n_iters=3, cache_device="cpu")
    torch.testing.assert_close(logits, plain(tokens, n_iters=3))
    assert all(cache[name].device.type == "cpu" for name in cache)


@pytest.mark.gpu
@torch.no_grad()
def test_blocks_on_another_device_take_and_give_back(saved):
    plain = load(saved, device="cpu")
    spread = load(saved, device_map={"": "cpu", "body": "cuda:0"})
    assert {p.device.type for p in spread.body.parameters()} == {"cuda"}
    torch.testing.assert_close(
        spread(TOKENS, n_iters=3), plain(TOKENS, n_iters=3), rtol=1e-4, atol=1e-5
    )
