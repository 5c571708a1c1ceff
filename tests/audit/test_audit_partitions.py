from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hepar.audit import Audit, audit_partitions

N = 80


@pytest.fixture
def cohort(make_manifest):
    """Eighty patients of two labels, one in four in test, drawn alike."""

    def make(**columns):
        names = [f"p{i:02d}" for i in range(N)]
        manifest = make_manifest({n: ["ab"[i // 4 % 2]] for i, n in enumerate(names)})
        samples = tuple(
            dataclasses.replace(s, extra={key: str(values[i]) for key, values in columns.items()})
            for i, s in enumerate(manifest.samples)
        )
        return dataclasses.replace(manifest, samples=samples)

    return make


PLACES = {f"p{i:02d}": ("test", "") if i % 4 == 3 else ("train", str(i % 3)) for i in range(N)}


def codes(manifest, audit=None, places=PLACES):
    return {f["code"]: f for f in audit_partitions(manifest, audit, places)}


def link(a, b, kind="copy"):
    return {"a": f"p{a:02d}/000.png", "b": f"p{b:02d}/000.png", "kind": kind, "similarity": 0.9}


def test_a_split_drawn_alike_has_no_finding(cohort):
    audit = Audit("patient", (link(0, 3, "alike"),), (), {})
    assert codes(cohort(scanner=["old" if i // 8 % 2 else "new" for i in range(N)]), audit) == {}


@pytest.mark.parametrize(("pair", "n"), [((0, 3), 1), ((0, 1), 1), ((0, 12), 0)])
def test_copies_across_partitions_or_folds_are_a_leak(cohort, pair, n):
    found = codes(cohort(), Audit("patient", (link(*pair),), (), {}))
    assert len(found) == n
    if n:
        assert found["copies-across-partitions"]["severity"] == "leak"
        assert found["copies-across-partitions"]["samples"] == [
            [f"p{pair[0]:02d}/000.png", f"p{pair[1]:02d}/000.png"]
        ]


def test_test_patients_who_came_before_training_ones_are_told(cohort):
    days = [f"2020-01-{1 + i % 28:02d}" for i in range(N)]
    finding = codes(cohort(study_date=days))["test-not-later"]
    assert "not on those to come" in finding["message"]
    later = [f"{2021 if i % 4 == 3 else 2020}0101" for i in range(N)]
    found = codes(cohort(study_date=later))
    assert "test-not-later" not in found
    assert codes(cohort(study_date=["unknown"] * N)) == {}


def test_another_mix_of_labels_in_test_is_told(make_manifest):
    names = sorted(PLACES)
    manifest = make_manifest({n: ["b" if PLACES[n][0] == "test" else "a"] for n in names})
    finding = codes(manifest)["test-mix"]
    assert finding["message"].startswith("label: 'b' is 100% of the test patients and 0%")


def test_another_scanner_in_test_is_told_by_name(cohort):
    scanners = ["new" if i % 4 == 3 else "old" for i in range(N)]
    message = codes(cohort(scanner=scanners))["test-mix"]["message"]
    assert message.startswith("scanner: ")


def test_many_columns_that_mean_nothing_are_not_told():
    """Family-wise error: where nothing differs, few cohorts in a hundred show a finding."""
    from pathlib import Path

    from hepar.data import LabelSet, Manifest, Sample

    rng = np.random.default_rng(0)
    told = 0
    for _ in range(100):
        samples = tuple(
            Sample(f"{i}.png", f"p{i}", f"{i}.png", "ab"[int(rng.integers(2))],
                   extra={f"c{j}": str(rng.integers(3)) for j in range(10)})
            for i in range(60)
        )  # fmt: skip
        manifest = Manifest(samples, LabelSet(("a", "b")), Path())
        places = {f"p{i}": ("test" if i % 4 == 0 else "train", "") for i in range(60)}
        told += bool(codes(manifest, None, places))
    assert told <= 5


def test_folds_alone_are_not_asked_for_their_mix(make_manifest):
    manifest = make_manifest({f"p{i:02d}": ["a" if i < 40 else "b"] for i in range(N)})
    places = {f"p{i:02d}": ("train", "0" if i < 40 else "1") for i in range(N)}
    assert codes(manifest, None, places) == {}
