"""Labels whose classes are counted from the text: which token stands here, and how frequent it is.

Counting sees all documents, also those that a probe is tested on: it settles what is asked, not the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError
from probes.figures.labels import is_special
from probes.labels.label import UNDEFINED, Label, shifted

MOST_FREQUENT = 20
"""Tokens told apart by default."""
BANDS = ("rarest fifth", "4th fifth", "middle fifth", "2nd fifth", "most frequent fifth")


@dataclass(frozen=True)
class Counted:
    """A label that is not settled before tokens were counted."""

    name: str
    description: str
    settle: Callable[[Counter[str], int], Label]
    """Tokens of the text and how many to tell apart -> the label."""

    def count(self, documents: Iterable[Sequence[str]], n: int = MOST_FREQUENT) -> Label:
        """The label over the tokens of these documents, as `to_str_tokens` writes them.

        n: how many of the most frequent tokens are told apart. Errors: InputError for n < 2, or fewer than two tokens.
        """
        if n < 2:
            raise InputError(f"n={n!r}: expected an integer >= 2, the tokens to tell apart.")
        counts = Counter(t for document in documents for t in document if not is_special(t))
        if len(counts) < 2:
            raise InputError(
                f"label={self.name!r}: the text has {len(counts)} different tokens; two are needed."
            )
        return self.settle(counts, n)


def _identity(name: str, description: str, by: int) -> Counted:
    """Which token stands `by` positions later."""

    def settle(counts: Counter[str], n: int) -> Label:
        # Ties fall by the token itself, so that the order of documents cannot be seen.
        kept = [token for token, _ in sorted(counts.items(), key=lambda x: (-x[1], x[0]))[:n]]
        number = {token: i for i, token in enumerate(kept)}

        def function(tokens: Sequence[str]) -> np.ndarray:
            here = np.array([number.get(token, UNDEFINED) for token in tokens], dtype=np.int64)
            return shifted(here, by) if by else here

        return _OfTokens(
            name, f"{description}, of the {len(kept)} most frequent", tuple(kept), function
        )

    return Counted(name, description, settle)


def _frequency(counts: Counter[str], n: int) -> Label:
    """Five bands of equally many tokens, by how often the token occurs in the text."""
    ordered = sorted(counts.items(), key=lambda x: (x[1], x[0]))
    # The middle of a token's own share decides, so that one frequent token does not straddle two bands.
    mass = np.cumsum([count for _, count in ordered], dtype=np.float64)
    middle = (mass - 0.5 * np.array([count for _, count in ordered])) / mass[-1]
    band = dict(
        zip((t for t, _ in ordered), (len(BANDS) * middle).astype(int).tolist(), strict=True)
    )

    def function(tokens: Sequence[str]) -> np.ndarray:
        return np.array([band.get(token, UNDEFINED) for token in tokens], dtype=np.int64)

    return _OfTokens("token_frequency", COUNTED["token_frequency"].description, BANDS, function)


class _OfTokens(Label):
    """A label of whole tokens, parts of a character included."""

    def __call__(self, str_tokens: Sequence[str]) -> np.ndarray:
        return self.function(str_tokens)


COUNTED: dict[str, Counted] = {
    label.name: label
    for label in (
        _identity("current_token", "which token this is", 0),
        _identity("next_token", "which token comes next", 1),
        _identity("previous_token", "which token came before", -1),
        Counted("token_frequency", "how frequent the token is in the text", _frequency),
    )
}
"""Every label whose classes are counted, by name."""
