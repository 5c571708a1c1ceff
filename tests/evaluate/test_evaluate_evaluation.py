"""The evaluation: patients first, every number there or its reason."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    UNIT_WARNINGS,
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
    assert first["sentence"].endswith(
        "Balanced accuracy of patients is undefined: no patients with reference 'no_tumour'."
    )


THREE = ("normal", "benign", "malignant")


def test_the_auroc_of_a_patient_is_of_the_most_severe_of_three_labels(make):
    p = np.array([[0.1, 0.2, 0.7], [0.3, 0.1, 0.6], [0.0, 0.35, 0.65], [0.8, 0.1, 0.1]])
    rows = make(["malignant", "normal", "benign", "malignant"], p, ["A"] * 4, THREE)
    rows = replace(rows, fold=np.full(4, "0"))
    (row,) = evaluate(rows, aggregate(rows), FEW).per_patient
    assert row["accuracy"] == 0.25
    assert row["auroc"] == 0.5  # of 4 pairs .7 wins two and .1 none; normal would have 2 of 3
    harmless = replace(rows, reference=np.array(["normal", "benign", "normal", "normal"]))
    (row,) = evaluate(harmless, aggregate(harmless), FEW).per_patient
    assert (row["auroc"], row["undefined"]) == (None, "all slices or none are 'malignant'")


def quoted(tmp_path, done):
    write_evaluation(tmp_path / "evaluation.json", done, stamp("test"))
    return headline(tmp_path / "evaluation.json")


def test_the_number_to_quote_is_never_of_one_label(make, tmp_path):
    """No benign patient: no AUROC of all labels, though there is one of each of the others."""
    truth = np.tile(["normal", "malignant"], 15)
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
    rows = make(truth, p, [f"P{i:02d}" for i in range(30)], THREE)
    done = evaluate(rows, aggregate(rows), FEW)
    assert any(r["metric"] == "auroc" and r["label"] and r["value"] for r in done.metrics)
    first = quoted(tmp_path, done)
    assert (first["metric"], first["level"]) == ("accuracy", "slice")
    assert first["value"] == pytest.approx((rows.predicted == truth).mean())
    for what in ("Balanced accuracy of patients", "AUROC of slices"):
        assert f"{what} is undefined: no" in first["sentence"]


def test_the_order_of_the_records_does_not_choose_the_number_to_quote(rows, tmp_path):
    one = rows.select(np.isin(rows.patient_id, ["P00", "P02", "P04", "P06"]))
    done = evaluate(one, aggregate(one), FEW)
    skewed = tuple(
        {**r, "value": 0.123} if r["label"] and r["metric"] == "auroc" else r for r in done.metrics
    )
    straight = quoted(tmp_path, replace(done, metrics=skewed))
    assert straight["value"] != 0.123
    assert quoted(tmp_path, replace(done, metrics=skewed[::-1])) == straight


def test_a_test_partition_of_one_label_is_passed_over_aloud(rows, tmp_path):
    sick = (rows.partition == "test") & (np.char.strip(rows.patient_id, "P").astype(int) % 2 == 0)
    some = rows.select(~sick)
    first = quoted(tmp_path, evaluate(some, aggregate(some), FEW))
    assert (first["metric"], first["partition"]) == ("balanced_accuracy", "out-of-fold")
    assert first["sentence"].endswith(
        "on 24 patients left out in turn. Balanced accuracy of patients held out for testing is "
        "undefined: no patients with reference 'tumour'."
    )
    images = replace(some, patient_id=some.sample_id, unit="image")
    said = quoted(tmp_path, evaluate(images, aggregate(images), FEW))["sentence"]
    assert "not what a new patient would see. AUROC of slices held out for testing is undef" in said


def test_unknown_patients_have_slice_records_only_without_intervals(rows, tmp_path):
    images = replace(rows, patient_id=rows.sample_id, unit="image")
    done = evaluate(images, aggregate(images), FEW)
    assert {record["level"] for record in done.metrics} == {"slice"}
    assert {record["low"] for record in done.metrics} == {None}
    assert done.warning == UNIT_WARNINGS["image"]
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
    with pytest.raises(EvaluateError, match="got 'P00' at slice level alone"):
        evaluate(rows, others, FEW)
    same_number = replace(
        aggregate(rows),
        patient_id=np.append("A00", others.patient_id),
        sample_id=np.append("A00", others.patient_id),
    )
    with pytest.raises(EvaluateError, match="got 'A00' at patient level alone"):
        evaluate(rows, same_number, FEW)
    with pytest.raises(EvaluateError, match="slice-level and patient-level"):
        evaluate(rows, rows, FEW)
    with pytest.raises(EvaluateError, match=r"evaluate.resamples: expected 100 or more, got 5"):
        evaluate(rows, aggregate(rows), EvaluateConfig(resamples=5))
