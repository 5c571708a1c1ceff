"""Patients are divided once, by label, and never stand on two sides."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepar.config import SplitConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.errors import LeakageError, SplitError
from hepar.provenance import stamp
from hepar.split import make_split, read_split, split_findings, write_split


def cohort(sizes, labels=("normal", "malignant")):
    return {f"P{i:03d}": [labels[i % len(labels)]] * size for i, size in enumerate(sizes)}


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=6, max_size=40),
    folds=st.integers(2, 7),
    test=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 5),
)
def test_partitions_are_disjoint_in_patients_and_cover_the_cohort(
    make_manifest, sizes, folds, test, seed
):
    manifest = make_manifest(cohort(sizes))
    split = make_split(manifest, SplitConfig(folds=folds, test=test, seed=seed))
    assert set(split.assignments) == set(manifest.patients)
    tests = [p for p, place in split.assignments.items() if place.partition == "test"]
    assert len(tests) == round(test * len(sizes))
    used = {place.fold for place in split.assignments.values()} - {None}
    assert used == set(range(split.folds))


def test_folds_are_stratified_by_label(make_manifest):
    manifest = make_manifest(cohort([3] * 30, ("normal", "benign", "malignant")))
    split = make_split(manifest, SplitConfig(folds=5))
    for fold in range(5):
        inside = [p for p, place in split.assignments.items() if place.fold == fold]
        labels = sorted(manifest.patients[p][0].label for p in inside)
        assert labels == ["benign"] * 2 + ["malignant"] * 2 + ["normal"] * 2


def test_the_order_of_the_files_does_not_matter(make_manifest):
    patients = cohort([2, 3, 4, 1, 5, 2, 3, 3])
    backwards = dict(reversed(patients.items()))
    one = make_split(make_manifest(patients), SplitConfig(test=0.25))
    other = make_split(make_manifest(backwards), SplitConfig(test=0.25))
    assert one == other


def test_another_seed_gives_another_split(make_manifest):
    manifest = make_manifest(cohort([2] * 20))
    splits = [make_split(manifest, SplitConfig(seed=seed)).assignments for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_four_patients_are_left_out_one_by_one(make_manifest):
    mixed = {f"P{i}": ["no_tumour", "tumour", "tumour"] for i in range(4)}
    split = make_split(make_manifest(mixed), SplitConfig(folds=5))
    assert split.folds == 4
    assert sorted(place.fold for place in split.assignments.values()) == [0, 1, 2, 3]


def test_two_studies_of_one_patient_never_part():
    samples = tuple(
        Sample(f"{p}/{study}/{i}", p, f"{p}/{study}/{i}", label, study_id=f"{p}.{study}")
        for p, label in (("A", "normal"), ("B", "normal"), ("C", "tumour"), ("D", "tumour"))
        for study in (1, 2)
        for i in range(3)
    )
    manifest = Manifest(samples, LabelSet(("normal", "tumour")), root=None)
    split = make_split(manifest, SplitConfig(folds=2))
    for rows in manifest.patients.values():
        assert len({split.of(row) for row in rows}) == 1


def test_a_column_that_leaks_a_patient_is_refused_by_name(make_manifest):
    manifest = make_manifest(cohort([2] * 6))
    leaky = tuple(
        Sample(
            s.sample_id,
            s.patient_id,
            s.path,
            s.label,
            extra={"part": "test" if s.sample_id == "P003/001.png" else "train"},
        )
        for s in manifest.samples
    )
    manifest = Manifest(leaky, manifest.labels, manifest.root)
    with pytest.raises(LeakageError, match=r"patient P003 is in test \(1 slices\) and train"):
        make_split(manifest, SplitConfig(column="part"))


def test_a_column_of_fold_numbers_is_taken_as_it_stands(make_manifest):
    patients = cohort([2] * 6)
    extra = {p: {"fold": str(i % 3)} for i, p in enumerate(patients)}
    split = make_split(make_manifest(patients, **extra), SplitConfig(column="fold"))
    assert {p: place.fold for p, place in split.assignments.items()} == {
        p: i % 3 for i, p in enumerate(patients)
    }


def test_a_column_of_train_and_test_gets_folds_inside_train(make_manifest):
    patients = cohort([2] * 8)
    extra = {p: {"part": "test" if p in {"P000", "P001"} else "train"} for p in patients}
    split = make_split(make_manifest(patients, **extra), SplitConfig(column="part", folds=3))
    tests = {p for p, place in split.assignments.items() if place.partition == "test"}
    assert tests == {"P000", "P001"}
    assert split.folds == 3


@pytest.mark.parametrize(
    ("patients", "config", "match"),
    [
        ({"A": ["x"], "B": ["y"], "C": ["y"]}, SplitConfig(), "label 'x': expected at least 2"),
        ({"A": ["x"], "B": ["x"]}, SplitConfig(), "expected two labels or more"),
        ({"A": ["x", ""], "B": ["y"]}, SplitConfig(), "expected a label on every sample"),
        (cohort([1] * 6), SplitConfig(folds=1), "split.folds: expected 2 or more, got 1"),
        (cohort([1] * 6), SplitConfig(test=0.95), "split.test: expected a share"),
    ],
)
def test_what_cannot_be_split_is_refused(make_manifest, patients, config, match):
    with pytest.raises(SplitError, match=match):
        make_split(make_manifest(patients), config)


def test_split_json_gives_the_split_back_and_counts_it(make_manifest, tmp_path):
    manifest = make_manifest(cohort([2] * 10))
    split = make_split(manifest, SplitConfig(test=0.2))
    path = tmp_path / "split.json"
    write_split(path, split, manifest, stamp("test"))
    assert read_split(path) == split
    table = json.loads(path.read_text())["table"]
    assert sum(row["samples"] for row in table) == len(manifest)


def test_an_edited_split_json_is_refused_by_patient(make_manifest, tmp_path):
    manifest = make_manifest(cohort([2] * 10))
    path = tmp_path / "split.json"
    write_split(path, make_split(manifest, SplitConfig()), manifest, stamp("test"))
    path.write_text(path.read_text().replace('"fold": 4', '"fold": 9', 1))
    with pytest.raises(SplitError, match=r"split.json: patient P\d+: expected train with a fold"):
        read_split(path)


NAMES = ("ballooning", "fibrosis", "steatosis")


def with_findings(make_manifest, values):
    """Return two tiles a patient; the first shows what the patient has, the second nothing."""
    patients = {f"P{i:03d}": ["", ""] for i in range(len(values))}
    manifest = make_manifest(patients)
    samples = [
        replace(s, extra=dict(zip(NAMES, values[int(s.patient_id[1:])], strict=True)))
        if s.slice_index == 0
        else replace(s, extra=dict.fromkeys(NAMES, "0"))
        for s in manifest.samples
    ]
    return replace(manifest, samples=tuple(samples))


@settings(max_examples=60)
@given(
    values=st.lists(st.tuples(*[st.sampled_from("01")] * 3), min_size=8, max_size=40),
    folds=st.integers(2, 5),
    test=st.sampled_from([0.0, 0.25]),
    seed=st.integers(0, 3),
)
def test_one_split_serves_every_finding(make_manifest, values, folds, test, seed):
    manifest = with_findings(make_manifest, values)
    config = SplitConfig(folds=folds, test=test, seed=seed)
    split = split_findings(manifest, NAMES, config)
    assert split_findings(manifest, NAMES, config) == split
    assert set(split.assignments) == set(manifest.patients)
    tests = [p for p, place in split.assignments.items() if place.partition == "test"]
    assert abs(len(tests) - test * len(values)) <= len(NAMES)  # findings are even, sizes nearly
    sizes = [
        sum(place.fold == fold for place in split.assignments.values())
        for fold in range(split.folds)
    ]
    assert min(sizes) > 0


def test_every_finding_is_spread_over_the_folds(make_manifest):
    rng = np.random.default_rng(0)
    values = [tuple("01"[int(rng.uniform() < p)] for p in (0.2, 0.5, 0.8)) for _ in range(40)]
    manifest = with_findings(make_manifest, values)
    split = split_findings(manifest, NAMES, SplitConfig(folds=4))
    for at, name in enumerate(NAMES):
        has = {f"P{i:03d}" for i, own in enumerate(values) if own[at] == "1"}
        inside = [
            sum(p in has for p, place in split.assignments.items() if place.fold == fold)
            for fold in range(4)
        ]
        assert max(inside) - min(inside) <= 2, name


def test_a_split_of_findings_may_be_given_by_a_column(make_manifest):
    manifest = with_findings(make_manifest, [tuple("010"), tuple("101")] * 4)
    samples = [
        replace(s, extra={**s.extra, "where": "test" if s.patient_id < "P002" else "train"})
        for s in manifest.samples
    ]
    manifest = replace(manifest, samples=tuple(samples))
    split = split_findings(manifest, NAMES, SplitConfig(folds=2, column="where"))
    tests = {p for p, place in split.assignments.items() if place.partition == "test"}
    assert tests == {"P000", "P001"}
    with pytest.raises(SplitError, match="expected 2 or more patients to train on, got 1"):
        split_findings(with_findings(make_manifest, [tuple("010")]), NAMES, SplitConfig(folds=2))
