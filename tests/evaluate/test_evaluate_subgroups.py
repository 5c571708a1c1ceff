from __future__ import annotations

import numpy as np

from hepar.config import EvaluateConfig
from hepar.evaluate import measure_subgroups, size_groups

FEW = EvaluateConfig(resamples=100)


def patients(make, n=80):
    reference = np.where(np.arange(n) % 2 == 1, "b", "a")
    score = np.where(np.arange(n) % 2 == 1, 0.8, 0.2)
    score[: n // 4] = 0.8  # the first quarter is all called b
    return make(reference, score, labels=("a", "b"))


def by_group(records):
    return {record["group"]: record for record in records}


def test_a_group_that_is_answered_worse_is_seen(make):
    table = patients(make)
    scanner = {str(name): "old" if i < 20 else "new" for i, name in enumerate(table.patient_id)}
    found = by_group(measure_subgroups(table, {"scanner": scanner}, FEW))
    assert found["old"]["balanced_accuracy"]["value"] == 0.5
    assert found["new"]["balanced_accuracy"]["value"] == 1.0
    assert found["old"]["balanced_accuracy"]["high"] < found["new"]["balanced_accuracy"]["low"]
    assert found["old"]["counts"] == {"a": 10, "b": 10}


def test_few_patients_are_not_estimated(make):
    table = patients(make)
    sex = {str(name): "f" if i < 19 else "m" for i, name in enumerate(table.patient_id)}
    found = by_group(measure_subgroups(table, {"sex": sex}, FEW))
    assert found["f"]["undefined"] == "n < 20: not estimated"
    assert found["f"]["balanced_accuracy"] is None
    assert found["m"]["n_patients"] == 61
    assert found["m"]["balanced_accuracy"] is not None


def test_a_group_of_one_label_has_no_balanced_accuracy_and_says_why(make):
    table = patients(make)
    side = {str(name): str(table.reference[i]) for i, name in enumerate(table.patient_id)}
    found = by_group(measure_subgroups(table, {"side": side}, FEW))
    assert found["a"]["balanced_accuracy"] is None
    assert "no patients" in found["a"]["undefined"]


def test_numbers_are_cut_into_thirds_and_names_are_left_alone(make):
    table = patients(make)
    names = [str(name) for name in table.patient_id]
    columns = {
        "age": {name: str(20 + i) for i, name in enumerate(names)},
        "referrer": {name: f"Dr. {i}" for i, name in enumerate(names)},
        "hospital": dict.fromkeys(names, "ours"),
        "phase": {},
    }
    found = measure_subgroups(table, columns, FEW)
    ages = [record for record in found if record["column"] == "age"]
    assert [record["n_patients"] for record in ages] == [27, 26, 27]
    assert ages[0]["group"].startswith("< ")
    assert [(r["column"], r["undefined"]) for r in found if r["group"] is None] == [
        ("referrer", "80 different values: a name, not a group"),
        ("hospital", "all have the same value"),
        ("phase", "no value is known"),
    ]


def test_patients_without_a_value_are_a_group_of_their_own(make):
    table = patients(make)
    half = {str(name): "x" if i % 3 else "y" for i, name in enumerate(table.patient_id[:50])}
    found = measure_subgroups(table, {"phase": half}, FEW)
    assert [record["group"] for record in found] == ["x", "y", "unknown"]


def test_lesion_sizes_are_ordered_by_size(make):
    table = patients(make)
    cuts = {str(name): float(i) for i, name in enumerate(table.patient_id)}
    found = measure_subgroups(table, {"largest lesion": size_groups(cuts)}, FEW)
    assert [(r["group"], r["n_patients"]) for r in found] == [
        ("< 10 mm", 9),
        ("10 to 20 mm", 10),
        ("20 to 50 mm", 30),
        (">= 50 mm", 30),
        ("no lesion", 1),
    ]
