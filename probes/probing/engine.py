"""All probes of a task at once: features of every (site, iteration) in, scores with their controls out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.probing.fitted import MAX_ITER, TOL
from probes.probing.probe import Probe
from probes.probing.scores import Scorer
from probes.probing.split import Split, split
from probes.probing.targets import Kind, Targets, targets
from probes.probing.task import CONTROL, SHUFFLED, TRUE, Outcome, Task
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
        """[class, class] test tokens by true (row) and predicted class; 0 where features are not finite. Errors: InputError for other kinds."""
        if self.targets.kind != "classes":
            raise InputError(f"confusion: only probes of classes have it, not {self.targets.kind}.")
        n = len(self.targets.classes)
        said = self.said[problem]
        cells = (self.targets.values[self.split.test] * n + said)[said >= 0]
        return np.bincount(cells, minlength=n * n).reshape(n, n)


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
    tol: float = TOL,
    max_iter: int = MAX_ITER,
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
    found = task(
        labels,
        documents,
        kind=kind,
        classes=classes,
        types=types,
        penalties=penalties,
        parts=parts,
        seed=seed,
        device=device,
        dtype=dtype,
        tol=tol,
        max_iter=max_iter,
    )
    steps = Progress(len(features), progress)
    return fits(found, features, documents, steps, controls=shuffled)


def task(
    labels: Any,
    documents: Any,
    *,
    kind: Kind | None = None,
    classes: Sequence[str] | None = None,
    types: Any = None,
    penalties: Sequence[float] = PENALTIES,
    parts: Split | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
) -> Task:
    """The task that `fit_many` fits, its arguments checked."""
    documents = np.asarray(documents)
    checked = targets(labels, len(documents), kind, classes)
    if not len(penalties) or not all(np.isfinite(p) and p > 0 for p in penalties):
        raise InputError(f"penalties={penalties!r}: expected positive numbers.")
    if types is not None and len(types) != len(documents):
        raise InputError(f"types: {len(types)} of them for {len(documents)} tokens.")
    if parts is None:
        parts = split(checked.values, documents, seed, validation=len(penalties) > 1)
    checked.check_training(parts.train)
    return Task(
        checked,
        parts,
        tuple(float(p) for p in penalties),
        None if types is None else np.asarray(types),
        seed,
        torch.device(device),
        dtype,
        tol,
        max_iter,
    )


def fits(
    job: Task,
    features: Sequence[np.ndarray | Tensor],
    documents: Any,
    steps: Progress,
    *,
    controls: bool = True,
) -> Fits:
    """Fit `job` on each of `features`, telling `steps` of each. Errors: InputError naming features that do not fit."""
    n = len(job.targets.values)
    for i, x in enumerate(features):
        if x.ndim != 2 or len(x) != n:
            raise InputError(
                f"features[{i}]: shape {tuple(x.shape)}; expected [token, width] with {n} tokens."
            )
    if not len(features):
        raise InputError("features: none; expected at least one [token, width] array.")
    conditions = [SHUFFLED] * controls + [CONTROL] * (controls and job.types is not None)
    outcomes: list[Outcome] = []
    for outcome in job.fit(features, conditions):
        outcomes.append(outcome)
        steps.step()
    return _scored(job, outcomes, np.asarray(documents))


def _scored(job: Task, outcomes: list[Outcome], documents: np.ndarray) -> Fits:
    scorer = Scorer(job.targets, job.split, documents, job.seed)
    undefined = np.array([o.probe is None for o in outcomes])
    nothing = np.full((len(outcomes), 3), np.nan)

    def said(condition: str) -> np.ndarray | None:
        every = [o.said.get(condition) for o in outcomes]
        return None if every[0] is None else np.stack(every)  # type: ignore[arg-type]

    def blank(scores: np.ndarray) -> np.ndarray:
        return np.where(undefined[:, None], np.nan, scores)

    true, shuffled, control = said(TRUE), said(SHUFFLED), said(CONTROL)
    assert true is not None
    selectivity = control_score = nothing
    if control is not None:
        # a control answer is right where it names the label drawn for the token's type
        drawn = Targets(job.targets.kind, job.values[CONTROL], job.targets.classes)
        judge = Scorer(drawn, job.split, documents, job.seed)
        control_score = blank(judge.score(control))
        selectivity = blank(scorer.minus(true, judge, control))
    return Fits(
        targets=job.targets,
        split=job.split,
        probes=tuple(o.probe for o in outcomes),
        score=blank(scorer.score(true)),
        shuffled=nothing if shuffled is None else blank(scorer.score(shuffled)),
        control=control_score,
        selectivity=selectivity,
        majority=scorer.majority(job.targets.values[job.split.train]),
        penalty=np.array([o.penalty for o in outcomes]),
        converged=np.array([o.converged for o in outcomes]),
        said=true,
    )
