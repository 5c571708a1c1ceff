"""What a table leaves unclear is said before anything is learned from it."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from hepar.cohort_job import prepare
from hepar.config import IngestConfig, read_config
from hepar.errors import IngestError
from hepar.ingest import ingest
from hepar.ledger import Ledger


@pytest.fixture
def table(tmp_path):
    """Eight patients, two slices each; `shown` says which slices have something in their mask."""

    def make(shown, labels=("benign", "malignant"), masked=lambda _i: True):
        rng = np.random.default_rng(0)
        rows = []
        for i in range(16):
            patient, label = f"p{i // 2}", labels[i // 2 % 2]
            image = rng.integers(0, 256, (96, 96), dtype=np.uint8)
            mask = np.zeros((96, 96), np.uint8)
            if shown(label, i):
                mask[20:60, 20:70] = 255
            cv2.imwrite(str(tmp_path / f"{i}.png"), image)
            cv2.imwrite(str(tmp_path / f"{i}_mask.png"), mask)
            name = f"{i}_mask.png" if masked(i) else ""
            rows.append({"path": f"{i}.png", "label": label, "patient_id": patient, "mask": name})
        with (tmp_path / "index.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / "index.csv"

    return make


def codes(manifest):
    return {finding.code: finding for finding in manifest.findings}


def test_masks_that_only_one_label_has_look_like_lesions(table):
    found = codes(ingest(table(lambda label, _i: label == "malignant"), IngestConfig()))
    message = found["masks-like-lesions"].message
    assert "no slice of benign has it" in message
    assert "--set ingest.mask_values=lesion=255" in message


def test_masks_of_one_value_in_every_label_are_taken_for_liver_and_it_is_said(table):
    found = codes(ingest(table(lambda _label, _i: True), IngestConfig()))
    assert found["one-mask-value"].severity == "note"
    assert "masks-like-lesions" not in found


def test_what_the_user_said_of_masks_is_not_doubted(table):
    source = table(lambda label, _i: label == "malignant")
    found = codes(ingest(source, IngestConfig(mask_values="lesion=255")))
    assert not {"masks-like-lesions", "one-mask-value"} & set(found)


@pytest.mark.parametrize(
    ("labels", "told"),
    [(("benign", "Benign "), True), (("no tumour", "no_tumour"), True), (("a", "b"), False)],
)
def test_labels_that_differ_only_in_spelling_are_told(table, labels, told):
    manifest = ingest(table(lambda _label, _i: True, labels), IngestConfig())
    assert ("labels-alike" in codes(manifest)) == told or len(manifest.labels) == 1


def prepared(source, tmp_path):
    config = read_config(settings=["recipe.size=32", "audit.copies=false", "split.folds=2"])
    return prepare(source, Ledger(tmp_path / "run", "test"), [config])


def test_slices_without_liver_are_left_out_aloud(table, tmp_path):
    cohort, _ = prepared(table(lambda _label, i: i % 4 > 0), tmp_path)
    message = codes(cohort.manifest)["left-out"].message
    assert message == "left out: 4 slices whose mask shows no liver (4 benign)." or (
        "2 benign, 2 malignant" in message
    )
    assert len(cohort.manifest) == 12


def test_a_label_that_loses_all_slices_says_that_masks_are_why(table, tmp_path):
    source = table(lambda label, _i: label == "malignant")
    with pytest.raises(IngestError, match=r"none in those of benign \(8 benign without\).*picture"):
        prepared(source, tmp_path)


def test_masks_for_some_samples_alone_change_the_recipe_aloud(table, tmp_path):
    source = table(lambda _label, _i: True, masked=lambda i: i % 2 == 0)
    cohort, (parts,) = prepared(source, tmp_path)
    assert parts[0].recipe.name == "picture"
    assert "8 of 16 samples have no mask" in codes(cohort.manifest)["left-out"].message


def test_a_folder_that_cannot_be_written_to_is_refused_by_name(monkeypatch, tmp_path):
    from hepar.cohort_job import new_ledger
    from hepar.errors import ConfigError

    monkeypatch.setattr("hepar.cohort_job.os.access", lambda *_: False)
    with pytest.raises(ConfigError, match=f"{tmp_path} is not writable"):
        new_ledger(tmp_path / "out")
