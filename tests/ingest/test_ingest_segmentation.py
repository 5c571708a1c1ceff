from __future__ import annotations

import gzip
from collections import Counter

import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.errors import IngestError
from hepar.ingest import ingest, ingest_files, read_slices

highdicom = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")
CODES = {
    "Liver": ("10200004", "Liver", "123037004", "Anatomical Structure"),
    "Kidney": ("64033007", "Kidney", "123037004", "Anatomical Structure"),
    "Portal vein": ("32764006", "Portal vein", "123037004", "Anatomical Structure"),
    "Mass": ("4147007", "Mass", "49755003", "Morphologically Altered Structure"),
}


def segment(number, label, code, *, in_liver=False):
    from pydicom.sr.coding import Code

    value, meaning, category, category_meaning = CODES[code]
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=Code(category, "SCT", category_meaning),
        segmented_property_type=Code(value, "SCT", meaning),
        algorithm_type="MANUAL",
        anatomic_regions=[Code("10200004", "SCT", "Liver")] if in_liver else None,
    )


@pytest.fixture
def series(tmp_path, make_dicom):
    """Three slices and a function that draws a segmentation of them."""
    extra = {
        "PatientName": "A^B", "PatientBirthDate": "", "PatientSex": "", "AccessionNumber": "",
        "StudyDate": "20200101", "StudyTime": "120000", "StudyID": "1",
        "ReferringPhysicianName": "", "FrameOfReferenceUID": "1.2.3.4",
    }  # fmt: skip
    paths = [make_dicom(tmp_path / f"{z}.dcm", z=float(z), **extra) for z in (0, 5, 10)]

    def draw(segments, masks, name="seg.dcm", kind="BINARY", **changes):
        dataset = highdicom.seg.Segmentation(
            source_images=[pydicom.dcmread(path) for path in paths],
            pixel_array=np.stack(masks, axis=-1).astype(np.uint8)
            if kind != "LABELMAP"
            else sum(m * (i + 1) for i, m in enumerate(masks)).astype(np.uint8),
            segmentation_type=kind,
            segment_descriptions=segments,
            series_instance_uid=highdicom.UID(),
            series_number=2,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="test",
            manufacturer_model_name="test",
            software_versions="1",
            device_serial_number="1",
        )
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / name)
        return tmp_path / name

    draw.folder = tmp_path
    return draw


@pytest.fixture
def masks():
    """Liver and lesion of three slices of 8 x 8: the last shows neither."""
    liver = np.zeros((3, 8, 8), np.uint8)
    liver[0, 2:7, 1:5] = liver[1, 3:6, 1:4] = 1
    lesion = np.zeros_like(liver)
    lesion[0, 3:5, 2:4] = 1
    return liver, lesion


def read(folder, **settings):
    manifest = ingest_files([folder], IngestConfig(**settings))
    return manifest, [one.mask for one in read_slices(manifest, manifest.samples)]


def found(manifest):
    return {f.where: (f.code, f.severity) for f in manifest.findings}


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_segmentation_beside_its_series_masks_it(series, masks, kind):
    liver, lesion = masks
    other = np.zeros_like(liver)
    other[0, 0] = 1
    if kind == "LABELMAP":
        liver = liver * (1 - lesion)
    series(
        [
            segment(1, "Portal vein", "Portal vein"),
            segment(2, "Liver", "Liver"),
            segment(3, "Liver lesion", "Mass", in_liver=True),
        ],
        [other, liver, lesion],
        kind=kind,
    )
    manifest, read_masks = read(series.folder)
    assert manifest.mask_values == {"liver": 1, "lesion": 2}
    expected = np.where(lesion, 2, liver)
    for sample, mask in zip(manifest.samples, read_masks, strict=True):
        np.testing.assert_array_equal(mask, expected[sample.slice_index])
    assert [s.slice_index for s in manifest.samples] == [0, 1]
    assert [s.label for s in manifest.samples] == ["tumour", "no_tumour"]
    assert found(manifest) == {"seg.dcm": ("no-liver", "note")}


def test_lesions_that_nothing_places_in_the_liver_do_not_count(series, masks):
    liver, lesion = masks
    series([segment(1, "Liver", "Liver"), segment(2, "Mass", "Mass")], [liver, lesion])
    manifest, read_masks = read(series.folder)
    assert manifest.mask_values == {"liver": 1}
    np.testing.assert_array_equal(read_masks[0], liver[0])


def test_a_segmentation_of_something_else_is_set_aside(series, masks):
    series([segment(1, "Kidney", "Kidney")], [masks[0]])
    manifest, read_masks = read(series.folder)
    assert found(manifest) == {"seg.dcm": ("no-liver", "set-aside")}
    assert read_masks == [None, None, None]


def test_a_segmentation_of_another_series_is_set_aside(series, masks):
    path = series([segment(1, "Liver", "Liver")], [masks[0]])
    data = pydicom.dcmread(path)
    data.ReferencedSeriesSequence[0].SeriesInstanceUID = "9.9"
    for number, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        source.ReferencedSOPInstanceUID = f"9.9.{number}"
    data.save_as(path)
    manifest, read_masks = read(series.folder)
    assert found(manifest) == {"seg.dcm": ("segmentation", "set-aside")}
    assert read_masks == [None, None, None]


def test_frames_without_source_images_are_matched_by_place(series, masks):
    path = series([segment(1, "Liver", "Liver")], [masks[0]])
    data = pydicom.dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    data.save_as(path)
    _, read_masks = read(series.folder)
    np.testing.assert_array_equal(read_masks, masks[0][:2])


def test_frames_that_lie_elsewhere_than_the_slice_they_name_are_refused(series, masks):
    path = series([segment(1, "Liver", "Liver")], [masks[0]])
    data = pydicom.dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[0] += 3
    data.save_as(path)
    with pytest.raises(IngestError, match="on the pixels of their slices, got others"):
        read(series.folder)


def test_a_segmentation_of_another_size_is_refused(series, masks):
    path = series([segment(1, "Liver", "Liver")], [masks[0]])
    data = pydicom.dcmread(path)
    data.Rows, data.Columns = 4, 16
    data.save_as(path)
    with pytest.raises(IngestError, match=r"mask of \(8, 8\) pixels, got \(4, 16\)"):
        read(series.folder)


def test_the_second_segmentation_of_a_series_is_set_aside(series, masks):
    for name in ("a.dcm", "b.dcm"):
        series([segment(1, "Liver", "Liver")], [masks[0]], name=name)
    manifest, _ = read(series.folder)
    assert {s.mask for s in manifest.samples} == {"a.dcm"}
    assert found(manifest)["b.dcm"] == ("segmentation", "set-aside")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"SegmentationType": "FRACTIONAL"}, "fractional"),
        ({"NumberOfFrames": 4_000_000_000}, "too-large"),
        ({"PixelData": b"\0"}, "corrupt"),
        ({"PerFrameFunctionalGroupsSequence": []}, "corrupt"),
        ({"SegmentSequence": None}, "corrupt"),
    ],
)
def test_a_damaged_segmentation_is_a_finding_and_its_series_is_read(series, masks, change, code):
    path = series([segment(1, "Liver", "Liver")], [masks[0]])
    data = pydicom.dcmread(path)
    for name, value in change.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path)
    manifest, read_masks = read(series.folder)
    assert found(manifest)["seg.dcm"] == (code, "refused")
    assert read_masks == [None, None, None]


def test_a_labels_table_can_name_a_segmentation(series, masks, tmp_path):
    (tmp_path / "other").mkdir()
    path = series([segment(1, "Liver", "Liver")], [masks[0]])
    path = path.rename(tmp_path / "other" / "liver.dcm")
    for name in ("0.dcm", "5.dcm", "10.dcm"):
        (tmp_path / "scan").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "scan" / name)
    (tmp_path / "labels.csv").write_text(f"patient_id,label,mask\nP1,x,{path}\n")
    manifest = ingest(tmp_path / "scan", IngestConfig(labels_csv=str(tmp_path / "labels.csv")))
    read_masks = [one.mask for one in read_slices(manifest, manifest.samples)]
    np.testing.assert_array_equal(read_masks, masks[0][:2])


@pytest.mark.real_ct
def test_a_real_segmentation_has_the_voxels_of_its_nrrd(shared):
    manifest = ingest(shared / "dcmqi_ct3slice", IngestConfig())
    assert Counter(f.code for f in manifest.findings) == {"not-an-image": 1}
    packed = (shared / "dcmqi_ct3slice" / "liver_seg.nrrd").read_bytes()
    voxels = np.frombuffer(gzip.decompress(packed[packed.index(b"\n\n") + 2 :]), "<i2")
    read_masks = [one.mask for one in read_slices(manifest, manifest.samples)]
    np.testing.assert_array_equal(read_masks, voxels.reshape(3, 512, 512))
