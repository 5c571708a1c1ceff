"""The eight kinds of leak of Kapoor and Narayanan, each planted in a phantom cohort and not.

Source: Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based
science, Patterns 4:100804.
"""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from hepar import run
from hepar.audit import audit_cohort, audit_partitions, read_looks
from hepar.config import (
    BackboneConfig,
    EvaluateConfig,
    HeadConfig,
    IngestConfig,
    SplitConfig,
    read_config,
)
from hepar.data import LabelSet, Sample
from hepar.errors import EvaluateError, SplitError
from hepar.evaluate import evaluate, measure_calibration
from hepar.fit import cross_validate
from hepar.ingest import ingest
from hepar.phantom import PhantomConfig, write_cohort
from hepar.split import Assignment, Split, make_split

LABELS = LabelSet(("benign", "malignant"))
HEAD = HeadConfig(penalties=(10.0,))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve phantom patients as pictures, with none of their slices copied."""
    folder = tmp_path_factory.mktemp("pictures")
    write_cohort(folder, PhantomConfig(patients=12, slices=3, size=128, seed=2), ("png",))
    return folder / "png"


def read(folder):
    return ingest(folder / "index.csv", IngestConfig())


def features(n_patients=24, each=3, d=30, seed=0):
    """Return features that tell nothing of the label, their samples, and a split."""
    rng = np.random.default_rng(seed)
    samples = [
        Sample(f"p{p:02d}/{i}", f"p{p:02d}", f"{p}_{i}", LABELS.names[p % 2])
        for p in range(n_patients)
        for i in range(each)
    ]
    places = {
        f"p{p:02d}": Assignment("test", None) if p < 6 else Assignment("train", p % 3)
        for p in range(n_patients)
    }
    rows = rng.normal(size=(len(samples), d)).astype(np.float32)
    return rows, samples, Split(places, 3, 0)


def scores(rows, samples, split):
    return cross_validate(rows, samples, split, LABELS, HEAD).predictions


# L1.1 No test set


def test_no_test_set_is_impossible_rows_without_a_fold_are_not_measured():
    rows, samples, split = features()
    table = scores(rows, samples, split)
    assert measure_calibration(table, EvaluateConfig(resamples=20))
    learned = replace(table, fold=np.full(len(table), ""))
    with pytest.raises(EvaluateError, match="knows its own training patients"):
        measure_calibration(learned, EvaluateConfig(resamples=20))
    with pytest.raises(EvaluateError):
        evaluate(learned, learned, EvaluateConfig(resamples=20))


# L1.2 Preprocessing on training and test set


def test_preprocessing_never_sees_left_out_rows():
    rows, samples, split = features()
    before = scores(rows, samples, split)
    out = before.fold == "1"
    moved = rows.copy()
    moved[out] = 50 * moved[out] + 7  # a scaler fitted on all rows would feel this
    after = scores(moved, samples, split)
    is_other = ~out & (before.fold != "")
    final = before.partition == "test"
    tested = rows.copy()
    tested[final] = 50 * tested[final] + 7
    untouched = scores(tested, samples, split)
    np.testing.assert_array_equal(untouched.probabilities[~final], before.probabilities[~final])
    assert not np.allclose(after.probabilities[is_other], before.probabilities[is_other])


# L1.3 Feature selection on training and test set


def test_what_is_chosen_is_chosen_without_left_out_rows():
    """The penalty is the only thing chosen; labels of left-out rows do not move it."""
    rows, samples, split = features()
    several = HeadConfig(penalties=(1.0, 100.0, 1e4))
    before = cross_validate(rows, samples, split, LABELS, several).predictions
    final = before.partition == "test"
    lied = [
        replace(s, label=LABELS.names[1 - LABELS.index(s.label)]) if is_test else s
        for s, is_test in zip(samples, final, strict=True)
    ]
    after = cross_validate(rows, lied, split, LABELS, several).predictions
    np.testing.assert_array_equal(after.probabilities, before.probabilities)


# L1.4 Duplicates


def test_duplicates_across_patients_are_found(pictures, tmp_path):
    clean = audit_cohort(read(pictures), read_looks(read(pictures), BackboneConfig()))
    assert clean.findings == ()
    write_cohort(
        tmp_path, PhantomConfig(patients=12, slices=3, size=128, seed=2, duplicates=2), ("png",)
    )
    planted = read(tmp_path / "png")
    found = audit_cohort(planted, read_looks(planted, BackboneConfig()))
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert {f["code"] for f in found.findings} >= {"exact-across-patients"}
    (exact,) = [f for f in found.findings if f["code"] == "exact-across-patients"]
    assert exact["n"] == 2 == truth["config"]["duplicates"]


# L2 Illegitimate features


@pytest.mark.parametrize("confounder", ["mark", ""])
def test_a_mark_that_gives_the_label_away_is_told_by_a_control(tmp_path, confounder):
    phantom = PhantomConfig(patients=36, slices=3, size=128, seed=1, confounder=confounder)
    write_cohort(tmp_path, phantom, ("dicom", "masks"))
    settings = [f"ingest.labels_csv={tmp_path / 'labels.csv'}", "recipe.size=96"]
    run(tmp_path / "dicom", tmp_path / "run", read_config(None, settings))
    records = json.loads((tmp_path / "run" / "controls.json").read_text())["controls"]
    fired = {record["name"] for record in records if record["fires"]}
    assert ("background" in fired) == bool(confounder)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    first = page[: page.index("</header>")]
    assert ("outside the liver" in first) == bool(confounder)


# L3.1 Temporal leakage


def dated(pictures, tmp_path, years):
    """Return the cohort with a date a patient."""
    shutil.copytree(pictures.parent, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "png" / "index.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["patient_id"] for row in rows})
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*rows[0], "study_date", "fold"])
        writer.writeheader()
        for row in rows:
            i = names.index(row["patient_id"])
            fold = "test" if i % 4 == 0 else str(i % 2)
            writer.writerow({**row, "study_date": years(fold), "fold": fold})
    return read(tmp_path / "png")


@pytest.mark.parametrize(
    ("years", "told"),
    [
        (lambda fold: "2019-05-01" if fold == "test" else "2021-05-01", True),
        (lambda fold: "2023-05-01" if fold == "test" else "2021-05-01", False),
    ],
)
def test_a_test_before_the_training_is_told(pictures, tmp_path, years, told):
    manifest = dated(pictures, tmp_path, years)
    split = make_split(manifest, SplitConfig(column="fold"))
    places = {p: (a.partition, str(a.fold)) for p, a in split.assignments.items()}
    codes = {f["code"] for f in audit_partitions(manifest, None, places)}
    assert ("test-not-later" in codes) == told


# L3.2 Non-independence between training and test samples


def test_a_patient_on_both_sides_is_impossible(pictures):
    manifest = read(pictures)
    split = make_split(manifest, SplitConfig(folds=3, test=0.25))
    for own in manifest.patients.values():
        assert len({split.of(sample) for sample in own}) == 1
    torn = replace(
        manifest,
        samples=tuple(
            replace(s, extra={"fold": str(i % 2)}) for i, s in enumerate(manifest.samples)
        ),
    )
    with pytest.raises(SplitError, match="patient"):
        make_split(torn, SplitConfig(column="fold"))


# L3.3 Sampling bias in the test distribution


@pytest.mark.parametrize("biased", [True, False])
def test_a_test_of_other_people_is_told(make_manifest, biased):
    names = [f"p{i:03d}" for i in range(90)]
    manifest = make_manifest({n: [LABELS.names[i % 2]] for i, n in enumerate(names)})
    wards = ["surgery" if (i % 3 == 0 if biased else i % 2 == 0) else "medicine" for i in range(90)]
    samples = tuple(
        replace(s, extra={"ward": ward}) for s, ward in zip(manifest.samples, wards, strict=True)
    )
    places = {n: ("test" if i % 3 == 0 else "train", "0") for i, n in enumerate(names)}
    codes = {f["code"] for f in audit_partitions(replace(manifest, samples=samples), None, places)}
    assert ("test-mix" in codes) == biased
