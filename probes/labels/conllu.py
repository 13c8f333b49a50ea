"""Reading CoNLL-U: sentences of words, and the exact text with the characters that each word stands for.

A file is paragraphs of ten tab-separated columns, https://universaldependencies.org/format.html. Multiword tokens
(`2-3`) are what the text shows, their words what it means; empty nodes (`8.1`) show nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from abbie_lens.errors import InputError

_ID = re.compile(r"([1-9]\d*)(?:-([1-9]\d*)|(\.\d+))?|0(\.\d+)")
_ESCAPES = {"s": " ", "t": "\t", "n": "\n", "r": "\r", "p": "|", "\\": "\\"}
_COLUMNS = 10


@dataclass(frozen=True)
class Word:
    """A syntactic word."""

    start: int
    """First character in the document."""
    end: int
    """The one after the last. Words of one multiword token share its span where their forms do not spell it."""
    form: str
    upos: str
    xpos: str
    deprel: str
    head: int | None
    """Number of its head in the sentence, from 1; 0 for the root; None where the file does not say."""


@dataclass(frozen=True)
class Sentence:
    """Words that are one tree."""

    document: int
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Treebank:
    """Documents and their sentences."""

    documents: tuple[str, ...]
    sentences: tuple[Sentence, ...]


@dataclass
class _Raw:
    """A sentence as its lines say it, before it has a place in a document."""

    line: int
    comments: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    """Line number and columns."""


def read_conllu(*paths: str | Path) -> Treebank:
    """The treebank in these files.

    A document begins at `# newdoc`; in a file without one every sentence is a document. Between sentences stands a
    space, between paragraphs (`# newpar`) a blank line; nothing where the last word has SpaceAfter=No.
    Errors: InputError naming file, line and what is wrong there.
    """
    documents: list[str] = []
    sentences: list[Sentence] = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"conllu={str(path)!r} can't be read as text: {error}") from None
        add_conllu(text, str(path), documents, sentences)
    if not sentences:
        raise InputError(f"conllu={', '.join(map(str, paths))!r}: holds no sentence.")
    return Treebank(tuple(documents), tuple(sentences))


def parse_conllu(text: str, name: str = "text") -> Treebank:
    """The treebank that `text` is; `name` stands in errors. Errors: as `read_conllu`."""
    documents: list[str] = []
    sentences: list[Sentence] = []
    add_conllu(text, name, documents, sentences)
    if not sentences:
        raise InputError(f"conllu={name!r}: holds no sentence.")
    return Treebank(tuple(documents), tuple(sentences))


def add_conllu(text: str, name: str, documents: list[str], sentences: list[Sentence]) -> None:
    """Append what one file holds."""
    raw = list(_sentences(text, name))
    divided = any("newdoc" in sentence.comments for sentence in raw)
    gap = ""
    for number, sentence in enumerate(raw):
        if number == 0 or not divided or "newdoc" in sentence.comments:
            documents.append("")
            gap = ""
        elif "newpar" in sentence.comments:
            gap = "\n\n"
        begin = len(documents[-1]) + len(gap)
        shown, words, after = _placed(sentence, name)
        moved = tuple(
            Word(w.start + begin, w.end + begin, w.form, w.upos, w.xpos, w.deprel, w.head)
            for w in words
        )
        documents[-1] += gap + shown
        sentences.append(Sentence(len(documents) - 1, moved))
        gap = after


def _sentences(text: str, name: str) -> Iterator[_Raw]:
    sentence: _Raw | None = None
    for number, line in enumerate(re.split(r"\r?\n", text), start=1):
        if not line.strip():
            if sentence is not None and sentence.rows:
                yield sentence
                sentence = None
            continue
        sentence = sentence or _Raw(number)
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            # "newdoc" and "newpar" stand alone or with an id.
            key = re.sub(r"^(newdoc|newpar)\b.*", r"\1", key.strip())
            sentence.comments[key] = value.removeprefix(" ")
            continue
        columns = line.split("\t")
        if len(columns) != _COLUMNS:
            raise InputError(
                f"conllu={name!r}, line {number}: {len(columns)} tab-separated columns; CoNLL-U has {_COLUMNS}."
            )
        if not _ID.fullmatch(columns[0]):
            raise InputError(
                f"conllu={name!r}, line {number}: ID {columns[0]!r}; expected 3, 2-3 or 8.1."
            )
        sentence.rows.append((number, columns))
    if sentence is not None and sentence.rows:
        yield sentence


def _placed(sentence: _Raw, name: str) -> tuple[str, list[Word], str]:
    """The sentence's text, its words with characters in it, and what stands between it and the next."""
    shown = sentence.comments.get("text")
    text, at, gap = shown.rstrip() if shown is not None else "", 0, ""
    words: list[Word] = []
    inside: list[tuple[int, list[str]]] = []
    until, surface = 0, ""
    for line, columns in sentence.rows:
        found = _ID.fullmatch(columns[0])
        assert found is not None
        first, last, empty = found[1], found[2], found[3] or found[4]
        if empty:
            continue
        expected = len(words) + len(inside) + 1
        if int(first) != expected or (last and int(last) <= expected):
            raise InputError(
                f"conllu={name!r}, line {line}: ID {columns[0]!r}; expected {expected}."
            )
        if last and until:
            raise InputError(f"conllu={name!r}, line {line}: multiword token inside another.")
        if last or not until:
            surface = columns[1]
            if shown is None:
                text += gap + surface
                at += len(gap)
            else:
                at += len(text[at:]) - len(text[at:].lstrip())
                if not text.startswith(surface, at):
                    raise InputError(
                        f"conllu={name!r}, line {line}: form {surface!r} is not what '# text' goes on with,"
                        f" {text[at : at + 20]!r}."
                    )
            gap = _after(columns[9])
        if last:
            until = int(last)
            continue
        inside.append((line, columns))
        if not until or len(words) + len(inside) == until:
            spans = _shared(surface, [c[1] for _, c in inside], at)
            words += [_word(c, n, s, name) for (n, c), s in zip(inside, spans, strict=True)]
            at, until, inside = at + len(surface), 0, []
    if until:
        raise InputError(
            f"conllu={name!r}, line {sentence.line}: multiword token to {until} is not complete."
        )
    for (line, columns), word in zip(_real(sentence), words, strict=True):
        if word.head is not None and word.head > len(words):
            raise InputError(
                f"conllu={name!r}, line {line}: HEAD {columns[6]!r} in a sentence of {len(words)} words."
            )
    return text, words, gap


def _real(sentence: _Raw) -> list[tuple[int, list[str]]]:
    return [(n, c) for n, c in sentence.rows if c[0].isdigit()]


def _shared(surface: str, forms: list[str], at: int) -> list[tuple[int, int]]:
    """Characters of the words of one token: their own where they spell it, else all of it for each."""
    if "".join(forms) != surface:
        return [(at, at + len(surface))] * len(forms)
    spans = []
    for form in forms:
        spans.append((at, at + len(form)))
        at += len(form)
    return spans


def _word(columns: list[str], line: int, span: tuple[int, int], name: str) -> Word:
    head = None
    if columns[6] != "_":
        if not re.fullmatch(r"\d+", columns[6]):
            raise InputError(
                f"conllu={name!r}, line {line}: HEAD {columns[6]!r}; expected a number or _."
            )
        head = int(columns[6])
        if head == int(columns[0]):
            raise InputError(f"conllu={name!r}, line {line}: HEAD {head} is the word itself.")
    return Word(*span, columns[1], columns[3], columns[4], columns[7], head)


def _after(misc: str) -> str:
    """What stands after a token."""
    fields = {key: value for key, _, value in (part.partition("=") for part in misc.split("|"))}
    if fields.get("SpaceAfter") == "No":
        return ""
    if "SpacesAfter" in fields:
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), fields["SpacesAfter"])
    return " "
