"""Support vector machines: scikit-learn's scores, and probabilities that patients decide."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC

from hepar.config import HeadConfig
from hepar.data import LabelSet
from hepar.errors import FitError
from hepar.fit import fit_head, sample_weights
from hepar.fit.heads import standardisation
from hepar.model.head import head_from_document, head_to_document

LABELS = LabelSet(("normal", "benign", "malignant"))


def task(n_labels=3, patients=24, slices=4, d=12, signal=2.0, seed=0):
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), slices)
    codes = owner % n_labels
    centres = rng.normal(size=(n_labels, d)) * signal
    own = rng.normal(size=(patients, d))
    features = centres[codes] + own[owner] + 0.3 * rng.normal(size=(len(owner), d))
    return features, codes, [f"P{i:02d}" for i in owner]


@pytest.mark.parametrize("kind", ["svm", "svm-rbf"])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_scores_are_scikit_learns(kind, n_labels):
    features, codes, patients = task(n_labels)
    labels = LabelSet(LABELS.names[-n_labels:])
    head = fit_head(features, codes, patients, labels, HeadConfig(kind=kind))
    weights = sample_weights(codes, patients, n_labels)
    mean, scale = standardisation(features, weights)
    standard = (features - mean) / scale
    scores = head.scores(features)
    best = []
    for cost in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
        kernel = {"kernel": "rbf", "gamma": 1 / features.shape[1]} if kind == "svm-rbf" else {}
        columns = []
        for code in range(n_labels):
            machine = SVC(C=cost, **(kernel or {"kernel": "linear"}))
            machine.fit(standard, np.where(codes == code, 1, -1), sample_weight=weights)
            columns.append(machine.decision_function(standard))
        best.append(np.abs(np.stack(columns, axis=1) - scores).max())
    assert min(best) < 1e-3


def test_it_tells_new_patients_apart_and_is_unsure_of_noise():
    features, codes, patients = task()
    head = fit_head(features[:60], codes[:60], patients[:60], LABELS, HeadConfig(kind="svm"))
    right = head.probabilities(features[60:]).argmax(axis=1) == codes[60:]
    assert right.mean() > 0.8
    noise, codes, patients = task(signal=0.0)
    for kind in ("svm", "svm-rbf"):
        head = fit_head(noise, codes, patients, LABELS, HeadConfig(kind=kind))
        surest = head.probabilities(noise).max(axis=1)
        assert np.median(surest) < 0.75  # by rows, where a patient stands on both sides, near 1


@pytest.mark.parametrize("kind", ["linear", "svm", "svm-rbf"])
def test_a_fitted_head_answers_to_the_bit_as_it_does_once_stored(kind):
    features, codes, patients = task(d=60)
    head = fit_head(features, codes, patients, LABELS, HeadConfig(kind=kind))
    again = head_from_document(LABELS, *head_to_document(head))
    np.testing.assert_array_equal(again.probabilities(features), head.probabilities(features))


def test_the_order_of_rows_does_not_matter():
    features, codes, patients = task()
    order = np.random.default_rng(1).permutation(len(codes))
    shuffled = [patients[i] for i in order]
    one = fit_head(features, codes, patients, LABELS, HeadConfig(kind="svm"))
    two = fit_head(features[order], codes[order], shuffled, LABELS, HeadConfig(kind="svm"))
    np.testing.assert_allclose(one.probabilities(features), two.probabilities(features), atol=5e-3)


def test_bad_input_is_one_line():
    features, codes, patients = task()
    with pytest.raises(FitError, match=r"got none of \['malignant'\]"):
        fit_head(features, np.minimum(codes, 1), patients, LABELS, HeadConfig(kind="svm"))
    few = [i for i, p in enumerate(patients) if p in {"P00", "P01", "P02"}]
    with pytest.raises(FitError, match="inner folds of patients that leave every label"):
        fit_head(
            features[few], codes[few], [patients[i] for i in few], LABELS, HeadConfig(kind="svm")
        )
    with pytest.raises(
        FitError, match=r"expected linear, svm, svm-rbf, .* got 'svm_rbf'. Did you mean 'svm-rbf'"
    ):
        fit_head(features, codes, patients, LABELS, HeadConfig(kind="svm_rbf"))


@pytest.mark.parametrize("kind", ["svm", "svm-rbf"])
def test_calibration_never_turns_the_scores_round(kind):
    """Patients whose own level of grey runs against the label between patients, not within."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(3), 40)
    codes = (rng.random(120) < np.array([0.2, 0.5, 0.8])[owner]).astype(int)
    features = rng.normal(size=(120, 6)) * 0.3
    features[:, 0] += codes - 3.0 * owner
    labels = LabelSet(LABELS.names[-2:])
    head = fit_head(features, codes, [f"P{i}" for i in owner], labels, HeadConfig(kind=kind))
    scores, answers = head.scores(features), head.probabilities(features)
    order = np.argsort(scores[:, 1] - scores[:, 0])
    assert (np.diff(answers[order, 1]) >= -1e-12).all()
