from __future__ import annotations

import gzip
import itertools

import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.errors import IngestError
from hepar.ingest import ingest, ingest_files, nifti, read_slices
from hepar.ingest.bounds import RefusedFileError
from hepar.ingest.nifti import check_hu, load_volume

NAMED = IngestConfig(patient_pattern=r"(\w+?)[_.]")
CODES = ["".join(codes) for codes in itertools.product("RL", "AP", "SI")] + ["ASR", "PIL", "SRA"]


@pytest.fixture
def hu():
    """A volume with air, so that it passes for CT, and no symmetry to hide a flip."""
    return np.random.default_rng(2).integers(-1000, 1000, (5, 4, 3)).astype(np.int16)


@pytest.mark.parametrize("codes", CODES)
def test_every_stored_orientation_gives_the_same_slices(tmp_path, make_nifti, hu, codes):
    make_nifti(tmp_path / "a.nii.gz", hu, codes)
    manifest = ingest(tmp_path, NAMED)
    assert [s.slice_index for s in manifest.samples] == list(range(5))
    slices = read_slices(manifest, manifest.samples)
    np.testing.assert_array_equal(np.stack([one.pixels for one in slices]), hu)
    assert slices[0].pixels.dtype == np.float32
    assert manifest.samples[0].spacing_mm == (2.5, 0.75, 0.5)
    assert manifest.samples[0].sample_id == f"a.nii.gz#{manifest.samples[0].frame}"


def test_slope_and_intercept_of_the_header_count(tmp_path, make_nifti, hu):
    path = make_nifti(tmp_path / "a.nii", hu)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([2.0, 10.0], "<f4").tobytes()
    path.write_bytes(data)
    volume = load_volume(path, IngestConfig())
    np.testing.assert_array_equal(volume.hu_slice(0), hu[0] * 2 + 10)


def test_both_versions_and_byte_orders_are_read(tmp_path, make_nifti, hu):
    import nibabel

    path = make_nifti(tmp_path / "a.nii", hu)
    image = nibabel.load(path)
    two = nibabel.Nifti2Image(np.asarray(image.dataobj), image.affine)
    nibabel.save(two, tmp_path / "two.nii.gz")
    header = image.header.as_byteswapped(">")
    swapped = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, header)
    nibabel.save(swapped, tmp_path / "swapped.nii")
    for name in ("two.nii.gz", "swapped.nii"):
        volume = load_volume(tmp_path / name, IngestConfig())
        got = np.stack([volume.hu_slice(frame) for frame in volume.frames])
        np.testing.assert_array_equal(got, hu)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("p1.nii.gz", "p1_mask.nii.gz"),
        ("p1_ct.nii.gz", "p1_seg.nii.gz"),
        ("p1.nii.gz", "p1_label.nii"),
        ("volume-1.nii", "segmentation-1.nii"),
        ("imagesTr/p1_0000.nii.gz", "labelsTr/p1.nii.gz"),
        ("imagesTr/p1.nii.gz", "labelsTr/p1.nii.gz"),
    ],
)
def test_a_mask_is_found_by_name_and_labels_the_slices(tmp_path, make_nifti, hu, image, mask):
    tissue = np.zeros(hu.shape, np.uint8)
    tissue[1:4] = 1
    tissue[3, 0, 0] = 2
    make_nifti(tmp_path / image, hu, "RAS")
    make_nifti(tmp_path / mask, tissue, "LPI")
    manifest = ingest(tmp_path, IngestConfig(patients_unknown=True))
    assert [(s.slice_index, s.label) for s in manifest.samples] == [
        (1, "no_tumour"),
        (2, "no_tumour"),
        (3, "tumour"),
    ]
    (finding,) = manifest.findings
    assert (finding.code, finding.severity) == ("no-liver", "note")
    assert "2 slices" in finding.message
    for sample, one in zip(manifest.samples, read_slices(manifest, manifest.samples), strict=True):
        np.testing.assert_array_equal(one.mask, tissue[sample.slice_index])
        np.testing.assert_array_equal(one.pixels, hu[sample.slice_index])


def test_a_table_labels_the_slices_in_the_liver(tmp_path, make_nifti, hu):
    tissue = np.zeros(hu.shape, np.uint8)
    tissue[2] = 5
    make_nifti(tmp_path / "a.nii.gz", hu)
    make_nifti(tmp_path / "m.nii.gz", tissue)
    (tmp_path / "index.csv").write_text("path,label,patient_id,mask\na.nii.gz,benign,P,m.nii.gz\n")
    manifest = ingest(tmp_path, IngestConfig(mask_values="liver=5"))
    assert [(s.slice_index, s.label) for s in manifest.samples] == [(2, "benign")]
    assert manifest.mask_values == {"liver": 5}


def test_a_mask_of_another_shape_is_refused_by_name(tmp_path, make_nifti, hu):
    make_nifti(tmp_path / "a.nii.gz", hu)
    make_nifti(tmp_path / "a_mask.nii.gz", np.ones((4, 4, 3), np.uint8))
    with pytest.raises(IngestError, match=r"a\.nii\.gz: .*\(5, 4, 3\).*\(4, 4, 3\) in a_mask"):
        ingest(tmp_path, NAMED)


def test_without_a_mask_the_label_of_a_volume_is_a_warning(tmp_path, make_nifti, hu):
    make_nifti(tmp_path / "a.nii.gz", hu)
    (tmp_path / "index.csv").write_text("path,label,patient_id\na.nii.gz,benign,P\n")
    manifest = ingest(tmp_path, IngestConfig())
    assert len(manifest) == 5
    assert [f.code for f in manifest.findings] == ["whole-volume"]


def test_slices_of_an_unknown_patients_volume_stay_together(tmp_path, make_nifti, hu):
    path = make_nifti(tmp_path / "a.nii.gz", hu)
    manifest = ingest_files([path], IngestConfig())
    assert not manifest.patients_known
    assert len(manifest.patients) == 1


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.random.default_rng(0).integers(0, 900, (3, 8, 8)).astype(np.int16), "not-hu"),
        (np.random.default_rng(0).integers(0, 30, (3, 8, 8)).astype(np.uint8), "label-file"),
        (np.full((3, 8, 8), np.nan, np.float32), "not-finite"),
    ],
)
def test_what_is_no_ct_is_set_aside(tmp_path, make_nifti, values, code):
    volume = load_volume(make_nifti(tmp_path / "a.nii", values), IngestConfig())
    with pytest.raises(RefusedFileError, match="expected") as caught:
        check_hu(volume)
    assert caught.value.code == code


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_truncated_volumes_are_refused(tmp_path, make_nifti, hu, cut):
    for name in ("a.nii", "a.nii.gz"):
        path = make_nifti(tmp_path / name, hu)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * cut)])
        with pytest.raises(RefusedFileError, match="truncated"):
            load_volume(path, IngestConfig())


def test_a_volume_above_the_bound_is_refused_from_its_header(tmp_path, make_nifti, hu):
    path = make_nifti(tmp_path / "a.nii.gz", hu)
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[42:48] = np.array([8000, 8000, 8000], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(data)))
    with pytest.raises(RefusedFileError, match="at most 1024 MB, got 1024000 MB"):
        load_volume(path, IngestConfig())


def test_a_series_over_time_and_an_oblique_volume_are_refused(tmp_path, hu):
    import nibabel

    four = nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.int16), np.eye(4))
    nibabel.save(four, tmp_path / "t.nii")
    with pytest.raises(RefusedFileError, match=r"shape \(3, 3, 3, 2\)"):
        load_volume(tmp_path / "t.nii", IngestConfig())
    turn = np.radians(30)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    nibabel.save(nibabel.Nifti1Image(hu, affine), tmp_path / "o.nii")
    with pytest.raises(RefusedFileError, match="got 30 degrees"):
        load_volume(tmp_path / "o.nii", IngestConfig())


def moved(path, change):
    """Save a volume again with another affine."""
    import nibabel

    image = nibabel.load(path)
    affine = image.affine.copy()
    change(affine)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj).copy(), affine), path)


def shift(affine):
    affine[0, 3] += 30.0


def flip(affine):
    affine[:3, 0] *= -1


def stretch(affine):
    affine[2, :3] *= 2


def turn(affine):
    angle = np.radians(15)
    turned = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    affine[:3] = turned @ affine[:3]


def rounded(affine):
    affine[:] = np.round(affine, 3)


def nudge(affine):
    affine[:3, 3] += 0.01


@pytest.mark.parametrize("change", [nudge, rounded, np.copy])
def test_a_mask_whose_affine_is_rounded_fits(tmp_path, change):
    import nibabel

    hu = np.full((512, 4, 3), -1000, np.int16)
    affine = np.diag([0.70349999, 0.70349999, 2.5, 1])
    for name, data in (("p1", hu), ("p1_mask", np.ones(hu.shape, np.uint8))):
        nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / f"{name}.nii")
    moved(tmp_path / "p1_mask.nii", change)
    assert len(ingest(tmp_path, IngestConfig(patients_unknown=True))) == 3


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (shift, r"it shifted by \(\+30\.0, \+0\.0, \+0\.0\) mm to the right, front and head in"),
        (flip, r"it shifted by .* mm .*stored as LAS where the image is RAS"),
        (stretch, r"it up to 10\.0 mm away, turned or with voxels of another size"),
        (turn, r"it up to [\d.]+ mm away, turned"),
    ],
)
def test_a_mask_that_lies_elsewhere_is_refused_with_what_differs(
    tmp_path, make_nifti, hu, change, how
):
    make_nifti(tmp_path / "p1.nii.gz", hu)
    make_nifti(tmp_path / "p1_mask.nii.gz", np.ones(hu.shape, np.uint8))
    moved(tmp_path / "p1_mask.nii.gz", change)
    with pytest.raises(
        IngestError, match=rf"p1\.nii\.gz: expected the mask where the image.*{how}"
    ):
        ingest(tmp_path, IngestConfig(patients_unknown=True))


@pytest.mark.parametrize("name", ["p1", "p1_mask"])
def test_an_orientation_in_one_header_alone_is_refused(tmp_path, make_nifti, hu, name):
    make_nifti(tmp_path / "p1.nii", hu)
    make_nifti(tmp_path / "p1_mask.nii", np.ones(hu.shape, np.uint8))
    path = tmp_path / f"{name}.nii"
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(data)
    other = "mask" if name == "p1" else "image"
    with pytest.raises(IngestError, match=f"in the header of the {other} alone"):
        ingest(tmp_path, IngestConfig(patients_unknown=True))


def test_pictures_and_volumes_with_masks_of_their_own_values_go_in_one_call(
    tmp_path, make_nifti, make_png, hu
):
    make_nifti(tmp_path / "v" / "p1.nii.gz", hu)
    tissue = np.ones(hu.shape, np.uint8)
    tissue[0, 0, 0] = 2
    make_nifti(tmp_path / "v" / "p1_mask.nii.gz", tissue)
    make_png(tmp_path / "x.png", np.zeros((1, 3), np.uint8))
    make_png(tmp_path / "m.png", np.array([[0, 127, 255]], np.uint8))
    (tmp_path / "t.csv").write_text("path,patient_id,mask\nx.png,P,m.png\n")
    manifest = ingest_files([tmp_path / "v", tmp_path / "t.csv"], IngestConfig())
    for sample, one in zip(manifest.samples, read_slices(manifest, manifest.samples), strict=True):
        if sample.kind == "picture":
            assert one.mask.tolist() == [[0, 1, 2]]
        else:
            np.testing.assert_array_equal(one.mask, tissue[sample.slice_index])
    assert len(manifest) == 1 + hu.shape[0]


def test_mask_values_can_be_said_for_volumes_alone(tmp_path, make_nifti, make_png, hu):
    make_nifti(tmp_path / "v" / "p1.nii.gz", hu)
    make_nifti(tmp_path / "v" / "p1_mask.nii.gz", (np.abs(hu) % 9).astype(np.uint8))
    make_png(tmp_path / "x.png", np.zeros((1, 3), np.uint8))
    make_png(tmp_path / "m.png", np.array([[0, 127, 255]], np.uint8))
    (tmp_path / "t.csv").write_text("path,patient_id,mask\nx.png,P,m.png\n")
    paths = [tmp_path / "v", tmp_path / "t.csv"]
    with pytest.raises(IngestError, match=r"masks \(1 files, first p1_mask.nii.gz\)"):
        ingest_files(paths, IngestConfig())
    manifest = ingest_files(paths, IngestConfig(mask_values="volume:liver=5"))
    assert manifest.mask_values == {"liver": 127, "lesion": 255, "volume:liver": 5}
    for sample, one in zip(manifest.samples, read_slices(manifest, manifest.samples), strict=True):
        if sample.kind == "hu":
            liver = np.abs(hu[sample.slice_index]) % 9 == 5
            np.testing.assert_array_equal(one.mask, liver.astype(np.uint8))


def test_a_smoothed_volume_mask_is_a_finding_beside_pictures_of_other_values(
    tmp_path, make_nifti, make_png
):
    ramp = np.full((2, 40, 40), 255, np.uint8)
    ramp[:, 0] = np.arange(40) * 6
    make_nifti(tmp_path / "v" / "p1.nii.gz", 40 - 4 * ramp.astype(np.int16))
    make_nifti(tmp_path / "v" / "p1_mask.nii.gz", ramp)
    make_png(tmp_path / "x.png", np.zeros((1, 3), np.uint8))
    make_png(tmp_path / "m.png", np.array([[0, 127, 255]], np.uint8))
    (tmp_path / "t.csv").write_text("path,patient_id,mask\nx.png,P,m.png\n")
    manifest = ingest_files([tmp_path / "v", tmp_path / "t.csv"], IngestConfig())
    assert manifest.mask_values == {"liver": 127, "lesion": 255, "volume:liver_from": 128}
    assert "smoothed-masks" in {finding.code for finding in manifest.findings}


@pytest.mark.parametrize(
    ("factor", "got"),
    [
        (
            1000.0,
            "got 2500 x 750 x 500 mm, 12500 x 3000 x 1500 mm in all",
        ),  # written in micrometres
        (0.001, "got 0.0025 x 0.00075 x 0.0005 mm"),  # written in metres
    ],
)
def test_spacing_that_is_not_in_mm_is_refused_and_the_other_volume_kept(
    tmp_path, make_nifti, hu, factor, got
):
    import nibabel

    image = nibabel.load(make_nifti(tmp_path / "a.nii.gz", hu))
    affine = image.affine @ np.diag([factor, factor, factor, 1])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "b.nii.gz")
    manifest = ingest(tmp_path, NAMED)
    assert {s.patient_id for s in manifest.samples} == {"a"}
    (finding,) = (f for f in manifest.findings if f.code == "spacing")
    assert finding.where == "b.nii.gz"
    assert got in finding.message
    assert "Write the spacing in mm into the header" in finding.message


def test_slices_ten_times_as_far_apart_as_pixels_are_kept_with_their_spacing(
    tmp_path, make_nifti, hu
):
    import nibabel

    image = nibabel.load(make_nifti(tmp_path / "a.nii.gz", hu))
    affine = np.diag([0.75, 0.75, 7.5, 1])
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "a.nii.gz")
    assert ingest(tmp_path, NAMED).samples[0].spacing_mm == (7.5, 0.75, 0.75)


def test_a_volume_larger_than_memory_is_refused_and_the_other_kept(
    tmp_path, make_nifti, hu, monkeypatch
):
    make_nifti(tmp_path / "a.nii", hu)
    make_nifti(tmp_path / "large.nii", np.concatenate([hu, hu]))
    read = nifti.read_exactly

    def small(stream, n_bytes):
        if n_bytes == 2 * hu.nbytes:
            raise MemoryError
        return read(stream, n_bytes)

    monkeypatch.setattr(nifti, "read_exactly", small)
    manifest = ingest(tmp_path, NAMED)
    assert {s.patient_id for s in manifest.samples} == {"a"}
    (finding,) = (f for f in manifest.findings if f.code == "too-large")
    assert "expected a file that fits into memory" in finding.message
