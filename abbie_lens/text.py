"""Between text and tokens: TransformerLens' `to_tokens`, `to_string`, `to_str_tokens` on any fast tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import InputError


class TextMixin:
    """Methods of a model that holds a `tokenizer`."""

    cfg: LoopedConfig
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where tokens are put."""
        raise NotImplementedError

    def as_tokens(self, input: Any, attention_mask: Any = None) -> tuple[Tensor, Tensor | None]:
        """Token ids [batch, pos] on the model's device, and the mask, from text, texts or ids. Errors: InputError."""
        if isinstance(input, str) or (
            isinstance(input, list | tuple) and input and isinstance(input[0], str)
        ):
            tokens, attention_mask = self.tokenize(input)
        else:
            tokens = torch.as_tensor(input, device=self.device)
            tokens = tokens[None] if tokens.ndim == 1 else tokens
            _check_tokens(tokens, self.cfg.d_vocab)
        if tokens.shape[1] > self.cfg.n_ctx:
            raise InputError(
                f"input: {tokens.shape[1]} tokens; the model's context holds {self.cfg.n_ctx}."
            )
        if attention_mask is not None:
            attention_mask = torch.as_tensor(attention_mask, device=self.device)
        return tokens, attention_mask

    def tokenize(
        self, text: str | Sequence[str], prepend_bos: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens [batch, pos], right-padded, and their attention mask (None where nothing is padded).

        Errors: InputError without a tokenizer, for an empty or blank text, or one that is not valid Unicode.
        """
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise InputError("text: an empty list; expected at least one text.")
        rows = [self._encode(t, prepend_bos) for t in texts]
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        tokens = torch.tensor(
            [row + [pad] * (width - len(row)) for row in rows], device=self.device
        )
        if all(len(row) == width for row in rows):
            return tokens, None
        mask = torch.tensor(
            [[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device
        )
        return tokens, mask

    def _encode(self, text: str, prepend_bos: bool) -> list[int]:
        if self.tokenizer is None:
            raise InputError("text: this model has no tokenizer; pass token ids, or give it one.")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text={text!r}: expected a text with at least one visible character.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"text: not valid Unicode at character {error.start} (a lone surrogate)."
            ) from None
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        bos = self.tokenizer.bos_token_id
        return [bos, *ids] if prepend_bos and bos is not None and ids[:1] != [bos] else ids

    def to_tokens(self, text: str | Sequence[str], prepend_bos: bool = True) -> Tensor:
        """Token ids [batch, pos]; several texts of unequal length are right-padded (see `tokenize` for the mask)."""
        return self.tokenize(text, prepend_bos)[0]

    def to_string(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of one sequence of token ids."""
        return self.tokenizer.decode(
            _ids(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def to_str_tokens(
        self, text: str | Tensor | Sequence[int], prepend_bos: bool = True
    ) -> list[str]:
        """One string per token of one sequence; a token that is part of a character reads as its bytes, e.g. `<0xF0>`."""
        ids = self._encode(text, prepend_bos) if isinstance(text, str) else _ids(text)
        if self.tokenizer is None:
            return [str(i) for i in ids]
        return [self._str_token(i) for i in ids]

    def _str_token(self, token: int) -> str:
        decoded = self.tokenizer.decode(
            [token], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        if "\ufffd" not in decoded:
            return decoded
        piece = self.tokenizer.convert_ids_to_tokens(token)
        return "".join(f"<0x{_BYTE_OF[c]:02X}>" if c in _BYTE_OF else c for c in piece)


def _check_tokens(tokens: Tensor, d_vocab: int) -> None:
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.numel() == 0:
        raise InputError(
            f"input: token ids of shape {tuple(tokens.shape)} and type {tokens.dtype}; "
            "expected integers [batch, pos], not empty."
        )
    if torch.compiler.is_compiling() or tokens.is_meta:
        return
    low, high = torch.stack(tokens.aminmax()).tolist()  # one wait for the device, not two
    if low < 0 or high >= d_vocab:
        raise InputError(
            f"input: token ids from {low} to {high}; the vocabulary has 0 to {d_vocab - 1}."
        )


def _ids(tokens: Tensor | Sequence[int]) -> list[int]:
    flat = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
    return flat[0] if flat and isinstance(flat[0], list) and len(flat) == 1 else flat


def _byte_alphabet() -> dict[str, int]:
    """Bytes by the printable characters that byte-level BPE writes them as (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}


_BYTE_OF = _byte_alphabet()
