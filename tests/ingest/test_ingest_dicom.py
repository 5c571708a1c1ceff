from __future__ import annotations

import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepar.config import IngestConfig
from hepar.data import write_manifest
from hepar.errors import IngestError
from hepar.ingest import ingest, ingest_files, read_slices
from hepar.ingest.dicom_pixels import read_dicom_slice
from hepar.provenance import stamp

PLAIN = IngestConfig()
RLE, J2K = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.90"


def volume(source, config=PLAIN):
    manifest = ingest(source, config)
    return manifest, np.stack([one.pixels for one in read_slices(manifest, manifest.samples)])


def codes(manifest):
    return sorted(finding.code for finding in manifest.findings if finding.code != "unlabelled")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)))
def test_shuffled_file_names_give_the_same_volume(tmp_path_factory, make_dicom, order):
    folder = tmp_path_factory.mktemp("series")
    for name, z in enumerate(order):
        make_dicom(folder / f"{name}.bin", z=float(z))
    manifest, voxels = volume(folder)
    assert [s.slice_index for s in manifest.samples] == [0, 1, 2, 3]
    assert voxels[:, 0, 0].tolist() == [-1024, -1023, -1022, -1021]


def test_ten_more_rescale_intercept_gives_ten_more_hu(tmp_path, make_dicom):
    make_dicom(tmp_path / "a" / "1", RescaleIntercept=-1024)
    make_dicom(tmp_path / "b" / "1", RescaleIntercept=-1014)
    _, one = volume(tmp_path / "a")
    _, other = volume(tmp_path / "b")
    assert one.dtype == np.float32
    np.testing.assert_array_equal(other, one + 10)


def test_slope_and_padding_count(tmp_path, make_dicom):
    stored = np.array([[0, 100], [-2000, 50]], np.int16)
    make_dicom(tmp_path / "1", stored, RescaleSlope=2, RescaleIntercept=-7, PixelPaddingValue=-2000)
    _, voxels = volume(tmp_path)
    assert voxels.tolist() == [[[-7, 193], [-1024, 93]]]


def test_spacing_and_identifiers_come_from_the_header(tmp_path, make_dicom):
    for z in (0.0, 2.5, 5.0):
        make_dicom(tmp_path / str(z), z=z)
    manifest, _ = volume(tmp_path)
    sample = manifest.samples[0]
    assert sample.spacing_mm == (2.5, 0.5, 0.75)
    assert (sample.patient_id, sample.study_id, sample.series_id) == ("P1", "1.2", "1.2.3")
    assert sample.kind == "hu"
    assert manifest.patients_known


@pytest.mark.parametrize(
    ("orientation", "store"),
    [
        ([1, 0, 0, 0, 1, 0], lambda a: a),
        ([-1, 0, 0, 0, 1, 0], lambda a: a[:, ::-1]),
        ([1, 0, 0, 0, -1, 0], lambda a: a[::-1]),
        ([-1, 0, 0, 0, -1, 0], lambda a: a[::-1, ::-1]),
        ([0, 1, 0, 1, 0, 0], lambda a: a.T),
        ([0, -1, 0, 1, 0, 0], lambda a: a[::-1].T),
    ],
)
def test_row_0_is_anterior_and_column_0_the_patients_right(
    tmp_path, make_dicom, make_png, orientation, store
):
    upright = np.arange(12, dtype=np.int16).reshape(3, 4)
    stored = store(upright)
    make_dicom(tmp_path / "1", np.ascontiguousarray(stored), ImageOrientationPatient=orientation)
    make_png(tmp_path / "m.png", np.ascontiguousarray(stored > 5).astype(np.uint8))
    (tmp_path / "t.csv").write_text("path,label,mask\n1,a,m.png\n")
    manifest = ingest(tmp_path / "t.csv", PLAIN)
    (one,) = read_slices(manifest, manifest.samples)
    np.testing.assert_array_equal(one.pixels, upright - 1024.0)
    np.testing.assert_array_equal(one.mask, upright > 5)


def test_many_series_of_one_folder_are_kept_apart(tmp_path, make_dicom):
    for series in ("1.1", "1.2"):
        for z in range(3):
            make_dicom(tmp_path / f"{series}-{z}", z=float(z), series=series)
    manifest, _ = volume(tmp_path)
    assert [(s.series_id, s.slice_index) for s in manifest.samples] == [
        (series, z) for series in ("1.1", "1.2") for z in range(3)
    ]


@pytest.mark.parametrize(
    ("code", "elements"),
    [
        ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("derived", {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}),
        ("derived", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}),
        ("derived", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}),
        ("modality", {"Modality": "MR"}),
        ("not-axial", {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}),
        ("no-position", {"ImagePositionPatient": None}),
        ("multi-frame", {"NumberOfFrames": 4}),
        ("colour", {"SamplesPerPixel": 3}),
        ("corrupt", {"RescaleSlope": 0}),
    ],
)
def test_what_is_no_original_axial_slice_is_set_aside(tmp_path, make_dicom, code, elements):
    make_dicom(tmp_path / "good")
    make_dicom(tmp_path / "other", z=1.0, series="9.9", **elements)
    manifest, voxels = volume(tmp_path)
    assert len(voxels) == 1
    (finding,) = (f for f in manifest.findings if f.code != "unlabelled")
    assert (finding.where, finding.code) == ("other", code)


def test_lossy_compression_alone_is_no_derivation(tmp_path, make_dicom):
    image_type = ["DERIVED", "PRIMARY", "AXIAL"]
    make_dicom(tmp_path / "1", ImageType=image_type, LossyImageCompression="01")
    assert len(ingest(tmp_path, PLAIN)) == 1


def test_a_missing_slice_refuses_the_series_by_name_unless_gaps_are_allowed(tmp_path, make_dicom):
    for z in (0.0, 2.5, 5.0, 10.0, 12.5):
        make_dicom(tmp_path / str(z), z=z)
    with pytest.raises(IngestError, match=r"1 missing-slices.*1\.2\.3.*5 and 10 mm.*--allow-gaps"):
        ingest(tmp_path, PLAIN)
    manifest, voxels = volume(tmp_path, IngestConfig(allow_gaps=True))
    assert len(voxels) == 5
    assert codes(manifest) == ["missing-slices"]
    assert len(ingest_files([tmp_path], PLAIN)) == 5


def test_uneven_spacing_without_a_missing_slice_is_a_warning(tmp_path, make_dicom):
    for z in (0.0, 2.5, 5.0, 8.0):
        make_dicom(tmp_path / str(z), z=z)
    manifest, voxels = volume(tmp_path)
    assert len(voxels) == 4
    assert codes(manifest) == ["uneven-spacing"]


def test_copies_and_repeated_positions_count_once(tmp_path, make_dicom):
    first = make_dicom(tmp_path / "1")
    (tmp_path / "copy").write_bytes(first.read_bytes())
    make_dicom(tmp_path / "2", InstanceNumber=2)
    manifest, voxels = volume(tmp_path)
    assert len(voxels) == 1
    assert codes(manifest) == ["copy", "repeated-position"]


def test_slices_of_another_size_in_a_series_are_left_out(tmp_path, make_dicom):
    for z in range(3):
        make_dicom(tmp_path / str(z), z=float(z))
    make_dicom(tmp_path / "odd", np.zeros((4, 4), np.int16), z=3.0)
    manifest, voxels = volume(tmp_path)
    assert len(voxels) == 3
    assert codes(manifest) == ["mixed-series"]


def test_without_rescale_values_are_a_picture_and_monochrome1_is_inverted(tmp_path, make_dicom):
    stored = np.array([[0, 10], [4095, 100]], np.uint16)
    no_hu = {"RescaleSlope": None, "RescaleIntercept": None, "BitsStored": 12, "HighBit": 11}
    make_dicom(tmp_path / "2" / "x", stored, **no_hu)
    make_dicom(tmp_path / "1" / "x", stored, PhotometricInterpretation="MONOCHROME1", **no_hu)
    manifest, two = volume(tmp_path / "2")
    assert manifest.samples[0].kind == "picture"
    np.testing.assert_array_equal(two[0], stored)
    _, one = volume(tmp_path / "1")
    np.testing.assert_array_equal(one[0], 4095 - stored)


def test_monochrome1_does_not_change_hu(tmp_path, make_dicom):
    make_dicom(tmp_path / "1", PhotometricInterpretation="MONOCHROME1")
    _, voxels = volume(tmp_path)
    assert voxels[0, 0, :3].tolist() == [-1024, -1023, -1022]


def transcode(path, name):
    """Compress a file in place by GDCM, which writes what this package's encoders cannot."""
    import gdcm
    import pydicom

    data = pydicom.dcmread(path)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    compressed = pydicom.dcmread(path)  # GDCM drops the rescale, so only its pixels are kept
    data.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
    data.PixelData = compressed.PixelData
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize(
    "name",
    ["RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"],
)
def test_compressed_pixels_are_exact(tmp_path, make_dicom, name, dtype):
    stored = np.random.default_rng(1).integers(0, 4000, (16, 12)).astype(dtype)
    if dtype == np.int16:
        stored -= 2000
    stored[:3] = 0
    path = make_dicom(tmp_path / "1", stored)
    transcode(path, name)
    assert b"1.2.840.10008.1.2.1\0" not in path.read_bytes()[:1000]
    _, voxels = volume(tmp_path)
    np.testing.assert_array_equal(voxels[0], stored.astype(np.float32) - 1024)


@pytest.mark.parametrize("name", ["JPEGLSLossless", "JPEG2000Lossless", "JPEGLosslessProcess14_1"])
def test_a_codestream_of_another_size_than_the_header_is_refused(tmp_path, make_dicom, name):
    path = make_dicom(tmp_path / "1", np.zeros((16, 12), np.int16))
    transcode(path, name)
    rows = b"\x28\0\x10\0US\2\0"
    assert rows + b"\x10\0" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(rows + b"\x10\0", rows + b"\x20\0"))
    with pytest.raises(IngestError, match="pixels of 32 x 12 x 1, got 16 x 12 x 1"):
        ingest(tmp_path, PLAIN)


@pytest.mark.parametrize("syntax", [f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99")])
def test_every_plain_encoding_and_the_deflated_one_give_the_same_pixels(
    tmp_path, make_dicom, syntax
):
    make_dicom(tmp_path / "1", syntax=syntax)
    _, voxels = volume(tmp_path)
    np.testing.assert_array_equal(voxels[0].ravel(), np.arange(64) - 1024)


def test_a_file_without_preamble_and_with_nested_sequences_is_read(tmp_path, make_dicom):
    import pydicom

    inner = pydicom.Dataset()
    inner.Modality = "MR"
    outer = pydicom.Dataset()
    outer.ReferencedSeriesSequence = [inner]
    path = make_dicom(tmp_path / "1", ReferencedStudySequence=[outer])
    data = pydicom.dcmread(path)
    data["ReferencedStudySequence"].is_undefined_length = True
    data["ReferencedStudySequence"][0].is_undefined_length_sequence_item = True
    data.save_as(path, enforce_file_format=True)
    meta = 132 + 12 + data.file_meta.FileMetaInformationGroupLength
    path.write_bytes(path.read_bytes()[meta:])
    _, voxels = volume(tmp_path)
    np.testing.assert_array_equal(voxels[0].ravel(), np.arange(64) - 1024)


def test_an_unknown_transfer_syntax_is_refused_by_name(tmp_path, make_dicom):
    make_dicom(tmp_path / "1", compress=RLE)
    data = (tmp_path / "1").read_bytes()
    other = b"1.2.840.10008.1.2.9"
    (tmp_path / "1").write_bytes(data.replace(RLE.encode(), other))
    with pytest.raises(IngestError, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.9"):
        ingest(tmp_path, PLAIN)


def test_every_truncation_is_a_finding_and_never_an_exception(tmp_path, make_dicom):
    whole = make_dicom(tmp_path / "whole", compress=RLE).read_bytes()
    make_dicom(tmp_path / "set" / "good")
    for cut in range(133, len(whole), 37):
        (tmp_path / "set" / f"{cut}").write_bytes(whole[:cut])
    manifest = ingest(tmp_path / "set", PLAIN)
    assert [s.path for s in manifest.samples] == ["good"]
    assert set(codes(manifest)) <= {"corrupt", "modality", "no-position", "derived"}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2000), value=st.integers(0, 255))
def test_a_damaged_byte_never_raises_anything_else(tmp_path_factory, make_dicom, at, value):
    path = make_dicom(tmp_path_factory.mktemp("fuzz") / "1", compress=RLE)
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data)
    try:
        pixels, _, _ = read_dicom_slice(path, PLAIN)
    except IngestError:
        return
    assert pixels.size > 0


def test_no_name_birth_date_or_accession_number_is_written(tmp_path, make_dicom):
    secrets = {"PatientName": "DOE^JANE", "PatientBirthDate": "19500101"}
    secrets |= {"AccessionNumber": "ACC77", "ReferringPhysicianName": "ROE^RICHARD"}
    for z in range(3):
        make_dicom(tmp_path / "in" / f"{z}", z=float(z), **secrets)
    make_dicom(tmp_path / "in" / "l", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **secrets)
    cut = make_dicom(tmp_path / "in" / "c", **secrets)
    cut.write_bytes(cut.read_bytes()[:-20])
    manifest = ingest(tmp_path / "in", PLAIN)
    write_manifest(tmp_path / "out" / "manifest.csv", manifest, stamp("test"))
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert len(manifest.findings) == 3
    for secret in ("DOE", "JANE", "19500101", "ACC77", "ROE"):
        assert secret not in written


def test_labels_come_by_patient_and_what_does_not_match_is_a_finding(tmp_path, make_dicom):
    make_dicom(tmp_path / "in" / "a", PatientID="A", series="1.1")
    make_dicom(tmp_path / "in" / "b", PatientID="B", series="1.2")
    table = tmp_path / "labels.csv"
    table.write_text("patient_id,label\nA,malignant\nC,normal\n")
    manifest = ingest(tmp_path / "in", IngestConfig(labels_csv=str(table)))
    assert {s.patient_id: s.label for s in manifest.samples} == {"A": "malignant", "B": ""}
    assert {(f.where, f.code) for f in manifest.findings} == {
        ("C", "no-images"),
        ("label normal", "label-lost"),
        ("B", "unlabelled"),
    }


def test_labels_of_one_key_that_differ_are_refused(tmp_path, make_dicom):
    make_dicom(tmp_path / "a")
    (tmp_path / "labels.csv").write_text("patient_id,label\nP1,a\nP1,b\n")
    with pytest.raises(IngestError, match="one row for patient_id P1, got two"):
        ingest(tmp_path, PLAIN)
    (tmp_path / "labels.csv").write_text("patientid,label\nP1,a\n")
    with pytest.raises(IngestError, match="Rename 'patientid' to patient_id"):
        ingest(tmp_path, PLAIN)


def test_a_nifti_mask_of_a_series_labels_its_slices(tmp_path, make_dicom, make_nifti):
    for z in range(4):
        make_dicom(tmp_path / f"{9 - z}", z=float(z))
    mask = np.zeros((4, 8, 8), np.uint8)
    mask[1:3, 1, 2] = 1
    mask[2, 0, 0] = 2
    make_nifti(tmp_path / "mask.nii.gz", mask, codes="LPI")
    (tmp_path / "labels.csv").write_text("series_id,mask\n1.2.3,mask.nii.gz\n")
    manifest = ingest(tmp_path, PLAIN)
    assert [(s.slice_index, s.label) for s in manifest.samples] == [(1, "no_tumour"), (2, "tumour")]
    for sample, one in zip(manifest.samples, read_slices(manifest, manifest.samples), strict=True):
        np.testing.assert_array_equal(one.mask, mask[sample.slice_index])
        assert one.pixels[0, 0] == sample.slice_index - 1024
    make_nifti(tmp_path / "mask.nii.gz", mask[:3])
    with pytest.raises(IngestError, match=r"\(4, 8, 8\) pixels, got \(3, 8, 8\)"):
        ingest(tmp_path, PLAIN)


def test_a_table_row_may_be_a_folder_of_dicom(tmp_path, make_dicom):
    for z in range(3):
        make_dicom(tmp_path / "scan" / f"{z}", z=float(z))
    (tmp_path / "index.csv").write_text("path,label,patient_id\nscan,malignant,Q\n")
    manifest = ingest(tmp_path, PLAIN)
    assert {(s.patient_id, s.label) for s in manifest.samples} == {("Q", "malignant")}
    assert len(manifest) == 3


def bombs(tmp_path, make_dicom, make_nifti, bomb_png):
    """Files that ask for gigabytes, in a few kilobytes."""
    (tmp_path / "wide.png").write_bytes(bomb_png(60_000, 60_000))
    (tmp_path / "text.png").write_bytes(bomb_png(4, 4, text=500_000_000))
    zeros = np.zeros((8, 8), np.int16)
    deflated = make_dicom(tmp_path / "deflated.dcm", zeros, syntax="1.2.840.10008.1.2.1.99")
    head = deflated.read_bytes()
    start = 132 + 12 + int.from_bytes(head[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(packer.compress(bytes(10**7)) for _ in range(100)) + packer.flush()
    deflated.write_bytes(head[:start] + body)
    make_dicom(tmp_path / "declared.dcm", zeros, Rows=60_000, Columns=60_000)
    make_dicom(tmp_path / "rle.dcm", zeros, compress=RLE)
    data = (tmp_path / "rle.dcm").read_bytes()
    rows = b"\x28\0\x10\0US\2\0"
    (tmp_path / "rle.dcm").write_bytes(data.replace(rows + b"\x08\0", rows + b"\xff\xff"))
    make_nifti(tmp_path / "big.nii.gz", np.zeros((2, 4, 4), np.int16))
    import gzip

    nifti = bytearray(gzip.decompress((tmp_path / "big.nii.gz").read_bytes()))
    nifti[42:48] = np.array([8192, 8192, 512], "<i2").tobytes()
    (tmp_path / "big.nii.gz").write_bytes(gzip.compress(bytes(nifti)))
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's memory peak")
def test_bombs_are_refused_before_memory_is_spent(tmp_path, make_dicom, make_nifti, bomb_png):
    names = bombs(tmp_path / "in", *_with_folder(tmp_path / "in", make_dicom, make_nifti, bomb_png))
    program = f"""
    from pathlib import Path
    from hepar.config import IngestConfig
    from hepar.ingest import ingest_files
    config = IngestConfig()
    folder = Path({str(tmp_path / "in")!r})
    manifest = ingest_files([folder / name for name in {names!r}], config)
    print(sorted((f.where, f.code) for f in manifest.findings))
    print([s.path for s in manifest.samples])
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the parent's size
    print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    findings, samples, megabytes = done.stdout.splitlines()
    refused = ["big.nii.gz", "declared.dcm", "deflated.dcm", "rle.dcm", "wide.png"]
    for name in refused:
        assert f"('{name}', '" in findings
    assert samples == "['text.png']"
    assert int(megabytes) < 300


def _with_folder(folder, *fixtures):
    folder.mkdir()
    return fixtures


def test_two_patients_under_one_series_uid_are_both_kept(tmp_path, make_dicom):
    for patient in ("A", "B"):
        for z in (0.0, 2.5):
            make_dicom(tmp_path / f"{patient}{z}", z=z, PatientID=patient)
    manifest = ingest(tmp_path, PLAIN)
    assert {p: len(rows) for p, rows in manifest.patients.items()} == {"A": 2, "B": 2}
    assert not [f for f in manifest.findings if f.code == "repeated-position"]


def test_a_series_without_rescale_is_a_picture_and_said_to_be_one(tmp_path, make_dicom):
    for z in (0.0, 2.5):
        make_dicom(tmp_path / f"{z}", z=z, RescaleSlope=None, RescaleIntercept=None)
    manifest = ingest(tmp_path, PLAIN)
    assert {sample.kind for sample in manifest.samples} == {"picture"}
    assert [f.code for f in manifest.findings if f.code == "not-hu"] == ["not-hu"]


@pytest.mark.parametrize("spacing", [None, [0.0, 0.0], [0.75, float("nan")]])
def test_a_series_without_spacing_is_kept_and_told(tmp_path, make_dicom, spacing):
    for z in range(3):
        make_dicom(tmp_path / f"{z}.dcm", z=2.5 * z, PixelSpacing=spacing)
    manifest = ingest_files([tmp_path], IngestConfig())
    assert [s.spacing_mm for s in manifest.samples] == [None] * 3
    (finding,) = (f for f in manifest.findings if f.code == "no-spacing")
    assert "got none in 3 of 3 slices; sizes in mm are guessed" in finding.message


def test_a_series_of_no_patients_size_is_refused_and_another_kept(tmp_path, make_dicom):
    for z in range(3):
        make_dicom(tmp_path / f"{z}.dcm", z=2.5 * z)
        make_dicom(tmp_path / f"far{z}.dcm", z=2000.0 * z, series="1.2.4", SliceThickness=2000)
        make_dicom(tmp_path / f"wide{z}.dcm", z=2.5 * z, series="1.2.5", PixelSpacing=[500, 500])
    manifest = ingest_files([tmp_path], IngestConfig())
    assert {s.series_id for s in manifest.samples} == {"1.2.3"}
    told = [f for f in manifest.findings if f.code == "spacing"]
    assert [f.where for f in told if f.where == "1.2.4"]
    assert sum(f.where.startswith("wide") for f in told) == 3
