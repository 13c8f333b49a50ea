"""The one place that turns token strings into labels: what is invisible shows, what is HTML is text.

Plotly reads a small HTML in titles, ticks, annotations and hovers. Every string that comes from a
user or a tokenizer passes through `token_label` or `escape` before it reaches a figure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby

MAX_CHARS = 24
_SPECIAL = re.compile(r"<\|[^\s|<>][^<>]*\|>|</?(?:s|pad|unk|bos|eos|mask|cls|sep)>", re.IGNORECASE)
BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")
"""A token that is part of a character, as `to_str_tokens` writes it."""
_SHOWN = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍", "\x7f": "␡", "\u00a0": "⍽"}
_JOINER = "\u200d"


def escape(text: str) -> str:
    """`text` for Plotly: &, < and > are text; $ cannot start a MathJax formula."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("$", "&#36;")


def visible(token: str, max_chars: int | None = MAX_CHARS) -> str:
    """Plain text in which every character of `token` shows: space ·, newline ↵, tab ⇥,
    control characters as ␀…, formatting characters and surrogates as ⟨U+202E⟩. Not escaped."""
    if token == "":
        return "⟨empty⟩"
    if max_chars is not None and len(token) > max_chars:
        token = token[: max_chars - 1] + "…"
    shown = [_visible_char(token, i) for i in range(len(token))]
    # A combining mark with nothing under it would sit on the neighbouring label.
    alone = unicodedata.category(token[0]).startswith("M")
    return ("◌" if alone else "") + "".join(shown)


def token_label(token: str, max_chars: int | None = MAX_CHARS) -> str:
    """`token` as it may stand in a Plotly label: visible, shortened, escaped."""
    return escape(visible(token, max_chars))


def name_label(name: str) -> str:
    """A name, escaped; one that is a token, with spaces around it or what does not show, as tokens are."""
    plain = name.strip() == name and name.isprintable() and name
    return escape(name) if plain else token_label(name)


def token_labels(tokens: Sequence[str], max_chars: int | None = MAX_CHARS) -> list[str]:
    """A label per position, no two equal: the n-th appearance of a token carries its number."""
    labels = [token_label(t, max_chars) for t in tokens]
    seen: dict[str, int] = {}
    used = set(labels)
    unique = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        name = label
        while seen[label] > 1 and name in used:
            name = f"{label} ({seen[label]})"
            seen[label] += name in used
        used.add(name)
        unique.append(name)
    return unique


def joined(tokens: Iterable[str]) -> str:
    """The text that `tokens` spell: the bytes of a character are that character again."""
    runs = groupby(tokens, key=lambda token: BYTES.fullmatch(token) is not None)
    return "".join(_decoded("".join(run)) if split else "".join(run) for split, run in runs)


def _decoded(run: str) -> str:
    return bytes.fromhex(run[3:-1].replace("><0x", "")).decode(errors="backslashreplace")


def prompt_label(tokens: Sequence[str], max_chars: int = 60) -> str:
    """The tokens joined into one short escaped quotation, special tokens left out.

    Characters of double width, such as emoji, count twice.
    """
    text = joined(t for t in tokens if not is_special(t)).strip()
    text = re.sub(r"\s+", " ", text)
    ends = list(accumulate(1 + (unicodedata.east_asian_width(char) in "WF") for char in text))
    if text and ends[-1] > max_chars:
        text = text[: sum(end < max_chars for end in ends)].rstrip() + "…"
    shown = "".join(c if c == " " else _visible_char(text, i) for i, c in enumerate(text))
    return escape(f"“{shown}”")


def is_special(token: str) -> bool:
    """Whether `token` looks like a special token (`<|endoftext|>`, `<s>`, `<pad>`)."""
    return _SPECIAL.fullmatch(token) is not None


def _visible_char(text: str, i: int) -> str:
    char = text[i]
    if char in _SHOWN:
        return _SHOWN[char]
    code, category = ord(char), unicodedata.category(char)
    if code < 0x20:
        return chr(0x2400 + code)
    joins = char == _JOINER and 0 < i < len(text) - 1
    if category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"} and not joins:
        return f"⟨U+{code:04X}⟩"
    return char
