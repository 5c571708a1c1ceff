from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.errors import IngestError
from hepar.ingest import ingest, ingest_files, read_slices

pytestmark = pytest.mark.real_ct


def codes(manifest):
    return Counter(finding.code for finding in manifest.findings)


def test_lits_slices_are_four_patients_with_liver_and_lesion_masks(shared):
    manifest = ingest(shared / "lits_slices", IngestConfig())
    assert len(manifest) == 704
    assert len(manifest.patients) == 4
    assert manifest.labels.names == ("no_tumour", "tumour")
    assert manifest.mask_values == {"liver": 127, "lesion": 255}
    assert manifest.has_masks
    assert not manifest.findings
    some = manifest.samples[::50]
    for sample, one in zip(some, read_slices(manifest, some), strict=True):
        assert int((one.mask == 2).sum()) == int(sample.extra["tumour_px"])


def test_smoothed_liver_masks_of_msd_are_understood(shared):
    manifest = ingest(shared / "msd_liver_256", IngestConfig())
    assert (len(manifest), len(manifest.patients)) == (442, 83)
    assert manifest.mask_values == {"liver_from": 128}
    assert codes(manifest) == {"smoothed-masks": 1}


def test_red_is_tumour_in_the_hepatic_vessel_masks(shared):
    manifest = ingest(shared / "msd_hepaticvessel", IngestConfig())
    assert manifest.mask_values == {"lesion": 0xFF0000}
    slices = read_slices(manifest, manifest.samples)
    for sample, one in zip(manifest.samples, slices, strict=True):
        assert (one.mask == 2).any() == (sample.label == "tumour")


def test_upside_down_pictures_stand_when_flipped(shared):
    stored = ingest(shared / "nih_normal", IngestConfig())
    flipped = ingest(shared / "nih_normal", IngestConfig(flip_vertical=True))
    assert (len(stored), len(stored.patients)) == (126, 31)
    (one,), (other,) = (read_slices(m, m.samples[:1]) for m in (stored, flipped))
    np.testing.assert_array_equal(one.pixels, other.pixels[::-1])


def test_lost_patient_ids_are_refused(shared):
    with pytest.raises(IngestError, match=r"none for 640 of 640.*--patients-unknown"):
        ingest(shared / "iqoth_lung", IngestConfig())
    manifest = ingest(shared / "iqoth_lung", IngestConfig(patients_unknown=True))
    assert manifest.labels.names == ("normal", "benign", "malignant")
    assert not manifest.patients_known


def test_a_dicom_series_is_ordered_by_position_as_a_tree_and_as_a_table(shared):
    folder = shared / "tcga_lihc_dicom"
    with pytest.raises(IngestError, match="2 gaps where slices are missing"):
        ingest(folder / "TCGA-BC-A10X", IngestConfig())
    tree = ingest(folder / "TCGA-BC-A10X", IngestConfig(allow_gaps=True))
    table = ingest(folder, IngestConfig())
    new = ingest_files([folder / "TCGA-BC-A10X"], IngestConfig())
    for manifest in (tree, table, new):
        assert [s.slice_index for s in manifest.samples] == list(range(34))
        assert codes(manifest)["missing-slices"] == 1
        assert {s.patient_id for s in manifest.samples} == {"TCGA-BC-A10X"}
    names = [s.path.split("/")[-1] for s in tree.samples]
    assert names == [s.path.split("/")[-1] for s in table.samples]
    assert names[:3] == ["000032.dcm", "000010.dcm", "000022.dcm"]
    assert names != sorted(names)


def test_chaos_masks_lie_on_the_liver(shared):
    manifest = ingest(shared / "chaos_ct_set3_dicom", IngestConfig())
    assert (len(manifest), len(manifest.patients)) == (78, 1)
    assert manifest.samples[0].spacing_mm == (2.0, 0.7265625, 0.7265625)
    slices = read_slices(manifest, manifest.samples)
    inside = np.concatenate([one.pixels[one.mask == 1] for one in slices])
    assert 135 < inside.mean() < 147  # portal-venous liver; the folder's table says 141 HU


def test_without_patient_ids_a_series_stays_one_patient(shared):
    folder = shared / "chaos_ct_set3_dicom" / "DICOM_anon"
    with pytest.raises(IngestError, match="none for 78 of 78"):
        ingest(folder, IngestConfig())
    manifest = ingest(folder, IngestConfig(patients_unknown=True))
    assert len(manifest.patients) == 1
    assert not manifest.patients_known


def test_what_is_no_ct_slice_among_dicom_is_set_aside(shared):
    manifest = ingest(shared / "dcmqi_ct3slice", IngestConfig())
    assert [s.path for s in manifest.samples] == ["03.dcm", "02.dcm", "01.dcm"]
    assert {s.mask for s in manifest.samples} == {"liver.dcm"}
    assert {f.where: f.code for f in manifest.findings} == {
        "liver_seg.nrrd": "not-an-image",
    }
    assert min(one.pixels.min() for one in read_slices(manifest, manifest.samples)) == -1024


def test_a_volume_with_lesions_gives_labelled_slices(shared):
    manifest = ingest(shared / "lits117_nifti", IngestConfig())
    assert manifest.mask_values == {"liver": 1, "lesion": 2}
    slices = read_slices(manifest, manifest.samples)
    inside = np.concatenate([one.pixels[one.mask == 1] for one in slices])
    assert 50 < np.median(inside) < 200


def test_mr_and_label_files_among_ct_volumes_are_set_aside(shared):
    manifest = ingest(shared / "totalseg_ct_nifti", IngestConfig())
    assert {s.path for s in manifest.samples} == {"example_ct.nii.gz", "example_ct_sm.nii.gz"}
    aside = {f.where: f.code for f in manifest.findings if f.severity == "set-aside"}
    assert aside == {"example_seg.nii.gz": "label-file", "example_mr_sm.nii.gz": "not-hu"}


def test_liver_is_five_in_totalsegmentator(shared, tmp_path):
    source = shared / "totalseg_ct_nifti"
    (tmp_path / "t.csv").write_text(
        "path,label,patient_id,mask\n"
        f"{source / 'example_ct_sm.nii.gz'},x,P,{source / 'example_seg.nii.gz'}\n"
    )
    with pytest.raises(IngestError, match="liver=5"):
        ingest(tmp_path / "t.csv", IngestConfig())
    manifest = ingest(tmp_path / "t.csv", IngestConfig(mask_values="liver=5"))
    slices = read_slices(manifest, manifest.samples)
    inside = np.concatenate([one.pixels[one.mask == 1] for one in slices])
    assert 30 < np.median(inside) < 200
    # The liver lies on the patient's right, which is on the left of the picture.
    columns = np.concatenate([np.nonzero(one.mask == 1)[1] for one in slices])
    assert columns.mean() < slices[0].pixels.shape[1] / 2
