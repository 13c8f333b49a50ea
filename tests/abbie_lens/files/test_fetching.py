"""Published checkpoints from a hub: fetched once, and every way in which that fails says what to do, in one line."""

import json

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from abbie_lens import load
from abbie_lens.errors import CheckpointError
from abbie_lens.files import hub
from abbie_lens.files.inspect import inspect
from tests.abbie_lens.files.formats.checkpoints import write
from tests.abbie_lens.files.local_hub import LocalHub

ID = "someone/tiny-ouro"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A hub with one model, and an empty cache."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    local = LocalHub(tmp_path / "served")
    write("ouro", tmp_path / "served" / ID)
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "ENDPOINT", local.address)
    template = local.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(
        huggingface_hub.get_safetensors_metadata.__self__, "endpoint", local.address
    )
    monkeypatch.setattr(_http.time, "sleep", lambda _seconds: None)  # between attempts
    _http.close_session()
    local.cache = cache
    yield local
    local.close()
    _http.close_session()


def fails(call, message):
    """The one-line error of a call."""
    with pytest.raises(CheckpointError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def half_written(cache):
    """Files in the cache that are not whole."""
    return [
        path
        for path in cache.rglob("*")
        if path.is_file()
        and (
            path.name.endswith((".incomplete", ".tmp"))
            or (path.suffix == ".safetensors" and not _whole(path))
        )
    ]


def _whole(path):
    try:
        return bool(load_file(path))
    except Exception:
        return False


def test_fetched_once_and_used_offline(served):
    tokens = torch.arange(6)[None]
    model = load(ID, device="cpu")
    assert model.name == ID and not any(path.endswith((".bin", ".py")) for path in served.asked)
    served.mode = "down"
    again = load(ID, device="cpu")
    assert torch.equal(again(tokens), model(tokens))


def test_inspected_from_headers_alone(served):
    folder = served.root / ID
    seen = inspect(ID, n_ctx=8)
    assert (seen.format, seen.gate, seen.n_iters) == ("ouro", True, 3)
    assert not list(served.cache.rglob("*.safetensors"))
    stored = load_file(folder / "model.safetensors")
    shapes, sizes = hub.headers(ID)
    assert shapes == {name: tuple(tensor.shape) for name, tensor in stored.items()}
    assert sizes == {name: tensor.nbytes for name, tensor in stored.items()}


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("absent", "someone/tiny-ouro: no such model on the hub"),
        ("gated", "someone/tiny-ouro: closed to this account: .*token="),
        ("down", "someone/tiny-ouro: .*(can't be reached|can't be fetched)"),
    ],
)
@pytest.mark.parametrize("call", [load, inspect, hub.fetch_small, hub.headers])
def test_refused_or_unreachable(served, mode, message, call):
    served.mode = mode
    fails(lambda: call(ID), message)
    assert not half_written(served.cache)


@pytest.mark.parametrize("call", [load, inspect, hub.fetch_small, hub.headers])
def test_no_network(served, call):
    served.close()
    fails(lambda: call(ID), "someone/tiny-ouro: .*(can't be reached|can't be fetched)")
    assert not half_written(served.cache)


def test_an_interrupted_download_leaves_nothing_and_is_made_good(served):
    served.mode = "cut"
    fails(lambda: load(ID), "someone/tiny-ouro: .*again")
    assert not half_written(served.cache)
    served.mode = "down"
    fails(lambda: load(ID), "someone/tiny-ouro: not whole on this machine: .*again")
    served.mode = "well"
    assert load(ID, device="cpu").load_report.complete


def test_cut_headers(served):
    served.mode = "cut"
    fails(lambda: hub.headers(ID), "someone/tiny-ouro: .*again")


def test_shards_of_which_one_is_missing(served):
    folder = served.root / ID
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    tokens = torch.arange(6)[None]
    whole = load(ID, device="cpu")(tokens)
    assert torch.equal(load(folder, device="cpu")(tokens), whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    fails(lambda: load(folder), "model-00002-of-00002.safetensors named by .* but not there")
    save_file({names[0]: tensors[names[0]]}, folder / "model-00002-of-00002.safetensors")
    fails(lambda: load(folder), f"holds '{names[0]}', as another shard does|weights missing")
