"""Token files: a corpus as one memory-mapped array of ids, with a JSON sidecar.

Every document begins with the separator (`<|endoftext|>`), so that text is always read after it.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from abbie_lens.corpus import encode
from abbie_lens.errors import InputError

from .tokenizer import tokenizer_hash

FORMAT = "abbie-lens-tokens-1"


@dataclass(frozen=True)
class TokenFile:
    """A corpus of token ids on disk."""

    path: Path
    tokens: np.ndarray = field(repr=False)
    """[n_tokens] uint16 or uint32, memory-mapped."""
    documents: np.ndarray = field(repr=False)
    """[n_documents] where each document's separator lies."""
    vocab_size: int
    separator: int
    tokenizer_hash: str

    @classmethod
    def open(cls, path: str | Path) -> "TokenFile":
        """Map a file that `write_tokens` made; InputError where it is missing, cut or foreign."""
        path = Path(path)
        sidecar = path.with_suffix(".json")
        try:
            meta = json.loads(sidecar.read_text())
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"tokens={str(path)!r}: its {sidecar.name} can't be read: {error}"
            ) from error
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise InputError(f"tokens={str(path)!r}: {sidecar.name} is not of format {FORMAT}")
        dtype = np.dtype(meta["dtype"])
        expected = meta["n_tokens"] * dtype.itemsize
        size = path.stat().st_size if path.is_file() else -1
        if size != expected or expected == 0:
            raise InputError(f"tokens={str(path)!r} has {size} bytes; its sidecar says {expected}")
        return cls(
            path=path,
            tokens=np.memmap(path, dtype=dtype, mode="r"),
            documents=np.asarray(meta["documents"], dtype=np.int64),
            vocab_size=meta["vocab_size"],
            separator=meta["separator"],
            tokenizer_hash=meta["tokenizer_hash"],
        )

    def split(self, share: float) -> tuple["TokenFile", "TokenFile"]:
        """The first 1 - `share` of the tokens and the rest; a document may fall on both sides."""
        cut = len(self.tokens) - int(len(self.tokens) * share)
        after = self.documents[self.documents >= cut] - cut
        if len(after) == 0 or after[0] > 0:
            after = np.concatenate([[0], after])
        first = dataclasses.replace(
            self, tokens=self.tokens[:cut], documents=self.documents[self.documents < cut]
        )
        return first, dataclasses.replace(self, tokens=self.tokens[cut:], documents=after)


def write_tokens(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    path: str | Path,
    max_tokens: int | None = None,
) -> TokenFile:
    """Encode `documents` into `path` (.bin) and its .json; both appear whole or not at all.

    Stops after the document that reaches `max_tokens`.
    """
    path = Path(path)
    if path.suffix != ".bin":
        raise InputError(f"tokens={str(path)!r}: a token file's name ends in .bin")
    separator = _separator(tokenizer)
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    offsets, n_tokens = [], 0
    try:
        with open(partial, "wb") as out:
            for document in documents:
                offsets.append(n_tokens)
                out.write(np.array([separator], dtype=dtype).tobytes())
                n_tokens += 1
                for ids, _ in encode(document, tokenizer):
                    out.write(ids.astype(dtype).tobytes())
                    n_tokens += len(ids)
                if max_tokens is not None and n_tokens >= max_tokens:
                    break
        if n_tokens == 0:
            raise InputError("data: there is no document to encode")
        meta = {
            "format": FORMAT,
            "dtype": dtype.name,
            "n_tokens": n_tokens,
            "vocab_size": len(tokenizer),
            "separator": separator,
            "tokenizer_hash": tokenizer_hash(tokenizer),
            "documents": offsets,
        }
        os.replace(partial, path)
        sidecar = partial.with_suffix(".json.tmp")
        sidecar.write_text(json.dumps(meta))
        os.replace(sidecar, path.with_suffix(".json"))
    finally:
        partial.unlink(missing_ok=True)
    return TokenFile.open(path)


def _separator(tokenizer: PreTrainedTokenizerFast) -> int:
    for token in (tokenizer.bos_token, tokenizer.eos_token):
        if token is not None:
            return tokenizer.get_vocab()[str(token)]
    raise InputError("tokenizer: it has neither a bos nor an eos token to separate documents")
