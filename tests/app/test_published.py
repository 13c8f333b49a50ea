"""Every page with every published format, on its tiny checkpoint with a tokenizer put beside it."""

import json
import shutil

import pytest

from app import catalog

from .test_pages import PAGES, assert_calm, figures
from .test_plain_decoders import FIGURES

FORMATS = (
    "huginn", "retrofit_llama", "ouro", "hrm_text", "parcae", "pondering_pythia", "loopus",
)  # fmt: skip


def small_tokenizer(folder, size):
    """A tokenizer of words whose ids fit any vocabulary of `size`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<|endoftext|>", "the", "cat", "sat", "on", "mat", ",", "and", "rat", "ran"]
    assert len(words) <= size
    made = Tokenizer(models.WordLevel(dict(zip(words, range(len(words)), strict=True)), words[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    end = words[0]
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=end, eos_token=end, pad_token=end, unk_token=end
    ).save_pretrained(folder)


@pytest.mark.parametrize("name", FORMATS)
def test_every_page_opens(dashboard, shared_fixtures, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copyfile(shared_fixtures / name / file, folder / file)
    config = json.loads((folder / "config.json").read_text())
    small_tokenizer(folder, config.get("vocab_size", 10**6))
    entry = catalog.describe(str(folder))
    assert entry.what == f"published format {name}" and entry.n_params
    at = dashboard("overview.py", models=(str(folder),), query={"r": "2"})
    assert "start" not in [slider.key for slider in at.sidebar.slider]
    for page in PAGES:
        at.switch_page(f"screens/{page}.py").run()
        assert_calm(at)
        # without measurements of a training run, Compare has no figure of all models but the bundled ones'
        assert bool(figures(at)) == (page in FIGURES), page
