"""Which sites and which tokens are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import SiteError
from abbie_lens.hooks.capture import wanted_sites
from abbie_lens.hooks.memory import site_shape

if TYPE_CHECKING:
    from abbie_lens.corpus import Window
    from abbie_lens.model import HookedLoopedTransformer


def wanted_rows(
    model: HookedLoopedTransformer, sites: tuple[str, ...], n_iters: int
) -> dict[str, list[int]]:
    """Iterations to keep of every site, ascending; [] for a site outside the loop.

    Errors: SiteError for an unknown address, or a site that has no row for each token.
    """
    wanted: dict[str, list[int]] = {}
    for name, addresses in wanted_sites(list(sites), list(model.hook_dict)).items():
        if site_shape(model.cfg, name, 1, 7)[:2] != (1, 7):
            raise SiteError(
                f"{name}: it has a row for each head, not for each token; read attention with run_with_cache."
            )
        chosen = [model.address(str(address)) for address in addresses]
        rows = {row for a in chosen for row in a.select(model.rows(name, n_iters))}
        wanted[name] = sorted(rows) if model.hook_dict[name].looped else []
    return wanted


def key(name: str, row: int | None) -> str:
    """What a site's row is called in a shard."""
    return name if row is None else f"{name}@{row}"


def token_draws(window: Window, seed: int) -> np.ndarray:
    """[pos] `draws` of the window's tokens."""
    return draws(window.document, np.arange(window.first, window.first + len(window)), seed)


def draws(document: Any, number: np.ndarray, seed: int) -> np.ndarray:
    """[token] uint64 uniform draws of tokens by their document and number there.

    Of these and the seed alone (splitmix64 of the three).
    """
    with np.errstate(over="ignore"):
        of = _mix(np.asarray(document, np.uint64) ^ _mix(np.uint64(seed % 2**63)))
        return _mix(number.astype(np.uint64) ^ of)


def kept(window: Window, share: float, seed: int) -> np.ndarray:
    """Positions of the window that are kept, ascending."""
    if share >= 1:
        return np.arange(len(window))
    return np.flatnonzero(token_draws(window, seed) < np.uint64(share * 2**64))


def _mix(x: Any) -> Any:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
