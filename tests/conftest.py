"""Fixtures shared by every test: tiny models, the corpora beside the checkout, the browser."""

import os

# Before torch and huggingface_hub are imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("WANDB_MODE", "disabled")

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of corpora beside the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the corpora folder ../shared/data is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """The folder of tiny public-format models beside the checkout."""
    folder = ROOT.parent / "shared" / "fixtures"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/fixtures is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of an installed Chromium. In CI a missing one is a failure, not a skip."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("no Chromium on this machine, and CI must run the browser tests")
    pytest.skip("no Chromium on this machine")


@pytest.fixture(scope="session")
def tiny_config() -> Callable:
    """`tiny_config(loop=AbbieD(), **changes)`: a config of a few thousand parameters."""
    from abbie_lens import LoopedConfig
    from abbie_lens.loops import AbbieD

    def make(loop=None, **changes):
        sizes = dict(
            d_model=32, n_heads=4, d_head=8, d_mlp=64, n_ctx=64, d_vocab=100,
            n_head_blocks=1, n_body_blocks=2, n_tail_blocks=1, n_iters=2, seed=0,
        )  # fmt: skip
        return LoopedConfig(loop=AbbieD() if loop is None else loop, **(sizes | changes))

    return make


@pytest.fixture(scope="session")
def tiny_model(tiny_config) -> Callable:
    """`tiny_model(loop=AbbieD(), tokenizer=None, **changes)`: a fresh model, in eval mode."""
    from abbie_lens import HookedLoopedTransformer

    def make(loop=None, tokenizer=None, **changes):
        return HookedLoopedTransformer(tiny_config(loop, **changes), tokenizer=tokenizer).eval()

    return make


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A byte-level BPE tokenizer of at most 300 entries, `<|endoftext|>` = 0 = bos = eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the cat sat on the mat, and the rat ran; then the cat ran."], trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=end, eos_token=end, pad_token=end
    )


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory) -> Path:
    """A folder of lm-eval task files: `minimal_pairs` (20 pairs of sentences), `copying`, `texts`."""
    import datasets

    folder = tmp_path_factory.mktemp("tasks")
    # Else the tables it makes of JSON files stay in the user's cache.
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets")
    for source in sorted((ROOT / "tests" / "data").glob("*.yaml")):
        data = source.with_name("minimal_pairs.jsonl")
        text = source.read_text(encoding="utf-8").replace("DATA", data.as_posix())
        (folder / source.name).write_text(text, encoding="utf-8")
    return folder
