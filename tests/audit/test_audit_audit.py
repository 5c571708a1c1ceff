from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hepar.audit import audit_cohort, grouped, read_audit, read_looks, write_audit, write_sheet
from hepar.config import BackboneConfig, IngestConfig, SplitConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.ingest import ingest
from hepar.phantom import PhantomConfig, write_cohort
from hepar.provenance import stamp
from hepar.split import make_split

LABELS = LabelSet(("benign", "malignant"))


def cohort(n, unit="patient", labels=None, patients=None):
    names = patients or [f"p{i:02d}" for i in range(n)]
    samples = [
        Sample(
            f"s{i:02d}.png",
            names[i] if unit == "patient" else f"s{i:02d}.png",
            f"s{i:02d}.png",
            label=labels[i] if labels else LABELS.names[i % 2],
        )
        for i in range(n)
    ]
    return Manifest(tuple(samples), LABELS, Path(), unit=unit)


def codes(audit):
    return {finding["code"]: finding for finding in audit.findings}


def test_a_clean_cohort_has_no_finding(body, looks_of):
    audit = audit_cohort(cohort(12), looks_of([body(seed) for seed in range(12)]))
    assert (audit.findings, audit.links, audit.groups) == ((), (), {})


def test_a_copy_across_patients_is_a_leak_with_both_samples_named(body, looks_of):
    images = [body(seed) for seed in range(12)]
    images[9] = images[3]
    audit = audit_cohort(cohort(12), looks_of(images))
    finding = codes(audit)["exact-across-patients"]
    assert finding["severity"] == "leak"
    assert finding["message"] == "1 pair across patients show the same pixels."
    assert finding["samples"] == [["s03.png", "s09.png"]]
    assert "label-conflict" not in codes(audit)


def test_one_image_under_two_labels_is_told(body, looks_of):
    images = [body(seed) for seed in range(12)]
    images[8] = images[3]
    audit = audit_cohort(cohort(12), looks_of(images))
    assert "carry different labels" in codes(audit)["label-conflict"]["message"]


def test_two_ids_that_share_half_their_images_are_perhaps_one_person(body, looks_of):
    images = [body(seed, z) for seed in (1, 2, 3) for z in range(4)]
    images[8:11] = images[0:3]
    names = ["A"] * 4 + ["B"] * 4 + ["C"] * 4
    audit = audit_cohort(cohort(12, patients=names), looks_of(images))
    assert codes(audit)["one-person"]["message"].startswith(
        "Patients A and C share 3 images of 4 and 4: perhaps one person under two ids."
    )


def test_where_patients_are_unknown_groups_stand_for_them_and_never_part(body, looks_of, tmp_path):
    images = [body(seed, z) for seed in range(8) for z in range(3)]
    labels = [LABELS.names[seed % 2] for seed in range(8) for _ in range(3)]
    manifest = cohort(24, "image", labels)
    audit = audit_cohort(manifest, looks_of(images))
    write_audit(tmp_path / "audit.json", audit, stamp("test"))
    again = read_audit(tmp_path / "audit.json")
    assert again.groups == audit.groups
    assert again.findings == audit.findings
    joined = grouped(manifest, again)
    assert joined.unit == "group"
    assert {f.code for f in joined.findings} == {"inferred-groups"}
    split = make_split(joined, SplitConfig(folds=4))
    assert split.unit == "group"
    folds = {s.sample_id: split.of(s).fold for s in joined.samples}
    for link in audit.links:
        assert folds[link["a"]] == folds[link["b"]]


def test_groups_of_several_labels_are_told(body, looks_of):
    images = [body(seed, z) for seed in range(3) for z in range(2)]
    audit = audit_cohort(cohort(6, "image"), looks_of(images))
    assert codes(audit)["mixed-groups"]["n"] >= 1


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A phantom with two slices copied into other patients."""
    folder = tmp_path_factory.mktemp("copies")
    write_cohort(folder, PhantomConfig(patients=9, slices=6, duplicates=2), formats=("dicom",))
    return folder


@pytest.mark.slow
def test_planted_copies_of_the_phantom_are_found_and_nothing_else(phantom, tmp_path):
    config = IngestConfig(labels_csv=str(phantom / "labels.csv"))
    manifest = ingest(phantom / "dicom", config)
    audit = audit_cohort(manifest, read_looks(manifest, BackboneConfig()))
    exact = [link for link in audit.links if link["kind"] == "exact"]
    assert len(exact) == 2
    planted = {(link["a"][:4], link["b"][:4]) for link in exact}
    assert {(link["a"][:4], link["b"][:4]) for link in audit.links} == planted  # and neighbours
    assert any(finding["severity"] == "leak" for finding in audit.findings)
    write_sheet(tmp_path / "links.png", manifest, audit.links)
    import cv2

    sheet = cv2.imread(str(tmp_path / "links.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[1] > 900
    assert 10 < sheet.mean() < 245
    clean = [
        i
        for i, s in enumerate(manifest.samples)
        if s.patient_id not in {pair[1] for pair in planted}
    ]
    rest = dataclasses.replace(manifest, samples=tuple(manifest.samples[i] for i in clean))
    assert audit_cohort(rest, read_looks(rest, BackboneConfig())).findings == ()


@pytest.mark.slow
def test_phantom_patients_without_ids_are_found_again(tmp_path):
    write_cohort(tmp_path, PhantomConfig(patients=12, slices=8), formats=("dicom",))
    manifest = ingest(tmp_path / "dicom", IngestConfig(labels_csv=str(tmp_path / "labels.csv")))
    unknown = dataclasses.replace(
        manifest,
        samples=tuple(dataclasses.replace(s, patient_id=s.sample_id) for s in manifest.samples),
        unit="image",
    )
    audit = audit_cohort(unknown, read_looks(unknown, BackboneConfig()))
    joined = grouped(unknown, audit)
    true = {s.sample_id: s.patient_id for s in manifest.samples}
    for samples in joined.patients.values():
        assert len({true[s.sample_id] for s in samples}) == 1
    assert len(joined.patients) <= 15
