from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hepar.config import DecideConfig, EvaluateConfig
from hepar.evaluate import measure_trust, subgroup_columns

FEW = EvaluateConfig(resamples=60)


@pytest.fixture
def cohort(make, make_manifest):
    """Sixty patients, one slice each, and how sure a fair model is of them."""
    rng = np.random.default_rng(4)
    truth = np.arange(60) % 2
    score = 1 / (1 + np.exp(-(2.0 * (truth - 0.5) + rng.normal(size=60))))
    reference = np.where(truth == 1, "tumour", "no_tumour")
    return patients_of(make, make_manifest, reference, score)


def patients_of(make, make_manifest, reference, score):
    names = [f"p{i:02d}" for i in range(len(reference))]
    folds = [str(i // 2 % 5) for i in range(len(reference))]
    table = make(reference, score, names, level="patient", fold=folds)
    return table, make_manifest({n: [label] for n, label in zip(names, reference, strict=True)})


def measured(table, manifest, **changes):
    return measure_trust(table, table, manifest, DecideConfig(**changes), FEW)


def test_everything_is_measured_and_fits_in_json(cohort):
    found = measured(*cohort)
    assert json.loads(json.dumps(found, allow_nan=False)).keys() == found.keys()
    assert {record["metric"] for record in found["calibration"]["after"]} >= {"brier", "ece"}
    assert [record["label"] for record in found["reliability"]] == ["no_tumour", "tumour"]
    assert found["sets"][0]["covered"]["n"] == 60
    assert {record["by"] for record in found["abstention"]} == {"probability", "sets"}
    assert found["operating_point"][0]["undefined"] is None
    assert len(found["predictive_values"]) == 6
    assert found["decision_curve"][0]["n"] == 60


def test_no_sets_are_measured_where_none_are_made(cohort):
    found = measured(*cohort, conformal="none")
    assert found["sets"] == []
    assert {record["by"] for record in found["abstention"]} == {"probability"}


def test_two_patients_give_reasons_not_numbers(make, make_manifest):
    found = measured(*patients_of(make, make_manifest, ["no_tumour", "tumour"], [0.2, 0.8]))
    assert "needs" in found["sets"][0]["undefined"]
    assert found["operating_point"][0]["undefined"]
    assert found["predictive_values"] == []
    assert found["decision_curve"][0]["low"] is None


def test_constant_scores_give_reasons(make, make_manifest):
    cohort = patients_of(make, make_manifest, ["no_tumour", "tumour"] * 20, [0.5] * 40)
    found = measured(*cohort)
    assert all("same everywhere" in record["undefined"] for record in found["reliability"])
    assert all("equally sure" in record["undefined"] for record in found["abstention"])
    assert "flagging all" in found["operating_point"][0]["undefined"]


def test_certain_answers_give_reasons(make, make_manifest):
    cohort = patients_of(make, make_manifest, ["no_tumour", "tumour"] * 20, [0.0, 1.0] * 20)
    slope = next(
        r for r in measured(*cohort)["calibration"]["after"] if r["metric"] == "calibration_slope"
    )
    assert slope["value"] is None
    assert slope["undefined"]


def with_extra(manifest, values, **changes):
    samples = tuple(
        dataclasses.replace(sample, extra=extra, **changes)
        for sample, extra in zip(manifest.samples, values, strict=True)
    )
    return dataclasses.replace(manifest, samples=samples)


def test_columns_of_the_source_and_lesion_sizes_divide_patients(cohort):
    table, manifest = cohort
    values = [
        {"scanner": "old" if i < 30 else "new", "lesion_px": str(100 * (i % 2)), "note": f"n{i}"}
        for i in range(60)
    ]
    manifest = with_extra(manifest, values, spacing_mm=(5.0, 1.0, 1.0))
    columns = subgroup_columns(manifest)
    assert set(columns) == {"scanner", "largest lesion"}, "a note names everybody apart"
    assert columns["largest lesion"]["p01"] == "10 to 20 mm", "a disc of 100 mm2 is 11.3 mm wide"
    assert columns["largest lesion"]["p00"] == "no lesion"
    groups = measured(table, manifest)["subgroups"][0]["groups"]
    assert {record["group"] for record in groups} >= {"old", "new", "no lesion"}


def test_what_the_model_is_asked_does_not_divide_patients(cohort):
    _, manifest = cohort
    values = [{"liver_px": "900", "tumour_px": str(i % 2), "fold": str(i % 3)} for i in range(60)]
    assert subgroup_columns(with_extra(manifest, values)) == {}


def test_a_patient_scanned_twice_is_unknown_where_the_scans_differ(make_manifest):
    manifest = make_manifest({"p0": ["a", "a"], "p1": ["b"], "p2": ["b"]})
    phases = [{"phase": phase} for phase in ("arterial", "venous", "arterial", "venous")]
    columns = subgroup_columns(with_extra(manifest, phases))
    assert columns["phase"] == {"p0": "", "p1": "arterial", "p2": "venous"}


def test_lesions_without_spacing_have_no_size(make_manifest):
    manifest = make_manifest({"p0": ["a"], "p1": ["b"]})
    assert "largest lesion" not in subgroup_columns(
        with_extra(manifest, [{"lesion_px": "50"}, {"lesion_px": "0"}])
    )
