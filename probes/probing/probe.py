"""One fitted linear reader of a state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError
from probes.probing.targets import Kind


@dataclass(frozen=True)
class Probe:
    """x ↦ coef · (x − mean) / scale + intercept, and what that says."""

    kind: Kind
    classes: tuple[str, ...]
    """Names of the classes, labels or outputs."""
    mean: np.ndarray
    """[width] float64, of the training tokens."""
    scale: np.ndarray
    """[width] float64"""
    coef: np.ndarray
    """[column, width] of standardised features; one column for two classes."""
    intercept: np.ndarray
    """[column]"""

    @property
    def direction(self) -> np.ndarray:
        """[column, width] the same in the units of the state: what a column rises by along each feature."""
        return self.coef / self.scale

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """[..., column] logits, or numbers, of x [..., width]. Errors: InputError for another width."""
        if x.shape[-1] != len(self.mean):
            raise InputError(f"x: width {x.shape[-1]}; this probe reads {len(self.mean)}.")
        return (x.astype(np.float64) - self.mean) / self.scale @ self.coef.T + self.intercept

    def predict(self, x: np.ndarray) -> np.ndarray:
        """[...] class numbers; [..., label] 0 or 1; [..., output] numbers."""
        return decide(self.outputs(x), self.kind)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """[..., class or label]. Errors: InputError for a regression."""
        if self.kind == "regression":
            raise InputError("probabilities: a regression has none.")
        return probabilities(self.outputs(x), self.kind)


def decide(outputs: np.ndarray, kind: Kind) -> np.ndarray:
    """What outputs [..., column] say: class numbers [...], 0 or 1 for each label, or themselves."""
    if kind == "regression":
        return outputs
    if kind == "multilabel":
        return (outputs > 0).astype(np.int64)
    return (outputs[..., 0] > 0).astype(np.int64) if outputs.shape[-1] == 1 else outputs.argmax(-1)


def probabilities(outputs: np.ndarray, kind: Kind) -> np.ndarray:
    """[..., class] or [..., label] of outputs [..., column]."""
    if kind == "multilabel" or outputs.shape[-1] == 1:
        positive = 0.5 * (1 + np.tanh(outputs / 2))
        return positive if kind == "multilabel" else np.concatenate([1 - positive, positive], -1)
    exponents = np.exp(outputs - outputs.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)
