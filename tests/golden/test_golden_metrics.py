"""The same numbers as scikit-learn gives."""

import numpy as np
import pytest
from sklearn import metrics as sk

from hepar.config import EvaluateConfig
from hepar.evaluate import (
    METRICS,
    Predictions,
    decide,
    measure_curves,
    precision_recall_curve,
    roc_curve,
)
from hepar.evaluate.metrics import count_by_patient, values

LABELS = ("normal", "benign", "malignant")


@pytest.fixture(params=[0, 1, 2])
def rows(request):
    generator = np.random.default_rng(request.param)
    n = 240
    truth = generator.integers(0, 3, n)
    p = np.round(generator.dirichlet([1, 1, 1], n) + np.eye(3)[truth] * 0.6, 1)  # with ties
    p /= p.sum(axis=1, keepdims=True)
    names = np.array(LABELS)
    patients = [f"P{i}" for i in generator.integers(0, 30, n)]
    ids = [f"s{i}" for i in range(n)]
    return Predictions(
        ids, patients, ["test"] * n, [""] * n, names[truth], decide(p, LABELS), p, LABELS
    )


def ours(name, rows, weights=None):
    counts = count_by_patient(rows)
    tally = counts.tally(None if weights is None else weights[None])
    return values(METRICS.get(name), tally).ravel()


def weights_of(rows):
    counts = count_by_patient(rows)
    drawn = np.random.default_rng(5).integers(0, 4, len(counts.patients)).astype(float)
    return drawn, drawn[np.searchsorted(counts.patients, rows.patient_id)]


@pytest.mark.parametrize("weighted", [False, True])
def test_every_metric_equals_scikit_learn(rows, weighted):
    by_patient, by_row = weights_of(rows) if weighted else (None, None)
    truth, predicted = rows.reference, rows.predicted
    kw = {"sample_weight": by_row}
    each = {"labels": list(LABELS), "average": None, **kw}
    macro = {"labels": list(LABELS), "average": "macro", **kw}
    expected = {
        "accuracy": [sk.accuracy_score(truth, predicted, **kw)],
        "balanced_accuracy": [sk.balanced_accuracy_score(truth, predicted, **kw)],
        "sensitivity": [
            *sk.recall_score(truth, predicted, **each),
            sk.recall_score(truth, predicted, **macro),
        ],
        "precision": [
            *sk.precision_score(truth, predicted, **each),
            sk.precision_score(truth, predicted, **macro),
        ],
        "f1": [*sk.f1_score(truth, predicted, **each), sk.f1_score(truth, predicted, **macro)],
    }
    auroc = [
        sk.roc_auc_score(truth == label, rows.probabilities[:, c], **kw)
        for c, label in enumerate(LABELS)
    ]
    expected["auroc"] = [*auroc, np.mean(auroc)]
    specificity = [
        sk.recall_score(truth != label, predicted != label, pos_label=True, **kw)
        for label in LABELS
    ]
    expected["specificity"] = [*specificity, np.mean(specificity)]
    assert set(expected) == set(METRICS)
    for name, numbers in expected.items():
        np.testing.assert_allclose(ours(name, rows, by_patient), numbers, rtol=1e-12)


def test_the_confusion_matrix_equals_scikit_learn(rows):
    matrix = count_by_patient(rows).tally().confusion
    expected = sk.confusion_matrix(rows.reference, rows.predicted, labels=list(LABELS))
    np.testing.assert_array_equal(matrix, expected)


def test_the_roc_curve_equals_scikit_learn(rows):
    positive = rows.reference == "malignant"
    score = rows.probabilities[:, 2]
    alarms, hits, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(score, positive), (alarms, hits))


def test_precision_recall_and_its_area_equal_scikit_learn(rows):
    positive = rows.reference == "malignant"
    score = rows.probabilities[:, 2]
    precision, recall, _ = sk.precision_recall_curve(positive, score)
    ours = precision_recall_curve(score, positive)
    np.testing.assert_allclose(ours, (recall[:-1][::-1], precision[:-1][::-1]))
    area = measure_curves(rows, 2, EvaluateConfig(resamples=10)).average_precision
    assert area == pytest.approx(sk.average_precision_score(positive, score))
