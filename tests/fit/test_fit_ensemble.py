"""Ensembles learn from out-of-fold rows of other folds, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepar.data import LabelSet
from hepar.ensemble_job import _columns
from hepar.errors import FitError
from hepar.evaluate import Predictions, decide
from hepar.fit import fit_ensemble
from hepar.model import LinearHead, Member, Part

LABELS = LabelSet(("normal", "malignant"))
N = 80


def table(seed, sharpness):
    """Out-of-fold predictions of 40 patients in four folds, and of five test patients."""
    rng = np.random.default_rng(seed)
    owner = np.arange(N + 10) // 2
    truth = owner % 2
    score = (
        (truth - 0.5) * 2 + np.random.default_rng(9).normal(size=N + 10) + rng.normal(size=N + 10)
    )
    p = 1 / (1 + np.exp(-sharpness * score))
    probabilities = np.stack([1 - p, p], axis=1)
    is_test = np.arange(N + 10) >= N
    return Predictions(
        sample_id=np.array([f"s{i:03d}" for i in range(N + 10)]),
        patient_id=np.array([f"P{i:02d}" for i in owner]),
        partition=np.where(is_test, "test", "train"),
        fold=np.where(is_test, "", (owner // 2 % 4).astype(str)),
        reference=np.array(LABELS.names)[truth],
        predicted=decide(probabilities, LABELS.names),
        probabilities=probabilities,
        labels=LABELS.names,
    )


def member(start):
    head = LinearHead(LABELS, np.zeros(2), np.ones(2), np.zeros((2, 2)), np.zeros(2), 1.0)
    return Member(((start, start + 2),), head)


TABLES = (table(1, 8.0), table(2, 0.3))
MEMBERS = (member(0), member(2))


@pytest.mark.parametrize("how", ["vote", "stack"])
def test_a_fold_is_combined_by_what_the_others_taught(how):
    before = fit_ensemble(how, TABLES, MEMBERS, LABELS).predictions
    own = TABLES[0].fold == "2"
    turned = np.where(own, np.array(LABELS.names)[1 - (TABLES[0].reference == "malignant")],
                      TABLES[0].reference)  # fmt: skip
    lied = tuple(replace(t, reference=turned) for t in TABLES)
    after = fit_ensemble(how, lied, MEMBERS, LABELS).predictions
    np.testing.assert_array_equal(after.probabilities[own], before.probabilities[own])
    others = ~own
    assert not np.allclose(after.probabilities[others], before.probabilities[others])


@pytest.mark.parametrize("how", ["vote", "stack"])
def test_test_rows_are_combined_by_the_shipped_head_and_teach_nothing(how):
    result = fit_ensemble(how, TABLES, MEMBERS, LABELS)
    is_test = TABLES[0].partition == "test"
    each = np.stack([t.probabilities for t in TABLES])
    np.testing.assert_array_equal(
        result.predictions.probabilities[is_test], result.head.combine(each[:, is_test])
    )
    unknown = np.where(is_test, "", TABLES[0].reference)
    again = fit_ensemble(how, tuple(replace(t, reference=unknown) for t in TABLES), MEMBERS, LABELS)
    np.testing.assert_array_equal(again.predictions.probabilities, result.predictions.probabilities)


def test_a_vote_softens_the_sure_and_sharpens_the_timid():
    sure, timid = fit_ensemble("vote", TABLES, MEMBERS, LABELS).head.temperatures
    assert sure > 2
    assert timid < 0.5


def test_combining_two_noisy_members_beats_each():
    def loss(table):
        chosen = table.probabilities[np.arange(len(table)), (table.reference == "malignant") * 1]
        return -np.log(np.maximum(chosen, 1e-12)).mean()

    for how in ("vote", "stack"):
        combined = fit_ensemble(how, TABLES, MEMBERS, LABELS).predictions
        assert loss(combined) < min(map(loss, TABLES))


def test_members_of_other_samples_or_folds_are_refused():
    short = TABLES[1].select(np.arange(N + 10) > 0)
    moved = replace(TABLES[1], fold=np.where(TABLES[1].fold == "0", "1", TABLES[1].fold))
    for other in (short, moved):
        with pytest.raises(FitError, match="the same samples and folds"):
            fit_ensemble("vote", (TABLES[0], other), MEMBERS, LABELS)


def test_a_network_that_two_members_share_is_kept_once(part_of):
    one, two = part_of(), part_of("small_cnn", "random")
    changed = {**one.weights, "conv_stem.weight": one.weights["conv_stem.weight"] + 1}
    other = replace(one, weights=changed)
    parts: list[Part] = []
    assert _columns((one,), parts) == ((0, 1280),)
    assert _columns((two, one), parts) == ((1280, 1536), (0, 1280))
    assert _columns((other,), parts) == ((1536, 2816),)
    assert len(parts) == 3
