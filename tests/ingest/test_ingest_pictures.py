from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from hepar.config import IngestConfig
from hepar.data import Manifest
from hepar.errors import IngestError
from hepar.ingest import READERS, ingest, ingest_files, read_slices
from hepar.ingest.pictures import has_colour, read_picture, to_grey

UNKNOWN = IngestConfig(patients_unknown=True)


def codes(manifest: Manifest) -> dict[str, str]:
    return {finding.where: finding.code for finding in manifest.findings}


def test_the_first_folder_is_the_label_and_the_pattern_finds_the_patient(tmp_path, make_png):
    for label in ("benign", "malignant"):
        for patient in ("P1", "P2"):
            make_png(tmp_path / label / f"{patient}_{label}.png")
    manifest = ingest(tmp_path, IngestConfig(patient_pattern=r"(P\d)_"))
    assert manifest.labels.names == ("benign", "malignant")
    assert set(manifest.patients) == {"P1", "P2"}
    assert manifest.patients_known
    assert {s.label for s in manifest.samples if s.path.startswith("benign")} == {"benign"}


def test_unknown_patients_are_refused_with_the_reason_and_the_ways_out(tmp_path, make_png):
    make_png(tmp_path / "benign" / "a.png")
    with pytest.raises(IngestError, match=r"both sides of a split.*patient_id.*--patients-unknown"):
        ingest(tmp_path, IngestConfig())


def test_with_unknown_patients_every_picture_is_its_own(tmp_path, make_png):
    for name in "ab":
        make_png(tmp_path / "benign" / f"{name}.png")
    manifest = ingest(tmp_path, UNKNOWN)
    assert not manifest.patients_known
    assert [s.patient_id for s in manifest.samples] == [s.sample_id for s in manifest.samples]


def test_a_pattern_without_a_group_is_refused(tmp_path, make_png):
    make_png(tmp_path / "benign" / "a.png")
    with pytest.raises(IngestError, match="expected a group"):
        ingest(tmp_path, IngestConfig(patient_pattern="P[0-9]"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_grey_values_of_lossless_pictures_are_exact(tmp_path, make_png, dtype, suffix):
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (9, 7), endpoint=True).astype(dtype)
    path = make_png(tmp_path / "a" / f"x{suffix}", pixels)
    (one,) = read_slices(m := ingest(path.parents[1], UNKNOWN), m.samples)
    assert one.kind == "picture"
    assert one.pixels.dtype == dtype
    np.testing.assert_array_equal(one.pixels, pixels)


def test_grey_saved_as_rgb_is_grey_without_a_finding_and_a_colour_is_found(tmp_path, make_png):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    make_png(tmp_path / "a" / "grey.png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 2] = 200
    make_png(tmp_path / "a" / "red.png", colour)
    manifest = ingest(tmp_path, UNKNOWN)
    assert codes(manifest) == {"a/red.png": "colour"}
    one, red = read_slices(manifest, manifest.samples)
    np.testing.assert_array_equal(one.pixels, grey)
    assert (red.pixels == 60).all()  # 0.299 * 200, ITU-R BT.601


def test_jpeg_noise_between_channels_is_no_colour():
    noisy = np.full((4, 4, 3), 100, np.uint8)
    noisy[0, 0] = (103, 100, 98)
    assert not has_colour(noisy)
    assert to_grey(noisy).shape == (4, 4)


def test_palette_and_bilevel_pictures_are_read(tmp_path):
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    for mode in ("1", "P", "LA"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(pixels).convert(mode).save(path)
        np.testing.assert_array_equal(to_grey(read_picture(path, IngestConfig())), pixels)


def test_bad_files_are_findings_and_the_run_goes_on(tmp_path, make_png, bomb_png):
    good = make_png(tmp_path / "a" / "good.png")
    whole = good.read_bytes()
    (tmp_path / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "a" / "flipped.png").write_bytes(flipped)
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "text.png").write_text("not a picture")
    (tmp_path / "a" / "huge.png").write_bytes(bomb_png(50_000, 50_000))
    jpeg = make_png(tmp_path / "a" / "cut.jpg", np.eye(64, dtype=np.uint8) * 255)
    jpeg.write_bytes(jpeg.read_bytes()[:-40])
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a" / "float.tiff")
    pages = [Image.new("L", (4, 4)), Image.new("L", (4, 4))]
    pages[0].save(tmp_path / "a" / "pages.tiff", save_all=True, append_images=pages[1:])
    manifest = ingest(tmp_path, UNKNOWN)
    assert [s.sample_id for s in manifest.samples] == ["a/good.png"]
    assert codes(manifest) == {
        "a/cut.png": "corrupt",
        "a/flipped.png": "corrupt",
        "a/cut.jpg": "corrupt",
        "a/empty.png": "empty",
        "a/text.png": "not-an-image",
        "a/huge.png": "too-large",
        "a/float.tiff": "depth",
        "a/pages.tiff": "many-pages",
    }


def test_nothing_usable_says_how_many_of_what_were_refused(tmp_path, bomb_png):
    (tmp_path / "a").mkdir()
    for name in "xy":
        (tmp_path / "a" / f"{name}.png").write_bytes(bomb_png(50_000, 50_000))
    with pytest.raises(IngestError, match="2 too-large"):
        ingest(tmp_path, UNKNOWN)


def test_the_order_of_files_on_disk_changes_nothing(tmp_path, make_png):
    for folder, names in (("one", "abc"), ("two", "cab")):
        for name in names:
            make_png(tmp_path / folder / "x" / f"{name}.png", np.full((4, 4), ord(name), np.uint8))
    one, two = (ingest(tmp_path / folder, UNKNOWN) for folder in ("one", "two"))
    assert one.samples == two.samples


def test_a_picture_stored_upside_down_is_flipped_with_its_mask(tmp_path, make_png):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    mask = (pixels < 8).astype(np.uint8)
    make_png(tmp_path / "x.png", pixels)
    make_png(tmp_path / "m.png", mask)
    (tmp_path / "index.csv").write_text("path,label,patient_id,mask\nx.png,a,P,m.png\n")
    manifest = ingest(tmp_path, IngestConfig(flip_vertical=True))
    (one,) = read_slices(manifest, manifest.samples)
    np.testing.assert_array_equal(one.pixels, pixels[::-1])
    np.testing.assert_array_equal(one.mask, mask[::-1])


def test_prediction_needs_no_labels_and_no_patients(tmp_path, make_png):
    make_png(tmp_path / "new" / "benign" / "a.png")
    single = make_png(tmp_path / "b.png")
    manifest = ingest_files([tmp_path / "new", single], IngestConfig())
    assert [s.sample_id for s in manifest.samples] == ["b.png", "new/benign/a.png"]
    assert {s.label for s in manifest.samples} == {""}
    assert not manifest.patients_known
    assert len(read_slices(manifest, manifest.samples)) == 2


def test_slices_come_back_in_the_order_asked_for(tmp_path, make_png):
    for value in range(5):
        make_png(tmp_path / "a" / f"{value}.png", np.full((4, 4), value, np.uint8))
    manifest = ingest(tmp_path, UNKNOWN)
    asked = [manifest.samples[i] for i in (3, 0, 3, 4)]
    assert [int(s.pixels[0, 0]) for s in read_slices(manifest, asked)] == [3, 0, 3, 4]


def test_a_file_gone_since_ingest_is_named(tmp_path, make_png):
    path = make_png(tmp_path / "a" / "x.png")
    manifest = ingest(tmp_path, UNKNOWN)
    path.unlink()
    with pytest.raises(IngestError, match=r"sample a/x\.png.*Run `hepar ingest` again"):
        read_slices(manifest, manifest.samples)


def test_a_missing_source_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(IngestError, match="got nothing there"):
        ingest(tmp_path / "nowhere", IngestConfig())
    with pytest.raises(IngestError, match="none in 0 files"):
        ingest(tmp_path, IngestConfig())
    with pytest.raises(IngestError, match="at least one file"):
        ingest_files([], IngestConfig())


def test_the_readers_are_tried_from_the_most_explicit_to_the_most_general():
    assert list(READERS) == ["table", "dicom", "nifti", "image_folder"]


def test_every_sample_carries_the_hash_of_its_bytes(tmp_path, make_png):
    import hashlib

    path = make_png(tmp_path / "a" / "x.png")
    manifest = ingest(tmp_path, UNKNOWN)
    assert manifest.samples[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
