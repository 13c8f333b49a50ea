"""A label by its name: of those that need nothing but a text."""

from __future__ import annotations

from abbie_lens.errors import InputError, nearest
from probes.labels.counted import COUNTED, Counted
from probes.labels.label import Labelling
from probes.labels.text import LABELS
from probes.labels.treebank import TREEBANK_LABELS


def find_label(label: str | Labelling | Counted) -> Labelling | Counted:
    """The label called so, or the label itself. Errors: InputError for an unknown name, or one that needs a treebank."""
    if not isinstance(label, str):
        return label
    known = LABELS | COUNTED
    if label in TREEBANK_LABELS:
        raise InputError(
            f"label={label!r}: needs a treebank; pass treebank_label(read_conllu(FILE), {label!r}) and its documents,"
            " or --conllu FILE."
        )
    if label not in known:
        raise InputError(
            f"label={label!r}: expected one of {', '.join(known)}.{nearest(label, known)}"
        )
    return known[label]
