"""Token files hold exactly the text; tokenizers round-trip anything."""

import json

import numpy as np
import pytest

from abbie_lens.errors import InputError
from abbie_lens.training import (
    TokenFile,
    load_tokenizer,
    tokenizer_hash,
    train_tokenizer,
    write_tokens,
)

TEXT = "Call me Ishmael.\nSome years ago\n\n- never mind how long - having little money.\n" * 20


@pytest.fixture(scope="module")
def tokenizer():
    # Runs of white space have tokens of their own: there a wrong cut would show.
    return train_tokenizer([TEXT, "a\n\n\n  b \n b.\n  c" * 99], vocab_size=300)


def test_end_of_text_is_token_0_and_any_text_round_trips(tokenizer, tmp_path):
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert len(tokenizer) == 300
    text = "naïve 🙂 שלום \x00 <b>&amp;\r\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path)
    assert tokenizer_hash(loaded) == tokenizer_hash(tokenizer)
    assert loaded.bos_token_id == 0


def test_too_small_a_vocabulary():
    with pytest.raises(InputError, match="vocab_size=256"):
        train_tokenizer([TEXT], vocab_size=256)


def test_unknown_tokenizer():
    with pytest.raises(InputError, match="nowhere/at-all"):
        load_tokenizer("nowhere/at-all")


def test_documents_come_back_from_the_file(tokenizer, tmp_path):
    documents = ["one", TEXT, "two <|endoftext|> three"]
    written = write_tokens(documents, tokenizer, tmp_path / "t.bin")
    opened = TokenFile.open(tmp_path / "t.bin")
    assert opened.tokens.dtype == np.uint16 and isinstance(opened.tokens, np.memmap)
    assert (opened.tokens == written.tokens).all()
    # A document that spells the separator out doesn't end there.
    assert np.flatnonzero(opened.tokens == 0).tolist() == opened.documents.tolist()
    pieces = np.split(opened.tokens, opened.documents[1:])
    assert [tokenizer.decode(piece[1:]) for piece in pieces] == documents


def test_nothing_is_left_of_a_failed_write(tokenizer, tmp_path):
    def documents():
        yield "one"
        raise InputError("second document")

    with pytest.raises(InputError, match="second document"):
        write_tokens(documents(), tokenizer, tmp_path / "t.bin")
    assert list(tmp_path.iterdir()) == []


def test_max_tokens_stops_after_a_document(tokenizer, tmp_path):
    written = write_tokens(["aaaa", "bbbb", "cccc"], tokenizer, tmp_path / "t.bin", max_tokens=6)
    assert len(written.documents) == 2


def test_damaged_files_are_refused(tokenizer, tmp_path):
    path = tmp_path / "t.bin"
    with pytest.raises(InputError, match=r"t\.json can't be read"):
        TokenFile.open(path)
    write_tokens([TEXT], tokenizer, path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="bytes; its sidecar says"):
        TokenFile.open(path)
    sidecar = path.with_suffix(".json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "format": "other"}))
    with pytest.raises(InputError, match="not of format"):
        TokenFile.open(path)


def test_split_keeps_every_token_and_document_start(tokenizer, tmp_path):
    whole = write_tokens(["abcdefgh" * 5] * 4, tokenizer, tmp_path / "t.bin")
    first, rest = whole.split(0.3)
    assert np.concatenate([first.tokens, rest.tokens]).tolist() == whole.tokens.tolist()
    assert len(rest.tokens) == int(len(whole.tokens) * 0.3)
    assert first.documents.tolist() == whole.documents[: len(first.documents)].tolist()
    assert rest.documents[0] == 0
    assert (rest.tokens[rest.documents[1:]] == 0).all()
