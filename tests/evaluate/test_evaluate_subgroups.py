from __future__ import annotations

import numpy as np
import pytest

from hepar.config import EvaluateConfig
from hepar.errors import EvaluateError
from hepar.evaluate import (
    count_by_patient,
    estimate,
    measure_subgroups,
    size_groups,
    subgroup_warning,
)

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


def test_a_lesion_of_unknown_size_is_in_no_group():
    found = size_groups({"a": float("nan"), "b": -1.0, "c": float("inf"), "d": 10.0})
    assert found == {"a": "", "b": "", "c": "", "d": "10 to 20 mm"}


def test_words_for_unknown_are_no_group_and_hide_no_numbers(make):
    table = patients(make)
    age = {str(name): str(20 + i) for i, name in enumerate(table.patient_id)}
    age |= {str(table.patient_id[0]): "nan", str(table.patient_id[1]): "N/A"}
    found = measure_subgroups(table, {"age": age}, FEW)
    assert [record["group"] for record in found][-1] == "unknown"
    assert found[-1]["n_patients"] == 2
    assert len(found) == 4


def test_numbers_are_cut_at_edges_that_are_given(make):
    table = patients(make)
    age = {str(name): str(i) for i, name in enumerate(table.patient_id)}
    found = measure_subgroups(table, {"age": age}, FEW, {"age": [30, 55.5]})
    assert [(r["group"], r["n_patients"]) for r in found] == [
        ("< 30", 30),
        ("30 to 55.5", 26),
        (">= 55.5", 24),
    ]


@pytest.mark.parametrize(
    ("edges", "said"),
    [
        ({"agee": [30]}, "expected edges of age, got 'agee'. Did you mean 'age'"),
        ({"age": [50, 30]}, "expected rising edges of 'age'"),
        ({"age": [float("nan")]}, "expected rising edges of 'age'"),
        ({"age": []}, "expected rising edges of 'age'"),
    ],
)
def test_edges_that_cut_nothing_are_refused(make, edges, said):
    with pytest.raises(EvaluateError, match=said):
        measure_subgroups(patients(make), {"age": {}}, FEW, edges)


def test_edges_of_words_cannot_be_used(make):
    table = patients(make)
    sex = {str(name): "fm"[i % 2] for i, name in enumerate(table.patient_id)}
    (record,) = measure_subgroups(table, {"sex": sex}, FEW, {"sex": [1]})
    assert record["undefined"] == "'f' is no number, and the edges are"


def test_numbers_that_are_mostly_alike_are_parted_from_the_rest(make):
    table = patients(make)
    count = {str(n): str(max(0, i - 55)) for i, n in enumerate(table.patient_id)}
    found = measure_subgroups(table, {"lesions": count}, FEW)
    assert [(r["group"], r["n_patients"]) for r in found] == [("< 1", 56), (">= 1", 24)]


def test_long_numbers_are_told_apart(make):
    table = patients(make)
    day = {str(name): str(20200101 + i) for i, name in enumerate(table.patient_id)}
    groups = [r["group"] for r in measure_subgroups(table, {"day": day}, FEW)]
    assert groups == ["< 20200128", "20200128 to 20200154", ">= 20200154"]


def test_slices_are_grouped_by_their_own_values_and_counted_by_patient(make):
    owners = np.repeat([f"p{i:02d}" for i in range(30)], 4)
    reference = np.tile(["a", "b"], 60)
    table = make(reference, np.full(120, 0.8), patients=owners, labels=("a", "b"))
    size = {str(name): "small" if i % 4 < 2 else "large" for i, name in enumerate(table.sample_id)}
    found = measure_subgroups(table, {"size": size}, FEW)
    assert [(r["group"], r["n_patients"], r["counts"]["a"]) for r in found] == [
        ("large", 30, 30),
        ("small", 30, 30),
    ]
    early = {str(name): "few" if i < 76 else "many" for i, name in enumerate(table.sample_id)}
    few = by_group(measure_subgroups(table, {"when": early}, FEW))["few"]
    assert (few["n_patients"], few["undefined"]) == (19, "n < 20: not estimated")


def test_the_numbers_of_a_group_are_those_of_evaluating_it_alone(make):
    rng = np.random.default_rng(0)
    score = rng.random(120)
    reference = np.where(rng.random(120) < score, "b", "a")
    table = make(reference, score, labels=("a", "b"))
    sex = {str(name): "fm"[i % 2] for i, name in enumerate(table.patient_id)}
    found = by_group(measure_subgroups(table, {"sex": sex}, FEW))["f"]
    alone = count_by_patient(table.select(np.arange(0, 120, 2)))
    wanted = estimate(alone, "patient", FEW)["auroc", 1]
    assert found["auroc"] == {"value": wanted.value, "low": wanted.low, "high": wanted.high}
    assert wanted.low < wanted.value < wanted.high


def test_images_of_unknown_patients_get_no_interval(make):
    reference = np.tile(["a", "b"], 40)
    table = make(reference, np.full(80, 0.8), labels=("a", "b"), unit="image")
    sex = {str(name): "fm"[i // 40] for i, name in enumerate(table.patient_id)}
    found = by_group(measure_subgroups(table, {"sex": sex}, FEW))
    assert found["f"]["sensitivity"] == {"value": 1.0, "low": None, "high": None}


def test_two_patients_are_not_estimated_and_warn_of_nothing(make):
    table = make(["a", "b"], [0.1, 0.9], labels=("a", "b"))
    found = measure_subgroups(table, {"sex": {"s00000": "f", "s00001": "m"}}, FEW)
    assert [r["undefined"] for r in found] == ["n < 20: not estimated"] * 2
    assert subgroup_warning(found) == ""


def test_looking_at_many_groups_is_warned_of(make):
    table = patients(make)
    columns = {
        name: {str(p): "fm"[i // k % 2] for i, p in enumerate(table.patient_id)}
        for k, name in enumerate(("sex", "scanner", "phase"), 2)
    }
    said = subgroup_warning(measure_subgroups(table, columns, FEW))
    assert said.startswith("6 subgroups were measured: where none differs, about 0.3 of them")


def test_intervals_of_slices_are_those_of_slices(make):
    rng = np.random.default_rng(0)
    owners = np.repeat([f"p{i:02d}" for i in range(30)], 4)
    score = rng.random(120)
    reference = np.where(rng.random(120) < score, "b", "a")
    table = make(reference, score, patients=owners, labels=("a", "b"))
    side = {str(name): "left" if i < 112 else "right" for i, name in enumerate(table.sample_id)}
    found = by_group(measure_subgroups(table, {"side": side}, FEW))["left"]
    wanted = estimate(count_by_patient(table.select(np.arange(112))), "slice", FEW)
    both = wanted["sensitivity", 1]
    assert found["sensitivity"] == {"value": both.value, "low": both.low, "high": both.high}
    assert both.method == "bootstrap"
