"""Conformal sets against MAPIE, the reference implementation."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from hepar.evaluate import Predictions, decide, fit_conformal
from hepar.evaluate.conformal import _scores

LABELS = ("a", "b", "c")


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose input is its answer."""

    classes_ = np.arange(3)
    n_features_in_ = 3

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, x):
        return np.asarray(x)

    def predict(self, x):
        return np.asarray(x).argmax(axis=1)


def drawn(n):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), n)
    return probabilities, np.array([rng.choice(3, p=p) for p in probabilities])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_lac_sets_are_mapies_fitted_label_by_label(coverage):
    probabilities, codes = drawn(300)
    ids = np.array([f"p{i}" for i in range(300)])
    table = Predictions(
        sample_id=ids,
        patient_id=ids,
        partition=np.full(300, "train"),
        fold=np.full(300, "0"),
        reference=np.array(LABELS)[codes],
        predicted=decide(probabilities, LABELS),
        probabilities=probabilities,
        labels=LABELS,
        level="patient",
    )
    ours = fit_conformal(table, "lac", coverage).sets(probabilities)
    for code in range(3):
        mapie = SplitConformalClassifier(
            Given(), confidence_level=coverage, conformity_score="lac", prefit=True
        )
        mapie.conformalize(probabilities[codes == code], codes[codes == code])
        _, theirs = mapie.predict_set(probabilities)
        np.testing.assert_array_equal(ours[:, code], theirs[:, code, 0])


def test_aps_scores_are_mapies_sums_before_it_adds_chance():
    probabilities, codes = drawn(300)
    sums, _ = APSConformityScore.get_true_label_cumsum_proba(codes, probabilities, np.arange(3))
    ours = _scores("aps", probabilities)[np.arange(300), codes]
    np.testing.assert_allclose(ours, sums[:, 0], atol=1e-12)
