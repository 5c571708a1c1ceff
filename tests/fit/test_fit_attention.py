"""Attention over slices: its derivatives, what it finds, and what it must not know."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad

from hepar.config import HeadConfig, SplitConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.errors import FitError
from hepar.evaluate import aggregate
from hepar.fit import cross_validate, fit_head
from hepar.fit.attention import Bags, answer_patients, fit_attention_head, loss_and_gradient
from hepar.fit.heads import sample_weights
from hepar.model import softmax
from hepar.split import make_split

LABELS = LabelSet(("normal", "malignant"))
CONFIG = HeadConfig(kind="attention", aggregate="attention")


def planted(n=40, slices=8, d=12, seed=0):
    """Patients of whom one slice in eight tells the label; it is marked by another feature."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (n, slices, d))
    codes = np.arange(n) % 2
    telling = rng.integers(0, slices, n)
    features[np.arange(n), telling, 0] = np.where(codes, 2.0, -2.0)
    features[np.arange(n), telling, 1] += 8.0
    patients = [f"P{i:02d}" for i in range(n) for _ in range(slices)]
    return features.reshape(-1, d).astype(np.float32), np.repeat(codes, slices), patients


def owner_of(patients):
    return np.unique(np.array(patients), return_inverse=True)[1]


def test_the_gradient_is_the_losss():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(5), [1, 4, 2, 3, 2])
    codes = np.array([0, 1, 2, 1, 0])
    weights = sample_weights(codes, list("abcde"), 3)
    bags = Bags(rng.normal(size=(12, 6)), rng.normal(size=(12, 3)), owner, codes, weights)
    shapes = [(3, 6), (3,), (2, 3), (2, 3), (2,)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]

    def apart(flat):
        return [a.reshape(s) for a, s in zip(np.split(flat, ends), shapes, strict=True)]

    def loss(flat):
        return loss_and_gradient(apart(flat), bags, 0.7, 0.3)[0]

    def gradient(flat):
        return np.concatenate(
            [a.ravel() for a in loss_and_gradient(apart(flat), bags, 0.7, 0.3)[1]]
        )

    at = rng.normal(size=sum(int(np.prod(shape)) for shape in shapes))
    assert check_grad(loss, gradient, at) < 1e-5 * np.linalg.norm(gradient(at))


def test_the_slice_that_tells_is_found_from_patients_labels_alone():
    features, codes, patients = planted()
    head = fit_attention_head(features, codes, patients, LABELS, CONFIG)
    new, new_codes, new_patients = planted(seed=1)
    owner = owner_of(new_patients)
    said = answer_patients(head, new, owner).argmax(axis=1)
    truth = new_codes[::8]
    assert (said == truth).mean() > 0.9
    share = softmax(head.attention(new).reshape(-1, 8))
    telling = new[:, 1].reshape(-1, 8).argmax(axis=1)
    assert share[np.arange(40), telling].mean() > 2 / 8
    plain = fit_head(features, codes, patients, LABELS, HeadConfig(kind="linear"))
    mean = plain.probabilities(new)[:, 1].reshape(-1, 8).mean(axis=1) > 0.5
    assert (mean == truth).mean() < (said == truth).mean()


def test_where_all_slices_tell_alike_no_attention_is_taken():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(30) % 2, 5)
    features = rng.normal(0, 1, (150, 6)) + np.where(codes, 1.0, -1.0)[:, None]
    patients = [f"P{i:02d}" for i in range(30) for _ in range(5)]
    head = fit_attention_head(features, codes, patients, LABELS, CONFIG)
    spread = np.ptp(head.attention(features).reshape(30, 5), axis=1)
    assert np.median(spread) < 0.5


def test_a_patients_label_is_the_most_severe_and_slices_labels_are_not_used():
    features, codes, patients = planted(n=12)
    some = codes.copy()
    some[1::8] = 0  # a malignant patient's second slice, and a normal one's
    one, other = (fit_attention_head(features, c, patients, LABELS, CONFIG) for c in (codes, some))
    for name, array in one.to_arrays().items():
        np.testing.assert_array_equal(other.to_arrays()[name], array)


def test_a_label_of_no_patient_is_refused():
    features, _, patients = planted(n=4)
    with pytest.raises(FitError, match=r"expected samples of every label, got none of \['malig"):
        fit_attention_head(features, np.zeros(len(patients), np.int64), patients, LABELS, CONFIG)


def cohort(patients, codes):
    names = LABELS.names
    rows = zip(patients, codes, strict=True)
    samples = [Sample(f"{i:04d}", p, f"{i}", names[c]) for i, (p, c) in enumerate(rows)]
    return Manifest(tuple(samples), LABELS, root=None)


def test_left_out_patients_are_answered_by_heads_that_never_saw_them():
    features, codes, patients = planted(n=20)
    manifest = cohort(patients, codes)
    split = make_split(manifest, SplitConfig(folds=4))
    result = cross_validate(features, manifest.samples, split, LABELS, CONFIG)
    table = result.predictions
    first = split.of(manifest.samples[0]).fold
    rows = table.fold == str(first)
    head = result.fold_heads[first]
    np.testing.assert_array_equal(table.attention[rows], head.attention(features[rows]))
    own = [patients[i] for i in np.flatnonzero(rows)]
    expected = answer_patients(head, features[rows], owner_of(own))
    joined = aggregate(table.select(rows), "attention")
    np.testing.assert_allclose(joined.probabilities, expected, atol=1e-9)
    other = features.copy()
    other[rows] = 0
    again = cross_validate(other, manifest.samples, split, LABELS, CONFIG).fold_heads[first]
    for name, array in head.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)
