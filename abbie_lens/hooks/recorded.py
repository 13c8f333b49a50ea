"""from_cache: activations that another program recorded, as an IterationCache.

A module inside a loop is called once an iteration, so recorders keep a list for it: nnsight's `tracer.cache()` a list of
entries with `.output`, a forward hook of one's own a list of tensors. Row i of such a list is `name@i`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.hooks.cache import IterationCache, Rows
from abbie_lens.loops.base import CONCEPT_SPACE

"""Sites with a row before the first iteration."""


def from_cache(
    recorded: Mapping[str, Any],
    *,
    n_iters: int | None = None,
    model: Any = None,
    ragged: bool = False,
) -> IterationCache:
    """The cache of `recorded`: by site a list, one entry an iteration, or one entry for a site outside the loop.

    An entry is a tensor, an object with the tensor as `.output` or `.value` (nnsight's), or a tuple that begins with it.
    `n_iters` None is the length of the lists; `loop.hook_state` and `loop.hook_readout` have one row more. `ragged` allows
    lists of other lengths and rows of other shapes, as nested loops have them. `model` is what was run, if that is one of
    ours. Tensors are shared, not copied. Errors: InputError naming the site.
    """
    if not isinstance(recorded, Mapping):
        raise InputError(
            f"recorded: {type(recorded).__name__}; expected a mapping from site names to lists of tensors."
        )
    rows: dict[str, Rows] = {}
    plain: dict[str, Tensor] = {}
    aliases = getattr(model, "aliases", {})
    for name, entries in recorded.items():
        if not isinstance(name, str) or not name or "@" in name:
            raise InputError(f"recorded: {name!r} is no site name; expected text without '@'.")
        name = aliases.get(name, name)
        if not _is_list(entries):
            plain[name] = _tensor(entries, name)
        elif len(entries):
            rows[name] = {i: _tensor(entry, f"{name}@{i}") for i, entry in enumerate(entries)}
        else:
            raise InputError(f"{name}: an empty list; expected one entry an iteration.")
    if not (rows or plain):
        raise InputError("recorded: empty; expected at least one site.")
    lengths = {name: len(of) for name, of in rows.items()}
    if n_iters is None:
        n_iters = _depth(lengths)
    elif isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < 0:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 0.")
    if not ragged:
        for name, of in rows.items():
            _require_regular(name, of, _expected(name, n_iters, model), lengths)
    cache = IterationCache(rows, plain, lengths, model, n_iters)
    cache.aliases = aliases
    return cache


def _is_list(entries: Any) -> bool:
    """A list of entries; a tuple is one entry, the output of a module that returns several things."""
    return isinstance(entries, Sequence) and not isinstance(entries, (str, bytes, tuple))


def _tensor(entry: Any, where: str) -> Tensor:
    seen: Any = entry
    for field in ("output", "value"):
        if not isinstance(seen, Tensor) and getattr(seen, field, None) is not None:
            seen = getattr(seen, field)
    if isinstance(seen, tuple) and seen:
        seen = seen[0]
    if not isinstance(seen, Tensor):
        raise InputError(
            f"{where}: {type(entry).__name__}; expected a tensor, an entry with .output or .value, or a tuple that begins with one."
        )
    return seen.detach()


def _depth(lengths: Mapping[str, int]) -> int | None:
    """r, from the first site with r rows, or from a state's r + 1."""
    for name, length in lengths.items():
        if name not in CONCEPT_SPACE:
            return length
    return min(lengths.values()) - 1 if lengths else None


def _expected(name: str, n_iters: int | None, model: Any) -> int:
    depth = n_iters or 0
    site = name.removesuffix("_grad")
    if site in getattr(model, "hook_dict", {}) and hasattr(model, "rows"):
        return model.rows(site, depth)
    return depth + (site in CONCEPT_SPACE)


def _require_regular(name: str, rows: Rows, expected: int, lengths: Mapping[str, int]) -> None:
    """Errors: InputError for another number of rows, or rows of several shapes."""
    if len(rows) != expected:
        others = sorted({f"{other} {n}" for other, n in lengths.items() if n != len(rows)})
        beside = f" Beside it: {', '.join(others[:3])}." if others else ""
        raise InputError(
            f"{name}: {len(rows)} rows, expected {expected}.{beside} A site outside the loop is given as one tensor, not as "
            "a list; ragged=True takes other lengths."
        )
    shapes = list(dict.fromkeys(tuple(row.shape) for row in rows.values()))
    if len(shapes) > 1:
        raise InputError(
            f"{name}: its rows have shapes {shapes[0]} and {shapes[1]}; expected one shape (ragged=True takes several)."
        )
