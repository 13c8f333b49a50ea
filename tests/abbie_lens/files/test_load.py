"""`load` finds bundled models, folders and hub ids, and says clearly what it didn't find."""

import pytest
import torch

from abbie_lens import load, zoo
from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.device import resolve_device


@pytest.fixture
def small_zoo(tiny_model, tmp_path, monkeypatch):
    """A zoo of two tiny models."""
    folder = tmp_path / "zoo"
    for seed, name in enumerate(("aardvark", zoo.DEFAULT)):
        model = tiny_model(seed=seed, model_name=name)
        model.save_pretrained(folder / name, dtype="bfloat16", metrics={"steps": 10 + seed})
    (folder / "__pycache__").mkdir()
    monkeypatch.setattr(zoo, "FOLDER", folder)
    return folder


def test_bundled_names_come_first(small_zoo, tmp_path, monkeypatch) -> None:
    (tmp_path / "aardvark").mkdir()
    monkeypatch.chdir(tmp_path)
    model = load("aardvark")
    assert model.name == "aardvark" and model.dtype == torch.float32
    with pytest.raises(CheckpointError, match="config"):
        load("./aardvark")


def test_zoo_tells_what_its_files_say(small_zoo) -> None:
    assert zoo.names() == [zoo.DEFAULT, "aardvark"]
    entry = zoo.describe("aardvark")
    model = load("aardvark")
    assert entry.n_params == sum(p.numel() for p in model.parameters())
    assert (entry.config, entry.metrics) == (model.cfg, {"steps": 10})
    assert entry.n_bytes == (small_zoo / "aardvark" / "model.safetensors").stat().st_size
    assert entry.card.startswith("---")
    assert [m.name for m in zoo.models()] == zoo.names()
    with pytest.raises(InputError, match="aardvark"):
        zoo.path("aardvak")


def test_zoo_reads_the_evaluation_of_a_training_run(small_zoo) -> None:
    (small_zoo / "aardvark" / "evaluation.json").write_text('{"n_iters": [1], "nll": [4.5]}')
    metrics = zoo.describe("aardvark").metrics
    assert metrics == {"steps": 10, "evaluation": {"n_iters": [1], "nll": [4.5]}}


def test_sample_text_has_documents_enough_to_split() -> None:
    documents = zoo.sample_text().split("\f")
    assert len(documents) == 24 and min(map(len, documents)) > 2000
    assert len(set(documents)) == 24


def test_unknown_name_suggests(small_zoo, tiny_model, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=f"Nearest: {zoo.DEFAULT}"):
        load("abbie-d-novel")
    tiny_model().save_pretrained(tmp_path / "experiment-7")
    with pytest.raises(CheckpointError, match="experiment-7"):
        load(tmp_path / "experiment-8")
    with pytest.raises(CheckpointError, match="no such model"):
        load("")


def test_hub_id_offline_is_a_clear_error() -> None:
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE"):
        load("some-org/some-model")


@pytest.mark.parametrize(
    "name", ["a/b/c", "../x/y", "/etc/nothing", "org/ model", "~/nothing/here"]
)
def test_what_is_no_hub_id_is_not_sent_to_the_hub(name, monkeypatch) -> None:
    monkeypatch.setattr(
        "abbie_lens.files.hub.snapshot_download", lambda *_a, **_k: pytest.fail(name)
    )
    with pytest.raises(CheckpointError, match="no such model"):
        load(name)


def test_config_without_a_key_map(tiny_model, tmp_path) -> None:
    model = tiny_model()
    folder = model.save_pretrained(tmp_path / "m")
    with pytest.raises(InputError, match="key_map"):
        load(folder, config=model.cfg)
    with pytest.raises(CheckpointError, match="key_map"):
        load(folder / "model.safetensors")


def test_devices(tiny_model, tmp_path, monkeypatch) -> None:
    folder = tiny_model().save_pretrained(tmp_path / "m")
    assert load(folder, device="cpu").device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device().type == resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:1").index == 1
    for wrong in ("cuda:2", "gpu", "cuda:x", 3.5):
        with pytest.raises(InputError, match="device"):
            resolve_device(wrong)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="no MPS"):
        load(folder, device="mps")


def test_dtypes_by_name_or_object(tiny_model, tmp_path) -> None:
    folder = tiny_model().save_pretrained(tmp_path / "m")
    assert load(folder, dtype="bfloat16").dtype == load(folder, dtype=torch.bfloat16).dtype
    for wrong in ("int8", torch.int64, "bloat16"):
        with pytest.raises(InputError, match="dtype"):
            load(folder, dtype=wrong)


@pytest.mark.gpu
def test_loads_onto_the_gpu_and_gives_the_cpus_logits(tiny_model, tmp_path) -> None:
    model = tiny_model()
    folder = model.save_pretrained(tmp_path / "m")
    on_gpu = load(folder)
    assert on_gpu.device.type == "cuda"
    assert on_gpu.unembed.weight is on_gpu.embed.weight
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.allclose(on_gpu(tokens.cuda()).cpu(), model(tokens), atol=1e-4)
    assert on_gpu.info().weight_hash == model.info().weight_hash
