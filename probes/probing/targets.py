"""What a probe is to say of a token: one of several classes, several labels at once, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from abbie_lens.errors import InputError

Kind = Literal["classes", "multilabel", "regression"]
KINDS: tuple[Kind, ...] = ("classes", "multilabel", "regression")


@dataclass(frozen=True)
class Targets:
    """Labels of one probing task, checked."""

    kind: Kind
    values: np.ndarray
    """classes: [token] class numbers; multilabel: [token, label] 0 or 1; regression: [token, output] float64."""
    classes: tuple[str, ...]
    """Names of the classes, labels or outputs."""

    @property
    def n_columns(self) -> int:
        """Logits or outputs of a probe: one for two classes."""
        return 1 if self.kind == "classes" and len(self.classes) == 2 else len(self.classes)

    def check_training(self, train: np.ndarray) -> None:
        """Errors: InputError for a class that no training token has, or a label that never changes there."""
        seen = self.values[train]
        if self.kind == "classes":
            counts = np.bincount(seen, minlength=len(self.classes))
            missing = [name for name, n in zip(self.classes, counts, strict=True) if not n]
            if missing:
                raise InputError(
                    f"labels: no training token has class {missing[0]!r}; leave it out, or use more"
                    " documents."
                )
            return
        constant = (seen == seen[:1]).all(0)
        if constant.any():
            name = self.classes[int(constant.argmax())]
            raise InputError(
                f"labels: {name!r} is {seen[0][constant.argmax()]} for every training token; there is"
                " nothing to learn."
            )


def targets(
    labels: Any, n_tokens: int, kind: Kind | None = None, classes: Sequence[str] | None = None
) -> Targets:
    """The labels, checked against `n_tokens`.

    labels: [token] integers (classes), [token, label] of 0 and 1 (multilabel), or floats [token] or
    [token, output] (regression); `kind` decides where the dtype and shape do not say it.
    Errors: InputError for another length or shape, NaN, fewer than two classes, a class without a name.
    """
    values = np.asarray(labels)
    if values.ndim not in (1, 2) or values.dtype.kind not in "biuf":
        raise InputError(
            f"labels: shape {values.shape}, dtype {values.dtype}; expected numbers [token] or"
            " [token, label]."
        )
    if len(values) != n_tokens:
        raise InputError(f"labels: {len(values)} of them for {n_tokens} tokens; expected one each.")
    if not n_tokens:
        raise InputError("labels: none; a probe needs tokens to be fitted on.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values.reshape(n_tokens, -1)).all(1))[0])
        raise InputError(f"labels: token {bad} has {values[bad]}; leave such tokens out.")
    if kind is None:
        kind = "multilabel" if values.ndim == 2 else "classes"
        kind = "regression" if values.dtype.kind == "f" else kind
    if kind not in KINDS:
        raise InputError(f"kind={kind!r}: expected one of {', '.join(KINDS)}.")
    if kind == "regression":
        numbers = values.astype(np.float64).reshape(n_tokens, -1)
        return Targets(kind, numbers, _names(classes, numbers.shape[1]))
    whole = values.astype(np.int64)
    if (whole != values).any():
        raise InputError(f"labels: {kind} must be whole numbers; floats are for kind='regression'.")
    if kind == "multilabel":
        if whole.ndim != 2 or not np.isin(whole, (0, 1)).all():
            raise InputError("labels: multilabel must be 0 or 1, [token, label].")
        return Targets(kind, whole, _names(classes, whole.shape[1]))
    if whole.ndim != 1 or whole.min() < 0:
        raise InputError("labels: class numbers must be [token] and at least 0.")
    n_classes = int(whole.max()) + 1
    names = _names(classes, n_classes)
    if len(names) < 2 or (whole == whole[0]).all():
        raise InputError(
            f"labels: every token has class {names[int(whole[0])]!r}; a probe needs two."
        )
    return Targets(kind, whole, names)


def _names(names: Sequence[str] | None, at_least: int) -> tuple[str, ...]:
    if names is None:
        return tuple(str(i) for i in range(at_least))
    if len(names) < at_least:
        raise InputError(f"classes: {len(names)} names; the labels go up to number {at_least - 1}.")
    return tuple(names)
