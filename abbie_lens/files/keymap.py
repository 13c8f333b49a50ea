"""Weights that another program saved, read through a map from its names to ours.

A key map is a dict from patterns to names,

    {"layers.prelude.{b}.attn.wq.weight": "head.{b}.attn.q_proj.weight",   # {b}: any piece without a dot
     re.compile(r"rope\\..*"): None}                                        # None: not wanted

or a function `(name, tensor) -> name | None | {name: tensor}`, where the dict is for tensors that must be
split, transposed or reordered on the way. A name that no pattern matches keeps itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from abbie_lens.errors import CheckpointError, ConfigError

Target = str | Mapping[str, Tensor] | None
KeyMap = Mapping[str | re.Pattern[str], str | None] | Callable[[str, Tensor], Target]

PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class KeyReport:
    """What a key map did with a file's tensors."""

    renamed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name in the file -> names in the model."""
    dropped: tuple[str, ...] = ()
    """Names in the file that the map sends to None."""
    missing: tuple[str, ...] = ()
    """Names of the model that nothing was mapped to: these keep their random initialisation."""
    unused: tuple[str, ...] = ()
    """Names in the file that lead to no name of the model."""

    @property
    def complete(self) -> bool:
        """Whether every tensor of the model and of the file found its partner."""
        return not (self.missing or self.unused)

    def __str__(self) -> str:
        lines = [f"{len(self.renamed)} tensors mapped, {len(self.dropped)} dropped on purpose"]
        for what, names in (
            ("missing from the file", self.missing),
            ("unused by the model", self.unused),
        ):
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names)}")
        return "; ".join(lines)


def apply_key_map(
    key_map: KeyMap,
    stored: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    aliases: Mapping[str, str],
    put: Callable[[str, Tensor], bool],
) -> KeyReport:
    """Put every tensor where the map says, one by one, and report.

    `expected` has the model's names, `aliases` those of tied tensors -> the name that holds them; `put` fills one, and is
    False where a tied one has other values already.
    Errors: CheckpointError if two tensors of the file claim one name, or a tied pair differs.
    """
    send = key_map if callable(key_map) else _from_patterns(key_map)
    origin: dict[str, str] = {}
    renamed, dropped, unused = {}, [], []
    for old in stored:
        tensor = stored[old]
        target = send(old, tensor)
        if target is None:
            dropped.append(old)
            continue
        pieces = {target: tensor} if isinstance(target, str) else target
        if not isinstance(pieces, Mapping):
            raise ConfigError(
                f"key_map: {old!r} gave {pieces!r}; expected a name, None, or a dict of named tensors."
            )
        for new, piece in pieces.items():
            if new not in expected and new not in aliases:
                unused.append(old if new == old else f"{old} -> {new}")
                continue
            if new in origin:
                raise CheckpointError(f"key_map: {origin[new]!r} and {old!r} both lead to {new!r}.")
            origin[new] = old
            renamed[old] = (*renamed.get(old, ()), new)
            if not put(new, piece):
                tied = next(h for n, h in aliases.items() if new in (n, h))
                others = [n for n, h in aliases.items() if h == tied and n in origin]
                raise CheckpointError(
                    f"key_map: {tied} and {others[0]} differ in the file, but the config ties them: "
                    "set tie_word_embeddings=False."
                )
    reached = {aliases.get(name, name) for name in origin}
    missing = tuple(name for name in expected if name not in reached)
    return KeyReport(renamed, tuple(dropped), missing, tuple(unused))


def _from_patterns(
    patterns: Mapping[str | re.Pattern[str], str | None],
) -> Callable[[str, Tensor], Target]:
    rules = [(_compile(source), _writer(source, target)) for source, target in patterns.items()]

    def send(name: str, _tensor: Tensor) -> Target:
        for pattern, write in rules:
            if match := pattern.fullmatch(name):
                return write(match)
        return name

    return send


def _compile(source: str | re.Pattern[str]) -> re.Pattern[str]:
    if isinstance(source, re.Pattern):
        return source
    pieces = PLACE.split(source)  # literal, place, literal, place, ..., literal
    if len(names := pieces[1::2]) != len(set(names)):
        raise ConfigError(f"key_map: {source!r} names a place twice.")
    text = "".join(
        f"(?P<{piece}>[^.]+)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces)
    )
    return re.compile(text)


def _writer(
    source: str | re.Pattern[str], target: str | None
) -> Callable[[re.Match[str]], str | None]:
    """What turns a match of `source` into the model's name."""
    if target is None:
        return lambda _match: None
    if isinstance(source, re.Pattern):
        return lambda match: _expand(match, target)
    if unknown := set(PLACE.findall(target)) - set(PLACE.findall(source)):
        raise ConfigError(f"key_map: {target!r} has {{{min(unknown)}}}, which {source!r} has not.")
    return lambda match: PLACE.sub(lambda place: match[place[1]], target)


def _expand(match: re.Match[str], target: str) -> str:
    try:
        return match.expand(target)
    except (re.error, IndexError) as error:
        raise ConfigError(f"key_map: {match.re.pattern!r} -> {target!r}: {error}.") from error
