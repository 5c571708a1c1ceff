"""The evaluation: patients first, every number there or its reason."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    PATIENTS_UNKNOWN,
    aggregate,
    evaluate,
    headline,
    write_evaluation,
)
from hepar.provenance import stamp

FEW = EvaluateConfig(resamples=200)
KEYS = {
    "metric",
    "level",
    "label",
    "partition",
    "value",
    "undefined",
    "low",
    "high",
    "method",
    "no_interval",
    "n_patients",
    "n_samples",
}


@pytest.fixture(scope="module")
def rows(make):
    """30 patients of 5 slices each, the last 6 patients as test partition."""
    generator = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 5)
    sick = (owner % 2 == 0) & (np.tile(np.arange(5), 30) > 1)
    score = np.clip(0.5 + 0.3 * (sick - 0.5) + generator.normal(0, 0.2, 150), 0, 1)
    return make(
        np.where(sick, "tumour", "no_tumour"),
        score,
        [f"P{i:02d}" for i in owner],
        partition=np.where(owner >= 24, "test", "train"),
        fold=np.where(owner >= 24, "", (owner % 3).astype(str)),
    )


def test_patients_come_first_and_test_apart_from_out_of_fold(rows):
    done = evaluate(rows, aggregate(rows), FEW)
    seen = list(dict.fromkeys((record["level"], record["partition"]) for record in done.metrics))
    assert seen == [
        ("patient", "out-of-fold"),
        ("slice", "out-of-fold"),
        ("patient", "test"),
        ("slice", "test"),
    ]


def test_the_file_holds_what_the_contract_says(rows, tmp_path):
    path = tmp_path / "evaluation.json"
    write_evaluation(path, evaluate(rows, aggregate(rows), FEW), stamp("test"))
    document = json.loads(path.read_text())
    assert document["kind"] == "evaluation"
    for record in document["metrics"]:
        assert set(record) == KEYS
        assert (record["value"] is None) == bool(record["undefined"])
        assert (record["low"] is None) == (record["high"] is None)
    assert sum(map(sum, document["confusion"][0]["counts"])) == 24
    assert len(document["per_patient"]) == 30
    first = headline(path)
    assert (first["metric"], first["level"]) == ("balanced_accuracy", "patient")
    assert (first["partition"], first["n_patients"]) == ("test", 6)
    assert first["sentence"].startswith("Balanced accuracy of patients ")
    assert first["sentence"].endswith("on 6 patients held out for testing.")


def test_patients_whose_slices_share_a_label_have_no_auroc_of_their_own(rows):
    table = {r["patient_id"]: r for r in evaluate(rows, aggregate(rows), FEW).per_patient}
    assert table["P00"]["undefined"] is None
    assert table["P01"]["auroc"] is None
    assert table["P01"]["undefined"] == "all slices or none are 'tumour'"


def test_where_all_patients_share_a_label_the_number_to_quote_is_of_slices(rows, tmp_path):
    some = rows.select(np.isin(rows.patient_id, ["P00", "P02", "P04", "P06"]))
    path = tmp_path / "evaluation.json"
    write_evaluation(path, evaluate(some, aggregate(some), FEW), stamp("test"))
    first = headline(path)
    assert (first["level"], first["metric"]) == ("slice", "auroc")
    assert "no interval: rests on 4 patients" in first["sentence"]
    assert "undefined: no patients with reference 'no_tumour'" in first["sentence"]


def test_unknown_patients_have_slice_records_only_without_intervals(rows, tmp_path):
    images = replace(rows, patient_id=rows.sample_id, patients_known=False)
    done = evaluate(images, aggregate(images), FEW)
    assert {record["level"] for record in done.metrics} == {"slice"}
    assert {record["low"] for record in done.metrics} == {None}
    assert done.warning == PATIENTS_UNKNOWN
    assert done.per_patient == ()
    write_evaluation(tmp_path / "e.json", done, stamp("test"))
    assert headline(tmp_path / "e.json")["sentence"].endswith("not what a new patient would see.")


def test_rows_that_chose_thresholds_are_not_measured(rows):
    tests = rows.partition == "test"
    tuned = replace(rows, partition=np.where(tests, "tune", rows.partition))
    done = evaluate(tuned, aggregate(tuned), FEW)
    assert {record["partition"] for record in done.metrics} == {"out-of-fold"}
    assert len(done.per_patient) == 24


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": np.full(150, "")}, "'s00000': expected a train row predicted out of fold"),
        ({"reference": np.full(150, "")}, "expected rows with a reference"),
    ],
)
def test_what_cannot_be_measured_is_refused(rows, changes, message):
    broken = replace(rows, **changes)
    with pytest.raises(EvaluateError, match=message):
        evaluate(broken, aggregate(broken), FEW)


def test_tables_that_do_not_belong_together_are_refused(rows):
    others = aggregate(rows.select(rows.patient_id != "P00"))
    with pytest.raises(EvaluateError, match="same patients at both levels"):
        evaluate(rows, others, FEW)
    with pytest.raises(EvaluateError, match="slice-level and patient-level"):
        evaluate(rows, rows, FEW)
    with pytest.raises(EvaluateError, match=r"evaluate.resamples: expected 100 or more, got 5"):
        evaluate(rows, aggregate(rows), EvaluateConfig(resamples=5))
