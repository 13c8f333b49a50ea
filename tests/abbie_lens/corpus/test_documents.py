"""Documents come out of every kind of source, and a bad source is named."""

import gzip
import json
import lzma

import pytest

from abbie_lens.corpus import documents as corpus_module
from abbie_lens.corpus import read_documents
from abbie_lens.errors import InputError


def test_form_feeds_separate_documents_across_read_boundaries(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "_CHUNK", 3)
    (tmp_path / "a.txt").write_text("first one\fsecond\f\f  \fünf\r\nzeilen")
    documents = list(read_documents(str(tmp_path / "a.txt")))
    assert documents == ["first one", "second", "ünf\r\nzeilen"]


def test_compressed_text_and_jsonl_through_a_glob(tmp_path):
    with lzma.open(tmp_path / "1.txt.xz", "wt") as out:
        out.write("a\fb")
    with gzip.open(tmp_path / "2.jsonl.gz", "wt") as out:
        out.write(json.dumps({"text": "c\fd", "id": 1}) + "\n\n" + json.dumps({"text": "e"}) + "\n")
    assert list(read_documents(str(tmp_path / "*"))) == ["a", "b", "c\fd", "e"]


def test_datasets_source(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "set" / "test.jsonl").write_text('{"text": "t"}\n')
    assert list(read_documents(f"hf:{tmp_path / 'set'}")) == ["a", "b"]
    assert list(read_documents(f"hf:{tmp_path / 'set'}::test")) == ["t"]
    with pytest.raises(InputError, match="nosplit"):
        list(read_documents(f"hf:{tmp_path / 'set'}::nosplit"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.jsonl").write_text('{"body": "a"}\n')
    with pytest.raises(InputError, match=r'no "text" column, only .*body'):
        list(read_documents(f"hf:{tmp_path / 'other'}"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "no text"),
        ("blank.txt", b" \n\f\n", "no text"),
        ("binary.txt", b"\xff\xfe\x00", "can't be read as text"),
        ("cut.txt.xz", lzma.compress(b"words " * 999)[:-20], "can't be read as text"),
        (
            "lines.jsonl",
            b'{"text": "a"}\n{"body": "b"}\n',
            'line 2: expected an object with a "text"',
        ),
        ("numbers.jsonl", b'{"text": 1}\n', "not a string"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        list(read_documents(str(tmp_path / name)))
    assert name in str(raised.value)


def test_missing_file():
    with pytest.raises(InputError, match=r"nowhere\*\.txt.*names no file"):
        list(read_documents("nowhere*.txt"))
