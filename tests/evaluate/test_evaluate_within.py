"""Slices told apart inside patients, where every patient holds several labels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.evaluate import aggregate, evaluate, headline, write_evaluation
from hepar.provenance import stamp

FEW = EvaluateConfig(resamples=100)


@pytest.fixture
def mixed(make):
    """Return patients whose slices are told apart perfectly, at a height of the patient's own."""

    def rows(sizes):
        truth, names, severe = [], [], []
        for number, (without, having) in enumerate(sizes):
            truth += ["normal"] * without + ["tumour"] * having
            names += [f"P{number}"] * (without + having)
            height = 0.9 * (number % 2)
            own = [*np.linspace(0, 0.04, without), *np.linspace(0.05, 0.09, having)]
            severe.append(height + np.array(own))
        severe = np.concatenate(severe)
        table = make(truth, np.stack([1 - severe, severe], axis=1), names, ("normal", "tumour"))
        return replace(table, fold=np.full(len(truth), "0"))

    return rows


def written(rows, tmp_path):
    path = tmp_path / "evaluation.json"
    write_evaluation(path, evaluate(rows, aggregate(rows), FEW), stamp("test"))
    return path


def test_the_number_to_quote_is_the_mean_of_patients_and_not_of_all_slices(mixed, tmp_path):
    path = written(mixed([(12, 12)] * 4), tmp_path)
    first = headline(path)
    assert (first["level"], first["value"], first["n_patients"]) == ("within-patient", 1.0, 4)
    said = first["sentence"]
    assert said.startswith("AUROC of slices inside a patient 1.000 (no interval: rests on 4 pat")
    assert "Over all slices together it is 0.750: that also compares slices of different" in said
    assert "Balanced accuracy of patients is undefined: no patients with reference" in said


def test_patients_with_few_slices_of_a_label_are_named_and_not_counted(mixed, tmp_path):
    path = written(mixed([(12, 12), (12, 10), (3, 40), (12, 12)]), tmp_path)
    (record,) = json.loads(path.read_text())["within_patient"]
    assert (record["left_out"], record["n_patients"]) == (["P2"], 3)
    assert "not counted: P2, with fewer than 10 slices" in headline(path)["sentence"]


def test_ten_patients_have_an_interval_over_patients(mixed):
    rows = mixed([(12, 12)] * 10)
    severe = rows.probabilities[:, 1].copy()
    severe[:18] = severe[:18][::-1]
    rows = replace(rows, probabilities=np.stack([1 - severe, severe], axis=1))
    (record,) = evaluate(rows, aggregate(rows), FEW).within
    assert record["low"] < record["value"] < record["high"] <= 1
    assert record["method"] == "bootstrap"
    assert record["no_interval"] is None


def test_a_minority_of_patients_does_not_speak_for_all(mixed, tmp_path):
    path = written(mixed([(12, 12), (0, 20), (1, 20), (2, 20)]), tmp_path)
    assert headline(path)["level"] == "slice"


def test_without_mixed_patients_the_reason_stands_in_the_file(mixed):
    rows = mixed([(4, 0), (0, 4)])
    (record,) = evaluate(rows, aggregate(rows), FEW).within
    assert record["value"] is None
    assert record["undefined"] == "no patient has 10 slices with and 10 without 'tumour'"
