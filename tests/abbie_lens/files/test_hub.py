"""push_to_hub and hub ids, with a hub that is a folder."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from abbie_lens import HookedLoopedTransformer, load
from abbie_lens.errors import CheckpointError
from abbie_lens.files import hub


class FolderHub:
    """Stands in for HfApi and snapshot_download."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls, self.patterns = root, [], None

    def __call__(self, token=None):
        self.token = token
        return self

    def create_repo(self, repo_id, private, exist_ok):
        self.calls.append(("create", repo_id, private, exist_ok))

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, commit_message))
        shutil.copytree(folder_path, self.root / repo_id)
        return SimpleNamespace(repo_url=f"hub://{repo_id}")

    def snapshot_download(self, repo_id, revision, token, allow_patterns):
        self.patterns = allow_patterns
        return str(self.root / repo_id)


@pytest.fixture
def folder_hub(tmp_path, monkeypatch) -> FolderHub:
    fake = FolderHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", fake)
    monkeypatch.setattr(hub, "snapshot_download", fake.snapshot_download)
    return fake


def test_push_and_load_back(tiny_model, tiny_tokenizer, folder_hub) -> None:
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    address = model.push_to_hub("org/mine", private=True, token="t", commit_message="first")
    assert address == "hub://org/mine"
    assert folder_hub.calls == [("create", "org/mine", True, True), ("upload", "org/mine", "first")]
    files = {p.name for p in (folder_hub.root / "org/mine").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= files
    for loaded in (load("org/mine"), HookedLoopedTransformer.from_pretrained("org/mine")):
        assert loaded.info().weight_hash == model.info().weight_hash
        assert loaded.name == "org/mine"
    assert not any(p.endswith((".bin", ".pt", "*")) for p in folder_hub.patterns)


def test_foreign_weights_on_the_hub(tiny_model, folder_hub) -> None:
    model = tiny_model()
    model.push_to_hub("org/theirs")
    (folder_hub.root / "org/theirs" / "config.json").write_text('{"model_type": "llama"}')
    loaded = load("org/theirs", key_map={}, config=model.cfg)
    assert torch.equal(loaded.embed.weight, model.embed.weight)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
        (ConnectionError("no route"), "no route"),
        (TimeoutError("too slow"), "too slow"),
    ],
)
def test_unreachable(monkeypatch, raised, says) -> None:
    def fail(*_args, **_kwargs):
        raise raised

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match=says):
        load("org/model")


def test_refused_by_the_hub(monkeypatch, tiny_model) -> None:
    import httpx

    response = httpx.Response(404, request=httpx.Request("GET", "http://localhost/x"))

    def fail(*_args, **_kwargs):
        raise RepositoryNotFoundError("not found", response=response)

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(CheckpointError, match="no such model on the hub"):
        load("org/model")

    class Refusing(FolderHub):
        def create_repo(self, *_args, **_kwargs):
            raise HfHubHTTPError("403 forbidden", response=response)

    monkeypatch.setattr(hub, "HfApi", Refusing(Path()))
    with pytest.raises(CheckpointError, match="not uploaded"):
        tiny_model().push_to_hub("org/model")


def test_push_without_a_network(tiny_model) -> None:
    with pytest.raises(CheckpointError, match="not uploaded"):
        tiny_model().push_to_hub("org/model", token="t")
