"""All probes of a task at once: features of every (site, iteration) in, scores with their controls out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.probing.groups import Solver, groups
from probes.probing.probe import Probe
from probes.probing.scores import Scorer
from probes.probing.split import Split, split
from probes.probing.targets import Kind, Targets, targets
from probes.progress import Callback, Progress

PENALTIES = (1.0, 10.0, 100.0, 1000.0)
"""‖W‖² is charged with half of one of these; scikit-learn's C is 1 / penalty."""


@dataclass(frozen=True)
class Fits:
    """Every probe of one task, scored on documents that none of them saw.

    The last axis of a score is (score, low, high): accuracy, for several labels at once the mean over
    labels, for numbers R²; low and high are its 95% bootstrap interval over test documents. NaN where
    features are not finite.
    """

    targets: Targets
    split: Split
    probes: tuple[Probe | None, ...]
    """[problem] the fitted probe; None where features are not finite."""
    score: np.ndarray
    """[problem, 3]"""
    shuffled: np.ndarray
    """[problem, 3] control: fitted on permuted training labels, tested on true ones; NaN if left out."""
    control: np.ndarray
    """[problem, 3] control task: every word type has one random label, in training and test; NaN without types."""
    selectivity: np.ndarray
    """[problem, 3] score minus control; its interval resamples the same documents for both."""
    majority: np.ndarray
    """[3] always the most frequent training class (of each label); the training mean for numbers."""
    penalty: np.ndarray
    """[problem] chosen on the validation documents."""
    converged: np.ndarray
    """[problem] bool"""
    said: np.ndarray
    """[problem, test token] class numbers; [problem, test token, label or output] for other kinds."""

    def confusion(self, problem: int) -> np.ndarray:
        """[class, class] test tokens by true (row) and predicted class. Errors: InputError for other kinds."""
        if self.targets.kind != "classes":
            raise InputError(f"confusion: only probes of classes have it, not {self.targets.kind}.")
        n = len(self.targets.classes)
        true = self.targets.values[self.split.test]
        return np.bincount(true * n + self.said[problem], minlength=n * n).reshape(n, n)


def fit_many(
    features: Sequence[np.ndarray | Tensor],
    labels: Any,
    documents: Any,
    *,
    kind: Kind | None = None,
    classes: Sequence[str] | None = None,
    types: Any = None,
    penalties: Sequence[float] = PENALTIES,
    shuffled: bool = True,
    parts: Split | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    tol: float | None = None,
    max_iter: int | None = None,
    progress: Callback | None = None,
) -> Fits:
    """Fit a linear probe on each of `features`, all with the same labels, and every control beside it.

    features: one [token, width] array a site and iteration, of any widths. labels: [token] class numbers;
    [token, label] 0/1; floats [token] or [token, output]. documents: [token] which document each is of.
    types: [token] word types (token ids do), for the control task. parts: the sides; drawn with `seed`
    if None. progress: called as (done, total) features; returning False cancels.
    Errors: InputError for labels, documents or features that do not fit, Cancelled.
    Source: Alain & Bengio 2016; controls after Hewitt & Liang 2019.
    """
    raise NotImplementedError
