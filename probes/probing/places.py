"""Which sites are probed, and where the fits of all of them stand in [site, k]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from abbie_lens.errors import InputError


def checked_sites(model: Any, sites: Sequence[str]) -> list[str]:
    """Bare hook names, each once. Errors: InputError for none, and for single iterations."""
    names = [sites] if isinstance(sites, str) else list(dict.fromkeys(sites))
    if not names:
        raise InputError("sites=(): expected at least one hook name.")
    for name in names:
        if model.address(name).rows is not None:
            raise InputError(
                f"sites: {name!r} names single iterations; give the bare name, all are probed."
            )
    return names


class Places:
    """Where the fits of all sites, one after the other, stand in [site, k]."""

    def __init__(self, sites: Sequence[str], rows: np.ndarray, n_rows: int) -> None:
        self.n_rows, self.rows = n_rows, rows
        self.addresses = [
            f"{site}@{k}" if n else site
            for site, n in zip(sites, rows.tolist(), strict=True)
            for k in range(max(n, 1))
        ]

    def __call__(self, values: np.ndarray, missing: float = np.nan) -> np.ndarray:
        """[site, k, ...] of values [fit, ...], `missing` where a site has fewer rows."""
        full = np.full((len(self.rows), self.n_rows, *values.shape[1:]), missing, values.dtype)
        at = 0
        for s, n in enumerate(np.maximum(self.rows, 1).tolist()):
            full[s, :n] = values[at : at + n]
            at += n
        return full
