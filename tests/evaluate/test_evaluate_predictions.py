"""Predictions: what is written is what is read, and a patient is one answer."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepar.errors import DataError, EvaluateError
from hepar.evaluate.predictions import (
    Predictions,
    aggregate,
    decide,
    read_predictions,
    write_predictions,
)
from hepar.provenance import stamp

LABELS = ("normal", "benign", "malignant")


def rows(patients, references, probabilities, **changes):
    n = len(patients)
    p = np.array(probabilities, dtype=float)
    values = {
        "sample_id": [f"s{i:03d}" for i in range(n)],
        "patient_id": patients,
        "partition": ["train"] * n,
        "fold": ["0"] * n,
        "reference": references,
        "predicted": decide(p, LABELS),
        "probabilities": p,
        "labels": LABELS,
    }
    return Predictions(**{**values, **changes})


TWO = rows(
    ["b", "b", "b", "a"],
    ["normal", "malignant", "benign", "normal"],
    [[0.8, 0.1, 0.1], [0.1, 0.0, 0.9], [0.2, 0.7, 0.1], [0.6, 0.2, 0.2]],
)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1),
            st.sampled_from([*LABELS, ""]),
            st.tuples(*[st.floats(1e-9, 1.0)] * 3),
        ),
        max_size=8,
    )
)
def test_what_is_written_is_what_is_read(tmp_path_factory, entries):
    p = np.array([entry[2] for entry in entries], dtype=float).reshape(-1, 3)
    before = rows(
        [entry[0] for entry in entries],
        [entry[1] for entry in entries],
        p / p.sum(axis=1, keepdims=True),
        partition=["predict"] * len(entries),
        fold=[""] * len(entries),
    )
    path = tmp_path_factory.mktemp("csv") / "predictions.csv"
    write_predictions(path, before, stamp("test"))
    after = read_predictions(path)
    for name in ("sample_id", "patient_id", "partition", "fold", "reference", "predicted"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist()
    assert np.array_equal(after.probabilities, before.probabilities)
    assert (after.labels, after.level, after.unit) == (LABELS, "slice", "patient")


def test_an_id_that_csv_cannot_hold_is_refused(tmp_path):
    hostile = replace(TWO, patient_id=np.array(["b\r", "b", "b", "a"]))
    with pytest.raises(EvaluateError, match="without carriage return"):
        write_predictions(tmp_path / "predictions.csv", hostile, stamp("test"))


def test_columns_are_those_of_the_contract(tmp_path):
    write_predictions(tmp_path / "predictions.csv", TWO, stamp("test"))
    write_predictions(tmp_path / "patients.csv", aggregate(TWO), stamp("test"))
    tail = "patient_id,partition,fold,reference,predicted,p_normal,p_benign,p_malignant"
    assert (tmp_path / "predictions.csv").read_text().startswith(f"sample_id,{tail}\n")
    assert (tmp_path / "patients.csv").read_text().startswith(f"{tail}\n")
    assert read_predictions(tmp_path / "patients.csv").level == "patient"
    meta = json.loads((tmp_path / "patients.meta.json").read_text())
    assert meta["kind"] == "predictions"
    assert meta["provenance"]["command"] == "test"


def test_an_edited_csv_is_refused(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, TWO, stamp("test"))
    path.write_text(path.read_text().replace("benign,malignant", "benign,benign", 1) + "\n")
    with pytest.raises(EvaluateError, match="got one edited since"):
        read_predictions(path)


def test_a_csv_without_its_meta_file_is_refused(tmp_path):
    (tmp_path / "predictions.csv").write_text("sample_id\n")
    with pytest.raises(DataError, match="expected a predictions file, got none"):
        read_predictions(tmp_path / "predictions.csv")


def test_mean_averages_every_slice_and_takes_the_most_severe_reference():
    patients = aggregate(TWO)
    assert patients.patient_id.tolist() == ["a", "b"]
    assert patients.reference.tolist() == ["normal", "malignant"]
    np.testing.assert_allclose(patients.probabilities[1], [1.1 / 3, 0.8 / 3, 1.1 / 3])
    assert patients.predicted.tolist() == ["normal", "malignant"]  # the tie goes to the severe one


def test_top_averages_the_slices_least_like_the_most_harmless_label():
    np.testing.assert_allclose(aggregate(TWO, "top", 2).probabilities[1], [0.15, 0.35, 0.5])
    np.testing.assert_allclose(aggregate(TWO, "max").probabilities[1], [0.1, 0.0, 0.9])
    np.testing.assert_allclose(
        aggregate(TWO, "top", 9).probabilities, aggregate(TWO, "mean").probabilities
    )


def test_noisy_or_asks_whether_any_slice_shows_more_than_the_most_harmless_label():
    found = aggregate(TWO, "noisy-or").probabilities
    for patient, row in zip(np.unique(TWO.patient_id), found, strict=True):
        own = TWO.probabilities[TWO.patient_id == patient]
        assert row[0] == pytest.approx(np.prod(own[:, 0]))
        rest = own[:, 1:].sum(axis=0)
        np.testing.assert_allclose(row[1:] * rest.sum(), rest * (1 - row[0]))
    np.testing.assert_allclose(found.sum(axis=1), 1)


@given(st.permutations(range(4)), st.sampled_from(["mean", "top", "max", "noisy-or"]))
def test_the_order_of_slices_changes_nothing(order, how):
    shuffled = aggregate(TWO.select(np.array(order)), how, 2)
    straight = aggregate(TWO, how, 2)
    assert np.array_equal(shuffled.probabilities, straight.probabilities)
    assert shuffled.reference.tolist() == straight.reference.tolist()


@pytest.mark.parametrize("column", ["fold", "partition"])
def test_a_patient_on_two_sides_is_refused(column):
    values = {"fold": ["0", "1", "0", "0"], "partition": ["train", "test", "train", "train"]}
    with pytest.raises(EvaluateError, match=f"patient 'b': expected one {column}"):
        aggregate(replace(TWO, **{column: np.array(values[column])}))


def test_an_unlabelled_patient_has_no_reference():
    unknown = replace(TWO, reference=np.array(["", "", "", "normal"]))
    assert aggregate(unknown).reference.tolist() == ["normal", ""]
    assert unknown.reference_index.tolist() == [-1, -1, -1, 0]


def test_ties_go_to_the_more_severe_label():
    thirds = np.full((1, 3), 1 / 3)
    assert decide(thirds, LABELS).tolist() == ["malignant"]
    assert decide(np.array([[0.4, 0.4, 0.2]]), LABELS).tolist() == ["benign"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": ["normal", "malign", "benign", "normal"]}, "Did you mean 'malignant'"),
        ({"fold": ["0"]}, r"expected 4 rows .* fold \(1,\)"),
        ({"sample_id": ["s", "s", "t", "u"]}, "every sample_id once at slice level, got 's' 2"),
        ({"partition": ["trian"] * 4}, "Did you mean 'train'"),
        ({"probabilities": np.full((4, 3), 0.9)}, "sum to 1"),
        ({"probabilities": np.full((4, 3), np.nan)}, "expected probabilities in"),
        ({"probabilities": np.tile([1.5, -0.5, 0.0], (4, 1))}, "expected probabilities in"),
    ],
)
def test_malformed_predictions_are_refused_by_name(changes, message):
    with pytest.raises(EvaluateError, match=message):
        replace(TWO, **changes)


def test_wrong_ways_to_aggregate_are_refused():
    with pytest.raises(EvaluateError, match="Did you mean 'mean'"):
        aggregate(TWO, "meen")
    with pytest.raises(EvaluateError, match="top_k >= 1 slices, got 0"):
        aggregate(TWO, "top", 0)
    with pytest.raises(EvaluateError, match="expected predictions at slice level"):
        aggregate(aggregate(TWO))


def weighed(energy):
    return replace(TWO, attention=np.array(energy, float))


def test_attention_weighs_log_probabilities():
    joined = aggregate(weighed([0.0, np.log(3.0), -50.0, 7.0]), "attention")
    logs = 0.25 * np.log([0.8, 0.1, 0.1]) + 0.75 * np.log([0.1, 1e-300, 0.9])
    expected = np.exp(logs - logs.max())
    np.testing.assert_allclose(joined.probabilities[1], expected / expected.sum(), atol=1e-9)
    np.testing.assert_allclose(joined.probabilities[0], [0.6, 0.2, 0.2])
    assert joined.attention is None
    assert joined.reference.tolist() == ["normal", "malignant"]


def test_attention_is_written_and_read_back(tmp_path):
    before = weighed([0.1, -2.5, 1e-17, 3.0])
    write_predictions(tmp_path / "p.csv", before, stamp("test"))
    after = read_predictions(tmp_path / "p.csv")
    np.testing.assert_array_equal(after.attention, before.attention)
    assert (tmp_path / "p.csv").read_text().splitlines()[0].endswith("p_malignant,attention")
    np.testing.assert_array_equal(after.select(np.array([2])).attention, [1e-17])


def test_attention_that_is_not_there_or_not_finite_is_refused():
    with pytest.raises(EvaluateError, match="expected predictions with attention, got none"):
        aggregate(TWO, "attention")
    with pytest.raises(EvaluateError, match="expected 4 finite numbers of attention"):
        weighed([0.0, 1.0, np.inf, 0.0])
