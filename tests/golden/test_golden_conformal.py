"""Conformal sets against MAPIE, the reference implementation."""

import numpy as np
import pytest
from mapie.classification import SplitConformalClassifier
from mapie.conformity_scores import APSConformityScore
from sklearn.base import BaseEstimator, ClassifierMixin

from hepar.evaluate import Predictions, decide, fit_conformal

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


class NoChance(np.random.RandomState):
    """MAPIE's APS takes a random part of the label's own probability away; here, none."""

    def uniform(self, *_, size=None):
        return np.zeros(size)


def drawn(n):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), n)
    return probabilities, np.array([rng.choice(3, p=p) for p in probabilities])


def ours(method, coverage, probabilities, codes):
    """The rule learned from patients with these probabilities and labels."""
    ids = np.array([f"p{i}" for i in range(len(codes))])
    table = Predictions(
        sample_id=ids,
        patient_id=ids,
        partition=np.full(len(codes), "train"),
        fold=np.full(len(codes), "0"),
        reference=np.array(LABELS)[codes],
        predicted=decide(probabilities, LABELS),
        probabilities=probabilities,
        labels=LABELS,
        level="patient",
    )
    return fit_conformal(table, method, coverage)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
def test_lac_thresholds_and_sets_are_mapies_fitted_label_by_label(coverage):
    probabilities, codes = drawn(300)
    rule = ours("lac", coverage, probabilities, codes)
    for code in range(3):
        mapie = SplitConformalClassifier(
            Given(), confidence_level=coverage, conformity_score="lac", prefit=True
        )
        mapie.conformalize(probabilities[codes == code], codes[codes == code])
        _, theirs = mapie.predict_set(probabilities)
        np.testing.assert_array_equal(rule.sets(probabilities)[:, code], theirs[:, code, 0])


@pytest.mark.parametrize("coverage", [0.6, 0.8, 0.9, 0.95])
def test_aps_thresholds_and_sets_are_mapies_but_for_the_label_it_always_adds(coverage):
    """Without chance MAPIE leaves no set empty: it adds the likeliest label. Ours may be empty."""
    probabilities, codes = drawn(300)
    rule = ours("aps", coverage, probabilities, codes)
    sets = rule.sets(probabilities)
    alpha = np.array([1 - coverage])
    for code in range(3):
        score, own = APSConformityScore(), codes == code
        score.set_external_attributes(classes=np.arange(3), random_state=NoChance())
        found = score.get_conformity_scores(codes[own], probabilities[own], codes[own])
        score.quantiles_ = score.get_conformity_score_quantiles(found, alpha, "prefit")
        assert rule.thresholds[code] == pytest.approx(score.quantiles_[0], abs=1e-8)
        theirs = score.get_prediction_sets(
            probabilities[:, :, np.newaxis], found, alpha, "prefit", include_last_label=False
        )[:, code, 0]
        likeliest = probabilities.argmax(axis=1) == code
        np.testing.assert_array_equal(sets[~likeliest, code], theirs[~likeliest])
        assert theirs[likeliest].all()
        fits = probabilities[likeliest, code] <= rule.thresholds[code]
        np.testing.assert_array_equal(sets[likeliest, code], fits)
