"""Labels by name that follow from the text alone: no data file is needed."""

from __future__ import annotations

from abbie_lens.errors import InputError, nearest
from probes.labels.classes import (
    CAPITALS,
    TOKEN_CLASSES,
    capitalisation,
    next_word_start,
    token_class,
)
from probes.labels.label import Label, shifted
from probes.labels.places import WORD_POSITIONS, quote_depth, word_position

LABELS: dict[str, Label] = {
    label.name: label
    for label in (
        Label(
            "next_word_start",
            "whether the next token starts a new word",
            ("no", "yes"),
            next_word_start,
        ),
        Label("current_class", "class of the token itself", TOKEN_CLASSES, token_class),
        Label(
            "next_class",
            "class of the next token",
            TOKEN_CLASSES,
            lambda texts: shifted(token_class(texts), 1),
        ),
        Label(
            "previous_class",
            "class of the token before",
            TOKEN_CLASSES,
            lambda texts: shifted(token_class(texts), -1),
        ),
        Label(
            "word_position",
            "number of the word in its sentence",
            WORD_POSITIONS,
            word_position,
        ),
        Label(
            "capitalisation",
            "upper or lower case of the token",
            CAPITALS,
            capitalisation,
        ),
        Label(
            "quote_depth",
            "inside or outside double quotes after the token",
            ("outside", "inside"),
            quote_depth,
        ),
    )
}
"""Every label whose classes are known before the text is."""


def get_label(label: str | Label) -> Label:
    """The label called so, or the label itself. Errors: InputError for an unknown name."""
    if isinstance(label, Label):
        return label
    if label not in LABELS:
        known = ", ".join(LABELS)
        raise InputError(f"label={label!r}: expected one of {known}.{nearest(str(label), LABELS)}")
    return LABELS[label]
