"""One probe as scikit-learn has it: `LinearProbe` for classes and labels, `RidgeProbe` for numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from abbie_lens.errors import InputError
from probes.probing.fitted import Fitted
from probes.probing.logistic import Logistic
from probes.probing.probe import Probe, decide, probabilities
from probes.probing.ridge import Ridge
from probes.probing.split import VALIDATION_SHARE
from probes.probing.standard import Scaler, scaler
from probes.probing.targets import Kind


class _Linear(BaseEstimator):
    """Standardise, fit, choose the penalty: what both estimators share."""

    def __init__(
        self,
        penalty: float | Sequence[float] = 1.0,
        *,
        tol: float = 1e-4,
        max_iter: int = 1000,
        device: str = "cpu",
        dtype: str = "float64",
        random_state: Any = None,
    ) -> None:
        self.penalty = penalty
        self.tol = tol
        self.max_iter = max_iter
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def _learn(self, x: Any, y: np.ndarray, kind: Kind, n_classes: int, documents: Any) -> None:
        penalties = np.atleast_1d(np.asarray(self.penalty, dtype=float))
        if penalties.ndim != 1 or not len(penalties) or not (penalties > 0).all():
            raise InputError(f"penalty={self.penalty!r}: expected a positive number, or several.")
        if documents is not None and len(documents) != len(x):
            raise InputError(f"documents: {len(documents)} of them for {len(x)} tokens.")
        self.penalty_ = float(penalties[0])
        if len(penalties) > 1:
            self.penalty_ = self._chosen(x, y, kind, n_classes, penalties, documents)
        scale, found = self._solved(x, y, kind, n_classes, np.array([self.penalty_]))
        self.mean_, self.scale_ = scale.mean, scale.scale
        self.coef_ = found.coef[0, 0].cpu().double().numpy()
        self.intercept_ = found.intercept[0, 0].cpu().double().numpy()
        self.n_iter_ = int(found.n_iters[0, 0])
        self.converged_ = bool(found.converged[0, 0])

    def _solved(
        self, x: np.ndarray, y: np.ndarray, kind: Kind, n_classes: int, penalties: np.ndarray
    ) -> tuple[Scaler, Fitted]:
        dtype = getattr(torch, self.dtype, None)
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"dtype={self.dtype!r}: expected 'float32' or 'float64'.")
        values = torch.tensor(x)
        scale = scaler(values)
        ready = scale.apply(values.to(self.device), dtype)[None]
        labels = torch.from_numpy(y).to(self.device)
        solver: Ridge | Logistic
        if kind == "regression":
            solver = Ridge(ready)
        else:
            softmax = kind == "classes" and n_classes > 2
            if not softmax and labels.ndim == 1:
                labels = labels[:, None]
            columns = n_classes if softmax else labels.shape[1]
            solver = Logistic(ready, columns, softmax)
        given = torch.from_numpy(penalties).to(self.device, dtype)[None]
        tasks = labels[None].expand(len(penalties), *labels.shape)
        return scale, solver.fit(tasks, given, tol=self.tol, max_iter=self.max_iter)

    def _chosen(
        self,
        x: np.ndarray,
        y: np.ndarray,
        kind: Kind,
        n: int,
        penalties: np.ndarray,
        documents: Any,
    ) -> float:
        """The penalty with the best score on held-out documents, or tokens if `documents` is None."""
        groups = np.arange(len(x)) if documents is None else np.asarray(documents)
        names = np.unique(groups)
        order = check_random_state(self.random_state).permutation(names)
        held = np.isin(groups, order[: max(1, round(VALIDATION_SHARE * len(names)))])
        if held.all():
            raise InputError("documents: one only; choosing a penalty needs two.")
        scale, found = self._solved(x[~held], y[~held], kind, n, penalties)
        scores = []
        for i in range(len(penalties)):
            said = Probe(
                kind, (), scale.mean, scale.scale,
                found.coef[0, i].cpu().double().numpy(), found.intercept[0, i].cpu().double().numpy(),
            ).predict(x[held])  # fmt: skip
            true = y[held]
            scores.append(
                -np.square(true - said).mean() if kind == "regression" else (said == true).mean()
            )
        # of equal scores the strongest penalty
        best = max(scores)
        return float(max(p for p, s in zip(penalties, scores, strict=True) if s == best))

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return (x - self.mean_) / self.scale_ @ self.coef_.T + self.intercept_


class LinearProbe(ClassifierMixin, _Linear):
    """Logistic regression on standardised features: one of several classes, or several labels at once.

    penalty: of ‖W‖²/2, scikit-learn's 1/C; of several the best is chosen on held-out documents and the
    probe fitted again on all. tol: a fit is done when no coefficient would change by more. device, dtype:
    where and in what torch fits. After `fit`: classes_, coef_ [class, width] of standardised features
    (one row for two classes), intercept_, mean_, scale_, penalty_, n_iter_, converged_.
    """

    def fit(self, X: Any, y: Any, documents: Any = None) -> LinearProbe:
        """X: [token, width]; y: [token] classes, or [token, label] of 0 and 1; documents: [token]."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        x, y = validate_data(self, X, y, multi_output=True, dtype=[np.float64, np.float32])
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            self.classes_, self._labels = np.arange(y.shape[1]), True
            self._learn(x, y.astype(np.int64), "multilabel", y.shape[1], documents)
            return self
        if y.ndim > 1:
            raise ValueError("y: several outputs must be 0 or 1, one column a label.")
        self._labels = False
        self.classes_, number = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "LinearProbe can't be fitted on one class only: every label is"
                f" {self.classes_[0]!r}."
            )
        self._learn(x, number.astype(np.int64), "classes", len(self.classes_), documents)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """[token, class or label] logits; [token] for two classes."""
        outputs = self._outputs(X)
        return outputs[:, 0] if not self._labels and outputs.shape[1] == 1 else outputs

    def predict_proba(self, X: Any) -> np.ndarray:
        """[token, class or label]"""
        outputs = self._outputs(X)
        return probabilities(outputs, "multilabel" if self._labels else "classes")

    def predict(self, X: Any) -> np.ndarray:
        """[token] classes, or [token, label] of 0 and 1."""
        outputs = self._outputs(X)
        if self._labels:
            return decide(outputs, "multilabel")
        return self.classes_[decide(outputs, "classes")]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class RidgeProbe(RegressorMixin, _Linear):
    """Ridge regression on standardised features, in closed form.

    penalty: of ‖W‖², scikit-learn's alpha; of several the best is chosen on held-out documents and the
    probe fitted again on all. After `fit`: coef_ [output, width] of standardised features (one row for
    one output), intercept_, mean_, scale_, penalty_.
    """

    def fit(self, X: Any, y: Any, documents: Any = None) -> RidgeProbe:
        """X: [token, width]; y: numbers [token] or [token, output]; documents: [token]."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        x, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=[np.float64, np.float32]
        )
        self._flat = y.ndim == 1
        self._learn(x, y.astype(np.float64).reshape(len(y), -1), "regression", 0, documents)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """[token] or [token, output], as y was."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
