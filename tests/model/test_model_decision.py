from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest

from hepar.config import DecideConfig, HeadConfig
from hepar.errors import BundleError
from hepar.evaluate import Predictions, decide
from hepar.fit import fit_decision
from hepar.model import Decision, write_answers
from hepar.model.decision import decision_from_json
from hepar.provenance import stamp

LABELS = ("normal", "benign", "malignant")


@pytest.fixture(scope="module")
def scores():
    """Scores of 90 patients with three slices each, too sure of themselves, in five folds."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(90) % 3, 3)
    logits = rng.normal(size=(270, 3)) + 1.5 * np.eye(3)[codes]
    raised = np.exp(4 * logits)
    probabilities = raised / raised.sum(axis=1, keepdims=True)
    return Predictions(
        sample_id=np.array([f"s{i:03d}" for i in range(270)]),
        patient_id=np.repeat([f"p{i:02d}" for i in range(90)], 3),
        partition=np.full(270, "train"),
        fold=np.repeat([str(i % 5) for i in range(90)], 3),
        reference=np.array(LABELS)[codes],
        predicted=decide(probabilities, LABELS),
        probabilities=probabilities,
        labels=LABELS,
    )


@pytest.fixture(scope="module")
def fitted(scores):
    """What is learned from the scores."""
    return fit_decision(scores, HeadConfig(), DecideConfig())


def test_a_decision_survives_its_json_and_decides_the_same(scores, fitted):
    _, _, decision = fitted
    again = decision_from_json(json.loads(json.dumps(decision.to_json())))
    first, second = decision.decide(scores)[1], again.decide(scores)[1]
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert decision.answer(first) == again.answer(second)


def test_probabilities_of_patients_are_calibrated_and_kept_apart_by_fold(scores, fitted):
    slices, patients, decision = fitted
    assert decision.slices.method == decision.patients.method == "temperature"
    assert decision.slices.values["temperature"] > 2
    shipped = decision.decide(scores)[1]
    assert not np.array_equal(shipped.probabilities, patients.probabilities)
    np.testing.assert_allclose(shipped.probabilities, patients.probabilities, atol=0.2)
    assert len(slices) == 270


def test_an_answer_is_the_sets_one_label_or_none_with_the_reason(fitted):
    _, patients, decision = fitted
    answers = decision.answer(patients)
    assert [a.patient_id for a in answers] == patients.patient_id.tolist()
    for answer in answers:
        assert (answer.label == "") == (len(answer.possible) != 1) == bool(answer.reason)
    assert any(a.label for a in answers)
    assert any(not a.label for a in answers)
    score = patients.probabilities[:, 2]
    assert [a.flagged for a in answers] == (score >= decision.point.threshold).tolist()


def test_without_sets_the_answer_is_the_likeliest_label(scores):
    config = DecideConfig(conformal="none", calibration="none")
    _, patients, decision = fit_decision(scores, HeadConfig(), config)
    assert [a.label for a in decision.answer(patients)] == patients.predicted.tolist()
    assert decision.notes[0] == "Probabilities of slices are not calibrated: not asked for."


def test_a_handful_of_patients_gets_notes_and_no_promises(scores):
    few = scores.select(np.arange(27))
    _, patients, decision = fit_decision(few, HeadConfig(), DecideConfig(coverage=0.95))
    assert decision.sets is None
    assert decision.patients.method == "none"
    assert any(note.startswith("No sets of labels: 95 % needs 19") for note in decision.notes)
    assert all(answer.label for answer in decision.answer(patients))


def test_answers_are_written_with_a_column_for_each_thing_said(fitted, tmp_path):
    _, patients, decision = fitted
    write_answers(tmp_path / "a.csv", decision.answer(patients), stamp("test"))
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["patient_id", "answer", "possible", "flagged", "reason"]
    assert {row["flagged"] for row in rows} == {"true", "false"}
    assert all(bool(row["answer"]) != bool(row["reason"]) for row in rows)
    assert any(row["reason"] for row in rows)


def test_a_document_that_is_no_decision_is_refused():
    with pytest.raises(BundleError, match="decision: expected one that hepar wrote"):
        decision_from_json({"aggregate": "mean"})


def test_a_plain_decision_changes_no_probability(scores):
    np.testing.assert_array_equal(Decision().decide(scores)[0].probabilities, scores.probabilities)


def test_patients_that_never_had_to_be_told_apart_get_no_answer(scores):
    mixed = dataclasses.replace(scores, reference=scores.reference.copy())
    for patient in np.unique(mixed.patient_id):  # one slice of each shows the most severe label
        mixed.reference[np.argmax(mixed.patient_id == patient)] = scores.labels[-1]
    _, patients, decision = fit_decision(mixed, HeadConfig(), DecideConfig())
    again = decision_from_json(json.loads(json.dumps(decision.to_json())))
    for one in again.answer(patients):
        assert not one.label
        assert f"every patient that taught it is {scores.labels[-1]}," in one.reason
    assert any("No answers about patients" in note for note in decision.notes)
