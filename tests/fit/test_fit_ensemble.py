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
from hepar.model import LinearHead, Member, Part, softmax
from hepar.model.head import head_from_document, head_to_document

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
def test_the_head_of_a_fold_combines_the_members_of_that_fold_as_its_rows_were(how):
    names = sorted({*TABLES[0].fold} - {""}, key=int)
    of_folds = [(member(2), member(0)) for _ in names]
    result = fit_ensemble(how, TABLES, MEMBERS, LABELS, of_folds)
    each = np.stack([t.probabilities for t in TABLES])
    assert len(result.fold_heads) == len(names) > 1
    for name, head, own in zip(names, result.fold_heads, of_folds, strict=True):
        assert head.members == own
        rows = TABLES[0].fold == name
        np.testing.assert_array_equal(
            result.predictions.probabilities[rows], head.combine(each[:, rows])
        )
    assert result.head.members == MEMBERS


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
    assert timid < 0.7


def test_a_handful_of_right_answers_does_not_make_a_member_certain():
    few = np.isin(TABLES[0].patient_id, [f"P{i:02d}" for i in range(8)])
    right = np.where(TABLES[0].reference[few] == LABELS.names[1], 0.6, 0.4)
    probabilities = np.stack([1 - right, right], axis=1)
    tables = tuple(
        replace(t.select(few), probabilities=probabilities, predicted=t.reference[few])
        for t in TABLES
    )
    temperatures = fit_ensemble("vote", tables, MEMBERS, LABELS).head.temperatures
    assert (temperatures > 0.3).all(), "unheld it would be 0.05, the lowest there is"


def test_combining_two_noisy_members_beats_each():
    def loss(table):
        chosen = table.probabilities[np.arange(len(table)), (table.reference == "malignant") * 1]
        return -np.log(np.maximum(chosen, 1e-12)).mean()

    for how in ("vote", "stack"):
        combined = fit_ensemble(how, TABLES, MEMBERS, LABELS).predictions
        assert loss(combined) < min(map(loss, TABLES))


def test_members_of_other_samples_or_folds_are_refused():
    one = TABLES[1]
    lied = np.where(np.arange(N + 10) == 0, "malignant", one.reference)
    spoilt = {
        "90 and 89 rows, s000 in one alone": one.select(np.arange(N + 10) > 0),
        "fold 0 and 1 at sample s000": replace(one, fold=np.where(one.fold == "0", "1", one.fold)),
        "sample_id s000 and s089 at sample s000": one.select(np.arange(N + 10)[::-1]),
        "reference normal and malignant at sample s000": replace(one, reference=lied),
        "patient_id P00 and s000": replace(one, patient_id=one.sample_id),
    }
    for message, other in spoilt.items():
        with pytest.raises(FitError, match=f"the same samples and folds, got {message}"):
            fit_ensemble("vote", (TABLES[0], other), MEMBERS, LABELS)


def test_members_of_labels_in_another_order_are_refused():
    turned = replace(
        TABLES[1], labels=LABELS.names[::-1], probabilities=TABLES[1].probabilities[:, ::-1]
    )
    with pytest.raises(FitError, match=r"got \['malignant', 'normal'\]"):
        fit_ensemble("vote", (TABLES[0], turned), MEMBERS, LABELS)


def test_an_unknown_way_and_a_missing_member_are_refused():
    with pytest.raises(FitError, match=r"vote or stack, got 'stak'. Did you mean 'stack'\?"):
        fit_ensemble("stak", TABLES, MEMBERS, LABELS)
    with pytest.raises(FitError, match="got 2 tables and 1 members"):
        fit_ensemble("vote", TABLES, MEMBERS[:1], LABELS)
    with pytest.raises(FitError, match="got 0 tables and 0 members"):
        fit_ensemble("vote", (), (), LABELS)


@pytest.mark.parametrize("how", ["vote", "stack"])
def test_a_label_that_only_one_fold_has_is_named(how):
    normal = np.where(TABLES[0].fold == "1", TABLES[0].reference, "normal")
    with pytest.raises(FitError, match=r"got none of \['malignant'\]"):
        fit_ensemble(how, tuple(replace(t, reference=normal) for t in TABLES), MEMBERS, LABELS)


@pytest.mark.parametrize("how", ["vote", "stack"])
def test_a_rows_own_fold_teaches_nothing_by_its_probabilities_either(how):
    before = fit_ensemble(how, TABLES, MEMBERS, LABELS).predictions
    own = np.flatnonzero(TABLES[0].fold == "2")
    lied = []
    for each in TABLES:
        probabilities = each.probabilities.copy()
        probabilities[own[::2]] = probabilities[own[::2], ::-1]
        lied.append(replace(each, probabilities=probabilities))
    after = fit_ensemble(how, lied, MEMBERS, LABELS).predictions
    kept = own[1::2]
    np.testing.assert_array_equal(after.probabilities[kept], before.probabilities[kept])
    others = TABLES[0].fold == "1"
    assert not np.allclose(after.probabilities[others], before.probabilities[others])


@pytest.mark.parametrize("how", ["vote", "stack"])
def test_a_fitted_ensemble_of_three_labels_answers_to_the_bit_as_it_does_once_stored(how):
    labels = LabelSet(("normal", "benign", "malignant"))
    rng = np.random.default_rng(0)
    codes = np.arange(N) // 2 % 3
    tables = []
    for _ in range(2):
        probabilities = softmax(2 * np.eye(3)[codes] + rng.normal(size=(N, 3)))
        own = TABLES[0].select(np.arange(N))
        tables.append(
            replace(
                own,
                reference=np.array(labels.names)[codes],
                predicted=decide(probabilities, labels.names),
                probabilities=probabilities,
                labels=labels.names,
            )
        )
    weights = rng.normal(size=(2, 3, 2))
    zero, one = np.zeros(3), np.ones(2)
    heads = [LinearHead(labels, np.zeros(2), one, weight, zero, 1.0) for weight in weights]
    members = [Member(((2 * i, 2 * i + 2),), head) for i, head in enumerate(heads)]
    head = fit_ensemble(how, tables, members, labels).head
    again = head_from_document(labels, *head_to_document(head))
    features = rng.normal(size=(300, 4))
    np.testing.assert_array_equal(again.probabilities(features), head.probabilities(features))


def test_a_network_that_two_members_share_is_kept_once(part_of):
    one, two = part_of(), part_of("small_cnn", "random")
    changed = {**one.weights, "conv_stem.weight": one.weights["conv_stem.weight"] + 1}
    other = replace(one, weights=changed)
    parts: list[Part] = []
    assert _columns((one,), parts) == ((0, 1280),)
    assert _columns((two, one), parts) == ((1280, 1536), (0, 1280))
    assert _columns((other,), parts) == ((1536, 2816),)
    assert len(parts) == 3
