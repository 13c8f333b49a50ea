"""Pairs of prompts to begin with: of a model's own task where it has one, of prose where not."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from abbie_lens.tasks.khop import KHop
from app.view import plain, prompts
from probes import Patching


@dataclass(frozen=True)
class Example:
    """Two prompts of as many tokens; the tokens to judge by, "" for what the runs say."""

    clean: str
    corrupt: str
    answer: str = ""
    other: str = ""
    toward: str = ""
    away: str = ""
    """Texts to steer by, one a line; "" for the two prompts."""
    control: str = ""
    """A third prompt of as many tokens, with another answer; "" for one that is drawn."""


PROSE = Example(
    "The old man came into the room, sat down at the table, and then",
    "The old woman came into the room, sat down at the table, and then",
    " he",
    " she",
    "She was happy\nShe laughed with joy",
    "She was sad\nShe wept with grief",
    "The old dog came into the room, sat down at the table, and then",
)
LANGUAGE = Example(
    "The capital of France is", "The capital of Germany is", " Paris", " Berlin",
    control="The capital of Italy is",
)  # fmt: skip


def usual(model: str, text: str) -> Example:
    """What to begin with for a model; `text` is the sidebar's prompt."""
    task = prompts.own_task(model)
    if isinstance(task, KHop):
        return hop_pair(prompts.usual(model))
    if task is not None:
        return Example(text, text)
    return LANGUAGE if prompts.usual(model) in prompts.LANGUAGE else PROSE


def hop_pair(row: str) -> Example:
    """From a row of k-hop: its map with two hops asked of one node, and of another; of a third as control.

    `a f ; c a ; … a > >` and `a f ; c a ; … c > >`: the answers are f(f(a)) and f(f(c)).
    """
    words = row.split()
    ways = [words[i : i + 3] for i in range(0, len(words) - 2, 3)]
    ways = [way for way in ways if way[2] == ";" and ">" not in way]
    shown = " ".join(" ".join(way) for way in ways)
    first, other = ways[0][0], ways[len(ways) // 2][0]
    third = next((way[0] for way in ways if way[0] not in (first, other)), "")
    control = f"{shown} {third} > >" if third else ""
    return Example(f"{shown} {first} > >", f"{shown} {other} > >", control=control)


def show(result: Patching) -> None:
    """The prompts, token by token, with those that differ from the corrupt one between ⟦ and ⟧."""
    shown = {"clean": result.clean_tokens, "corrupt": result.tokens, "control": result.control_tokens}  # fmt: skip
    lines = []
    for name, rows in shown.items():
        if not rows:
            continue
        differs = result.differs[0].tolist()
        if name == "control" and len(rows[0]) == len(result.tokens[0]):
            differs = [a != b for a, b in zip(rows[0], result.tokens[0], strict=True)]
        lines.append(f"{name:8}{marked(rows[0], differs)}")
    st.code("\n".join(lines), language=None, wrap_lines=True)


def marked(tokens: tuple[str, ...], differs: list[bool]) -> str:
    """Tokens with those that differ marked."""
    shown = [plain.token(token) for token in tokens]
    return " ".join(f"⟦{t}⟧" if d else t for t, d in zip(shown, differs, strict=False))
