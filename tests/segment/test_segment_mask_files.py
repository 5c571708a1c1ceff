from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.data import LabelSet, Manifest, Sample
from hepar.errors import IngestError, SegmentError
from hepar.ingest import ingest, ingest_files, read_datasets, read_slices
from hepar.segment import by_series, write_dicom_seg, write_masks, write_nifti

nibabel = pytest.importorskip("nibabel")
TURNS = {
    "as scanned": [1, 0, 0, 0, 1, 0],
    "mirrored": [-1, 0, 0, 0, 1, 0],
    "upside down": [1, 0, 0, 0, -1, 0],
    "transposed": [0, 1, 0, 1, 0, 0],
    "transposed and mirrored": [0, -1, 0, 1, 0, 0],
}


def known_masks(manifest, patients):
    """Return the phantom's own mask of each sample."""
    return [patients[s.patient_id].volume.mask[s.slice_index] for s in manifest.samples]


def read_back(manifest, table, folder, masks, **settings):
    """Ingest a source again with mask files, and return each slice's mask as it was read.

    Slices without liver are left out by ingest; theirs must have been empty.
    """
    rows = [f"{one.patient_id},x,{path}" for one, path in table]
    (folder / "labels.csv").write_text("\n".join(["patient_id,label,mask", *rows]))
    config = IngestConfig(labels_csv=str(folder / "labels.csv"), **settings)
    again = ingest(manifest.root, config)
    slices = dict(
        zip([s.sample_id for s in again.samples], read_slices(again, again.samples), strict=True)
    )
    for sample, mask in zip(manifest.samples, masks, strict=True):
        if sample.sample_id in slices:
            np.testing.assert_array_equal(slices[sample.sample_id].mask, mask)
        else:
            assert not mask.any()
    return slices


def turn(folder, orientation):
    """Store every slice of a series in another direction, the same patient in the same place."""
    import pydicom

    for path in folder.rglob("*.dcm"):
        data = pydicom.dcmread(path)
        pixels = data.pixel_array
        height, width = data.PixelSpacing
        x, y, z = data.ImagePositionPatient
        across, down = orientation[:3], orientation[3:]
        is_transposed = across[0] == 0
        if is_transposed:
            pixels, across, down = pixels.T, down, across
            data.PixelSpacing = [width, height]
        rows, columns = data.pixel_array.shape
        if across[0] < 0:
            pixels, x = (
                (pixels[::-1] if is_transposed else pixels[:, ::-1]),
                x + (columns - 1) * width,
            )
        if down[1] < 0:
            pixels, y = (
                (pixels[:, ::-1] if is_transposed else pixels[::-1]),
                y + (rows - 1) * height,
            )
        data.Rows, data.Columns = pixels.shape
        data.ImageOrientationPatient = orientation
        data.ImagePositionPatient = [x, y, z]
        data.PixelData = np.ascontiguousarray(pixels).tobytes()
        data.save_as(path)


def test_nifti_masks_of_dicom_series_come_back_to_the_voxel(cohort, patients, tmp_path):
    manifest = ingest_files([cohort / "dicom"], IngestConfig())
    masks = known_masks(manifest, patients)
    files = write_masks(tmp_path, manifest, masks)
    assert [path.name for path in files] == [f"{name}_mask.nii.gz" for name in patients]
    series = [samples[0] for samples in by_series(manifest)]
    slices = read_back(manifest, zip(series, files, strict=True), tmp_path, masks)
    assert any((one.mask == 2).any() for one in slices.values())


@pytest.mark.parametrize("turned", TURNS)
def test_a_voxel_of_a_nifti_mask_lies_where_the_dicom_standard_puts_it(
    turned, cohort, patients, tmp_path
):
    shutil.copytree(cohort / "dicom", tmp_path / "dicom")
    turn(tmp_path / "dicom", TURNS[turned])
    manifest = ingest_files([tmp_path / "dicom"], IngestConfig())
    samples = by_series(manifest)[0]
    mask = np.zeros((6, 96, 96), np.uint8)
    mask[4, 10, 20] = 2
    write_nifti(tmp_path / "m.nii.gz", mask, manifest, samples)
    image = nibabel.load(tmp_path / "m.nii.gz")
    found = image.affine @ [*np.argwhere(image.get_fdata() == 2)[0], 1]
    # PS3.3 C.7.6.2.1.1, from the slice as it is stored
    dataset, header = read_datasets(manifest, samples)[4]
    (row, column), *others = np.argwhere(header.lay(mask[4]) == 2)
    assert not others
    between_rows, between_columns = dataset.PixelSpacing
    cosines = np.array(dataset.ImageOrientationPatient, float)
    place = np.array(dataset.ImagePositionPatient, float)
    place += column * between_columns * cosines[:3] + row * between_rows * cosines[3:]
    np.testing.assert_allclose(found[:3], place * [-1, -1, 1], atol=1e-3)
    # and the pixels there are the same patient's as before it was turned
    (upright,) = read_slices(manifest, samples[4:5])
    np.testing.assert_array_equal(upright.pixels, patients[samples[4].patient_id].volume.voxels[4])


@pytest.mark.parametrize(
    ("codes", "is_placed"),
    [*((codes, True) for codes in ("LPS", "RAS", "LAI", "SPR", "AIL")), ("RAS", False)],
)
def test_nifti_masks_lie_as_their_volume_is_stored(codes, is_placed, cohort, patients, tmp_path):
    for name in patients:
        image = nibabel.load(cohort / "nifti" / f"{name}_ct.nii.gz")
        start = nibabel.io_orientation(image.affine)
        turn_to = nibabel.orientations.axcodes2ornt(codes)
        image = image.as_reoriented(nibabel.orientations.ornt_transform(start, turn_to))
        if not is_placed:
            image.set_sform(None, 0)
            image.set_qform(None, 0)
        (tmp_path / "source").mkdir(exist_ok=True)
        nibabel.save(image, tmp_path / "source" / f"{name}.nii.gz")
    source = ingest_files([tmp_path / "source"], IngestConfig())
    masks = [(one.pixels > 40).astype(np.uint8) for one in read_slices(source, source.samples)]
    masks[0][3, 5] = 2
    files = write_masks(tmp_path / "source", source, masks)
    again = ingest_files([tmp_path / "source"], IngestConfig())
    assert len(again) == len(source)
    assert not {f.severity for f in again.findings} & {"refused", "set-aside"}
    for one, mask in zip(read_slices(again, again.samples), masks, strict=True):
        np.testing.assert_array_equal(one.mask, mask)
    mask, image = (
        nibabel.load(tmp_path / "source" / f"{name}.nii.gz")
        for name in (
            files[0].name.removesuffix(".nii.gz"),
            files[0].name.removesuffix("_mask.nii.gz"),
        )
    )
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_dicom_seg_has_each_slice_and_says_what_made_it(cohort, patients, tmp_path):
    pytest.importorskip("highdicom")
    from highdicom.seg import segread

    shutil.copytree(cohort / "dicom", tmp_path / "dicom")
    turn(tmp_path / "dicom", TURNS["transposed and mirrored"])
    manifest = ingest_files([tmp_path / "dicom"], IngestConfig())
    masks = known_masks(manifest, patients)
    files = write_masks(tmp_path, manifest, masks, "dicom-seg", algorithm="hepar test")
    by_id = dict(zip((s.sample_id for s in manifest.samples), masks, strict=True))
    for samples, path in zip(by_series(manifest), files, strict=True):
        found = read_datasets(manifest, samples)
        stored = np.stack(
            [
                header.lay(by_id[sample.sample_id])
                for sample, (_, header) in zip(samples, found, strict=True)
            ]
        )
        seg = segread(path)
        has_lesion = bool((stored == 2).any())
        assert list(seg.segment_numbers) == [1, 2][: 1 + has_lesion]
        frames = seg.get_pixels_by_source_instance(
            [dataset.SOPInstanceUID for dataset, _ in found], ignore_spatial_locations=True
        )
        np.testing.assert_array_equal(frames[..., 0], stored > 0)
        if has_lesion:
            np.testing.assert_array_equal(frames[..., 1], stored == 2)
        source = found[0][0]
        assert seg.PatientName == source.PatientName
        assert seg.StudyInstanceUID == source.StudyInstanceUID
        assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
        liver = seg.get_segment_description(1)
        assert (liver.SegmentLabel, liver.segmented_property_type.value) == ("Liver", "10200004")
        assert liver.algorithm_type.value == "AUTOMATIC"
        assert liver.SegmentAlgorithmName == "hepar test"


def test_dicom_seg_comes_back_to_the_voxel(cohort, patients, tmp_path):
    pytest.importorskip("highdicom")
    shutil.copytree(cohort / "dicom", tmp_path / "dicom")
    turn(tmp_path / "dicom", TURNS["transposed and mirrored"])
    manifest = ingest_files([tmp_path / "dicom"], IngestConfig())
    masks = known_masks(manifest, patients)
    write_masks(tmp_path / "dicom" / "masks", manifest, masks, "dicom-seg")
    again = ingest_files([tmp_path / "dicom"], IngestConfig())
    by_id = dict(zip((s.sample_id for s in manifest.samples), masks, strict=True))
    for sample, one in zip(again.samples, read_slices(again, again.samples), strict=True):
        np.testing.assert_array_equal(one.mask, by_id.pop(sample.sample_id))
    assert not any(mask.any() for mask in by_id.values())
    assert {f.severity for f in again.findings} <= {"note"}


@pytest.mark.parametrize("missing", ["", "FrameOfReferenceUID"])
def test_the_name_of_the_patient_stays_in_the_file(missing, cohort, tmp_path, caplog):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    shutil.copytree(cohort / "dicom", tmp_path / "dicom")
    for path in (tmp_path / "dicom").rglob("*.dcm"):
        data = pydicom.dcmread(path)
        data.PatientName = "Secret"  # without a caret highdicom warns, and says it
        if missing:
            delattr(data, missing)
        data.save_as(path)
    manifest = ingest_files([tmp_path / "dicom"], IngestConfig())
    samples = by_series(manifest)[0]
    mask = np.ones((6, 96, 96), np.uint8)
    if missing:
        with pytest.raises(SegmentError, match=f"without {missing}. Write NIfTI") as error:
            write_dicom_seg(tmp_path / "m.dcm", mask, manifest, samples)
        assert "Secret" not in str(error.value)
    else:
        write_dicom_seg(tmp_path / "m.dcm", mask, manifest, samples)
        assert str(pydicom.dcmread(tmp_path / "m.dcm").PatientName) == "Secret"
    assert "Secret" not in caplog.text


def test_a_series_without_liver_has_a_segmentation_of_nothing(cohort, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    manifest = ingest_files([cohort / "dicom"], IngestConfig())
    samples = by_series(manifest)[0]
    write_dicom_seg(tmp_path / "m.dcm", np.zeros((6, 96, 96), np.uint8), manifest, samples)
    pixels = pydicom.dcmread(tmp_path / "m.dcm").pixel_array
    assert pixels.shape == (6, 96, 96)
    assert not pixels.any()


def test_where_slices_are_missing_levels_stay_empty(cohort, patients, tmp_path):
    shutil.copytree(cohort / "dicom", tmp_path / "dicom")
    whole = ingest_files([cohort / "dicom"], IngestConfig())
    gone = by_series(whole)[0][2]
    (tmp_path / "dicom" / gone.path).unlink()
    manifest = ingest_files([tmp_path / "dicom"], IngestConfig())
    samples = by_series(manifest)[0]
    mask = patients[gone.patient_id].volume.mask[[0, 1, 3, 4, 5]] + 0
    mask[:, 0, 0] = 1
    write_nifti(tmp_path / "m.nii.gz", mask, manifest, samples)
    image = nibabel.load(tmp_path / "m.nii.gz")
    stored = np.asarray(image.dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(stored[[0, 1, 3, 4, 5]], mask)
    assert not stored[2].any()
    table = [(samples[0], tmp_path / "m.nii.gz")]
    one = replace(manifest, samples=tuple(samples))
    slices = read_back(one, table, tmp_path, list(mask), allow_gaps=True)
    assert len(slices) >= 5
    depth = patients[gone.patient_id].spacing_mm[0]
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, 2]), depth, atol=1e-4)


def test_unevenly_placed_slices_are_refused_by_nifti_alone(cohort, tmp_path):
    import pydicom

    shutil.copytree(cohort / "dicom", tmp_path / "dicom")
    whole = ingest_files([cohort / "dicom"], IngestConfig())
    for at, sample in enumerate(by_series(whole)[0]):
        data = pydicom.dcmread(tmp_path / "dicom" / sample.path)
        data.ImagePositionPatient = [0, 0, (0, 5, 10, 17, 22, 29)[at]]
        data.save_as(tmp_path / "dicom" / sample.path)
    manifest = ingest_files([tmp_path / "dicom"], IngestConfig())
    samples = by_series(manifest)[0]
    mask = np.ones((6, 96, 96), np.uint8)
    with pytest.raises(IngestError, match=r"even grid, got .* mm\. Write DICOM SEG"):
        write_nifti(tmp_path / "m.nii.gz", mask, manifest, samples)
    if pytest.importorskip("highdicom"):
        write_dicom_seg(tmp_path / "m.dcm", mask, manifest, samples)


def test_a_mask_of_pictures_keeps_their_spacing_and_their_sides(tmp_path):
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((4, 6), np.uint8))
    samples = [
        Sample(f"{n}.png", "P 1/x", f"{n}.png", slice_index=at, spacing_mm=(5.0, 0.5, 0.75))
        for at, n in enumerate("ab")
    ]
    manifest = Manifest(tuple(samples), LabelSet(()), tmp_path)
    masks = [np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)]
    masks[1][0, 2] = 1  # the front, right of the middle
    (path,) = write_masks(tmp_path, manifest, masks)
    assert path.name == "P_1_x_mask.nii.gz"
    image = nibabel.load(path)
    assert np.argwhere(np.asarray(image.dataobj)).tolist() == [[2, 0, 1]]
    np.testing.assert_allclose(image.affine, np.diag([-0.75, -0.5, 5, 1]))


def test_two_series_of_a_patient_have_a_file_each(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    samples = [Sample(f"{n}", "P", "a.png", series_id=n) for n in "xyz"]
    manifest = Manifest(tuple(samples), LabelSet(()), tmp_path)
    files = write_masks(tmp_path, manifest, [np.zeros((4, 4), np.uint8)] * 3)
    assert [p.name for p in files] == [f"P{n}_mask.nii.gz" for n in ("", "_2", "_3")]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((5, 96, 96), np.uint8), r"expected \(6, y, x\) uint8, got \(5, 96, 96\)"),
        (np.zeros((6, 96, 96), np.int16), "got .* int16"),
        (np.full((6, 96, 96), 5, np.uint8), "expected 0, 1 .* got 5"),
        (np.zeros((6, 95, 96), np.uint8), r"expected .*\(96, 96\) pixels, got \(95, 96\)"),
    ],
)
@pytest.mark.parametrize("write", [write_nifti, write_dicom_seg])
def test_a_mask_of_other_samples_is_refused(mask, message, write, cohort, tmp_path):
    pytest.importorskip("highdicom")
    manifest = ingest_files([cohort / "dicom"], IngestConfig())
    with pytest.raises((SegmentError, IngestError), match=message):
        write(tmp_path / "m", mask, manifest, by_series(manifest)[0])
    assert not (tmp_path / "m").exists()


def test_dicom_seg_of_a_nifti_volume_is_refused(cohort, tmp_path):
    pytest.importorskip("highdicom")
    manifest = ingest_files([cohort / "nifti"], IngestConfig())
    masks = [np.zeros((96, 96), np.uint8)] * len(manifest)
    with pytest.raises(IngestError, match=r"expected a slice of a DICOM series.*Write NIfTI"):
        write_masks(tmp_path, manifest, masks, "dicom-seg")


def test_a_missing_package_names_its_extra(cohort, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    manifest = ingest_files([cohort / "dicom"], IngestConfig())
    mask = np.zeros((6, 96, 96), np.uint8)
    with pytest.raises(SegmentError, match=r"pip install 'hepar\[dicom-seg\]'"):
        write_dicom_seg(tmp_path / "m.dcm", mask, manifest, by_series(manifest)[0])


def test_an_unknown_kind_and_missing_masks_are_refused(cohort, tmp_path):
    manifest = ingest_files([cohort / "dicom"], IngestConfig())
    with pytest.raises(SegmentError, match="expected nifti or dicom-seg, got 'nrrd'"):
        write_masks(tmp_path, manifest, [], "nrrd")
    with pytest.raises(SegmentError, match="a mask for each of 18 samples, got 0"):
        write_masks(tmp_path, manifest, [])


@pytest.mark.real_ct
@pytest.mark.parametrize("name", ["chaos_ct_set3_dicom", "tcga_lihc_dicom", "totalseg_ct_nifti"])
@pytest.mark.parametrize("kind", ["nifti", "dicom-seg"])
def test_real_masks_come_back_to_the_voxel(name, kind, shared, tmp_path):
    if kind == "dicom-seg" and name.endswith("nifti"):
        pytest.skip("DICOM SEG refers to DICOM series")
    manifest = ingest(shared / name, IngestConfig())
    masks = [
        np.asarray(one.pixels > 0, np.uint8) + np.asarray(one.pixels > 200, np.uint8)
        for one in read_slices(manifest, manifest.samples)
    ]
    files = write_masks(tmp_path, manifest, masks, kind)
    rows = ["path,label,patient_id,series_id,mask"]
    for samples, path in zip(by_series(manifest), files, strict=True):
        first = samples[0]
        paths = dict.fromkeys(str(shared / name / s.path) for s in samples)
        rows += [f'"{p}",x,{first.patient_id},{first.series_id},{path}' for p in paths]
    (tmp_path / "index.csv").write_text("\n".join(rows))
    again = ingest(tmp_path, IngestConfig())
    whole = dict(zip([(s.series_id, s.slice_index) for s in manifest.samples], masks, strict=True))
    for sample, one in zip(again.samples, read_slices(again, again.samples), strict=True):
        np.testing.assert_array_equal(one.mask, whole.pop((sample.series_id, sample.slice_index)))
    assert not any(mask.any() for mask in whole.values())
