"""The estimators follow scikit-learn."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from abbie_lens.errors import InputError
from probes import LinearProbe, RidgeProbe

SKIPPED = {
    "check_array_api_input": "the data go to NumPy first: torch, not the array API, fits on other devices",
}


@pytest.mark.parametrize(
    "estimator", [LinearProbe(tol=1e-2), RidgeProbe()], ids=lambda e: type(e).__name__
)
def test_scikit_learns_own_checks(estimator):
    found = check_estimator(estimator, expected_failed_checks=SKIPPED, on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in found if r["status"] == "failed"}
    assert not failed and len(found) > 30


def test_penalty_is_chosen_on_whole_documents_and_all_tokens_are_fitted_on():
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(20), 15)
    y = rng.integers(0, 3, len(documents))
    # features that name the document: held-out tokens of known documents would make them look good
    x = np.concatenate([np.eye(20)[documents], rng.normal(size=(len(y), 3))], 1)
    probe = LinearProbe((0.1, 1e4), random_state=0)
    assert probe.fit(x, y, documents).penalty_ == 1e4
    assert clone(probe).fit(x, y, documents).coef_.tolist() == probe.coef_.tolist()
    scaler = StandardScaler().fit(x)
    theirs = LogisticRegression(C=1e-4, tol=1e-8).fit(scaler.transform(x), y)
    np.testing.assert_allclose(probe.coef_, theirs.coef_, atol=1e-3)


def test_several_labels_and_names_of_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    named = np.where(x[:, 0] > 0, "verb", "noun")
    probe = LinearProbe().fit(x, named)
    assert set(probe.predict(x)) == {"verb", "noun"} and probe.score(x, named) > 0.95
    assert probe.decision_function(x).shape == (200,) and probe.coef_.shape == (1, 4)
    labels = (x[:, :3] > 0).astype(int)
    several = LinearProbe().fit(x, labels)
    assert several.predict(x).shape == several.predict_proba(x).shape == (200, 3)
    assert (several.predict(x) == labels).mean() > 0.95


def test_bad_settings_are_named():
    x, y = np.eye(4), np.array([0, 1, 0, 1])
    for settings, message in (
        (dict(penalty=-1), "penalty=-1"),
        (dict(dtype="float16"), "dtype='float16'"),
    ):
        with pytest.raises(InputError, match=message):
            LinearProbe(**settings).fit(x, y)
    with pytest.raises(InputError, match="documents: 2 of them"):
        LinearProbe().fit(x, y, documents=[0, 1])
