"""A tiny model that reads text, and requests as lm-eval makes them."""

from types import SimpleNamespace

import pytest

from abbie_lens.loops import AbbieD


@pytest.fixture(scope="session")
def reader(tiny_model, tiny_tokenizer):
    """A model of 300 tokens with a context of 24, far from repeating its last token."""
    return tiny_model(
        AbbieD(), tokenizer=tiny_tokenizer, d_vocab=300, n_ctx=24, seed=5,
        tie_word_embeddings=False, initializer_range=0.3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def request_of():
    """`request_of("context", " continuation")`: what lm-eval asks."""

    def make(*arguments):
        return SimpleNamespace(args=arguments, arguments=arguments)

    return make
