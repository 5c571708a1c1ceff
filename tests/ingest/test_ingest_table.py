from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.data import read_manifest, write_manifest
from hepar.errors import HeparError, IngestError
from hepar.ingest import ingest, ingest_files, read_slices
from hepar.ingest.masks import infer_mask_values, parse_mask_values
from hepar.provenance import stamp


def table(folder, text):
    path = folder / "index.csv"
    path.write_text(text)
    return path


def test_a_folder_and_its_table_give_the_same_manifest(tmp_path, make_png):
    make_png(tmp_path / "x.png")
    path = table(tmp_path, "path,label,patient_id,series_id,slice_index,age\nx.png,a,P,S,7,61\n")
    manifest = ingest(path, IngestConfig())
    assert manifest == ingest(tmp_path, IngestConfig())
    (sample,) = manifest.samples
    assert (sample.patient_id, sample.series_id, sample.slice_index) == ("P", "S", 7)
    assert sample.extra == {"age": "61"}


@pytest.mark.parametrize("divider", [";", "\t"])
def test_a_table_as_spreadsheets_write_it_is_read(tmp_path, make_png, divider):
    make_png(tmp_path / "x.png")
    text = "path,label,patient_id,age\nx.png,a,P,61\n"
    path = table(tmp_path, text.replace(",", divider))
    (sample,) = ingest(path, IngestConfig()).samples
    assert (sample.label, sample.patient_id, sample.extra) == ("a", "P", {"age": "61"})


def test_a_missing_column_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(
        IngestError, match=r"'path', got file_path, label.*Rename 'file_path' to 'path'"
    ):
        ingest(table(tmp_path, "file_path,label\nx.png,a\n"), IngestConfig())
    with pytest.raises(IngestError, match=r"'label'.*Rename 'labels' to 'label'"):
        ingest(table(tmp_path, "path,labels\nx.png,a\n"), IngestConfig())
    with pytest.raises(IngestError, match=r"'label'.*--set ingest.label_column=NAME"):
        ingest(table(tmp_path, "path,verdict\nx.png,a\n"), IngestConfig())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("path,label\n", "at least one row"),
        ("path,label\na,b,c\n", "2 values in line 2"),
        ("path,label,slice_index\nx.png,a,two\n", "whole number as slice_index in line 2"),
        ("path,label\nx.png,a\nx.png,b\n", "one label for x.png, got 'a' and 'b'"),
        ("", "'path', got none"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(tmp_path, text, why):
    with pytest.raises(IngestError, match=why):
        ingest(table(tmp_path, text), IngestConfig())


def test_a_table_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "index.csv").write_bytes(b"path,label\n\xff\xfe\x00,a\n")
    with pytest.raises(IngestError, match="UTF-8"):
        ingest(tmp_path, IngestConfig())


def test_missing_and_repeated_rows_are_findings(tmp_path, make_png):
    make_png(tmp_path / "x.png")
    text = "path,label,patient_id\nx.png,a,P\nx.png,a,P\ngone.png,a,P\n,a,P\n"
    manifest = ingest(table(tmp_path, text), IngestConfig())
    assert len(manifest) == 1
    found = {(f.where, f.code) for f in manifest.findings}
    assert found == {
        ("x.png", "repeated-row"),
        ("gone.png", "missing"),
        ("index.csv:5", "no-path"),
    }


def test_paths_may_leave_the_folder_and_may_be_absolute(tmp_path, make_png):
    outside = make_png(tmp_path / "else" / "x.png", np.full((4, 4), 1, np.uint8))
    far = make_png(tmp_path / "far.png", np.full((4, 4), 2, np.uint8))
    (tmp_path / "in").mkdir()
    text = f"path,label,patient_id\n../else/{outside.name},a,P\n{far},a,P\n"
    manifest = ingest(table(tmp_path / "in", text), IngestConfig())
    values = sorted(int(s.pixels[0, 0]) for s in read_slices(manifest, manifest.samples))
    assert values == [1, 2]


def test_a_column_that_names_a_person_is_left_out(tmp_path, make_png):
    make_png(tmp_path / "x.png")
    header = "path,label,patient_id,patient_name,birth_date,AccessionNumber,site"
    path = table(tmp_path, f"{header}\nx.png,a,P,DOE^JANE,19500101,ACC77,north\n")
    manifest = ingest(path, IngestConfig())
    assert manifest.samples[0].extra == {"site": "north"}
    write_manifest(tmp_path / "out" / "manifest.csv", manifest, stamp("test"))
    written = "".join(p.read_text() for p in (tmp_path / "out").iterdir())
    for secret in ("DOE", "19500101", "ACC77"):
        assert secret not in written


def test_a_manifest_survives_the_disk(tmp_path, make_png):
    make_png(tmp_path / "x.png")
    make_png(tmp_path / "m.png", np.ones((8, 8), np.uint8))
    path = table(tmp_path, "path,label,patient_id,mask\nx.png,a,P,m.png\n")
    manifest = ingest(path, IngestConfig())
    write_manifest(tmp_path / "out" / "manifest.csv", manifest, stamp("test"))
    back = read_manifest(tmp_path / "out" / "manifest.csv")
    assert back.samples == manifest.samples
    (one,) = read_slices(back, back.samples)
    assert (one.mask == 1).all()


def test_a_mask_of_another_size_refuses_its_sample(tmp_path, make_png):
    for name in "xy":
        make_png(tmp_path / f"{name}.png")
    make_png(tmp_path / "small.png", np.ones((4, 4), np.uint8))
    make_png(tmp_path / "right.png", np.ones((8, 8), np.uint8))
    text = "path,label,patient_id,mask\nx.png,a,P,small.png\ny.png,a,P,right.png\n"
    manifest = ingest(table(tmp_path, text), IngestConfig())
    assert [s.path for s in manifest.samples] == ["y.png"]
    (finding,) = manifest.findings
    assert (finding.where, finding.code, finding.severity) == ("x.png", "mask", "refused")
    assert "(8, 8)" in finding.message
    assert "(4, 4)" in finding.message


def test_mask_values_are_inferred_from_the_whole_cohort(tmp_path, make_png):
    values = {"x": [0, 255], "y": [0, 127]}
    for name, pair in values.items():
        make_png(tmp_path / f"{name}.png", np.zeros((1, 2), np.uint8))
        make_png(tmp_path / f"m{name}.png", np.array([pair], np.uint8))
    rows = "".join(f"{name}.png,a,P,m{name}.png\n" for name in values)
    manifest = ingest(table(tmp_path, "path,label,patient_id,mask\n" + rows), IngestConfig())
    assert manifest.mask_values == {"liver": 127, "lesion": 255}
    lesion, liver = read_slices(manifest, manifest.samples)
    assert lesion.mask.tolist() == [[0, 2]]
    assert liver.mask.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("counts", "meaning"),
    [
        ({0: 9, 1: 1}, {"liver": 1}),
        ({0: 9, 1: 1, 2: 1}, {"liver": 1, "lesion": 2}),
        ({0: 9, 127: 1, 255: 1}, {"liver": 127, "lesion": 255}),
        ({0: 9, 255: 1}, {"liver": 255}),
        ({0: 9, 0xFF0000: 1, 0x00FF00: 1}, {"lesion": 0xFF0000}),
        ({**dict.fromkeys(range(256), 1), 255: 999}, {"liver_from": 128}),
    ],
)
def test_what_mask_values_mean(counts, meaning):
    assert infer_mask_values([counts]) == meaning


def test_unclear_mask_values_are_refused_with_the_way_out():
    with pytest.raises(IngestError, match=r"got 5, 6, 7.*liver=5"):
        infer_mask_values([{0: 1, 5: 1, 6: 1, 7: 1}])


@pytest.mark.parametrize(
    "text",
    ["liver=x", "kidney=3", "liver", "liver=-1", "liver=0", "liver=1,lesion=1", "liver=1,liver=2"],
)
def test_mask_values_that_say_nothing_are_refused(text):
    with pytest.raises(IngestError, match="liver=VALUE"):
        parse_mask_values(text)


def test_colour_masks_mean_lesion_where_red(tmp_path, make_png):
    mask = np.zeros((1, 3, 3), np.uint8)
    mask[0, 1] = (0, 0, 255)  # red, as OpenCV orders channels
    mask[0, 2] = (0, 255, 0)
    make_png(tmp_path / "x.png", np.zeros((1, 3), np.uint8))
    make_png(tmp_path / "m.png", mask)
    path = table(tmp_path, "path,label,patient_id,mask\nx.png,a,P,m.png\n")
    manifest = ingest(path, IngestConfig())
    (one,) = read_slices(manifest, manifest.samples)
    assert one.mask.tolist() == [[0, 2, 0]]


def test_labels_stand_in_the_order_given(tmp_path, make_png):
    for name in "ab":
        make_png(tmp_path / f"{name}.png")
    path = table(tmp_path, "path,label,patient_id\na.png,a,P\nb.png,b,Q\n")
    assert ingest(path, IngestConfig()).labels.names == ("a", "b")
    assert ingest(path, IngestConfig(label_order="b, a")).labels.names == ("b", "a")


def test_a_labels_tables_other_columns_go_along_but_not_those_that_name_a_person(
    tmp_path, make_dicom
):
    make_dicom(tmp_path / "in" / "1")
    table = tmp_path / "labels.csv"
    table.write_text("patient_id,label,phase,patient_name,kind\nP1,cyst,arterial,Doe,x\n")
    manifest = ingest(tmp_path / "in", IngestConfig(labels_csv=str(table)))
    assert dict(manifest.samples[0].extra) == {"phase": "arterial"}
    assert [f.code for f in manifest.findings if f.code == "personal-column"]


def test_masks_stored_with_loss_are_refused_with_what_they_hold():
    ramp = dict.fromkeys(range(256), 3) | {0: 900, 127: 400, 255: 300}
    with pytest.raises(
        IngestError,
        match=r"^masks: .*got 255 values besides 0, most often 127 .27%., 255 .21%.*PNG.* "
        r"--set ingest.mask_values=liver=127,lesion=255 if .*all other values then count",
    ):
        infer_mask_values([ramp])


@pytest.mark.parametrize("name", ["patient", "id", "Subject", "case_no", "PID"])
def test_a_labels_table_of_other_names_is_told_what_to_rename(tmp_path, make_png, name):
    make_png(tmp_path / "x.png")
    (tmp_path / "labels.csv").write_text(f"{name},label\nP,a\n")
    config = IngestConfig(labels_csv=str(tmp_path / "labels.csv"))
    with pytest.raises(IngestError, match=rf"got {name}, label\. Rename '{name}' to patient_id"):
        ingest(tmp_path / "x.png", config)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(Q\d+)", r"group 1 is the patient_id, got 0 of 2 paths matched \(first: 'P1_a.png'\)"),
        (r"(P1)", r"none for 1 of 2 \(first: P2_a.png\).*Correct --patient-pattern '\(P1\)'"),
        (r"P1", "expected a group that is the patient_id"),
        (r"(P1", "expected a regular expression"),
    ],
)
def test_a_pattern_that_does_not_fit_says_where(tmp_path, make_png, pattern, message):
    for name in ("P1_a", "P2_a"):
        make_png(tmp_path / f"{name}.png")
    source = table(tmp_path, "path,label\nP1_a.png,a\nP2_a.png,b\n")
    with pytest.raises(IngestError, match=message):
        ingest(source, IngestConfig(patient_pattern=pattern))


def test_a_label_whose_files_are_all_refused_is_named(tmp_path, make_png):
    make_png(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    text = "path,label,patient_id\na.png,a,P\nx.png,a,P\ny.png,benign,Q\n"
    source = table(tmp_path, text)
    manifest = ingest(source, IngestConfig())
    (lost,) = [f for f in manifest.findings if f.code == "label-lost"]
    assert "usable samples labelled 'benign', got none of 1 (first: y.png)" in lost.message
    assert "(1 corrupt). First: y.png: expected a whole PNG" in lost.message


def test_names_with_control_characters_are_refused(tmp_path, make_png):
    for name in ("x", "y"):
        make_png(tmp_path / f"{name}.png")
    source = table(tmp_path, 'path,label,patient_id\nx.png,a,"P\r1"\ny.png,a,P2\n')
    manifest = ingest(source, IngestConfig())
    assert [s.patient_id for s in manifest.samples] == ["P2"]
    (finding,) = manifest.findings
    assert (finding.code, finding.severity) == ("control-character", "refused")
    assert r"'P\r1'" in finding.message


def test_a_table_whose_ids_have_another_name_is_told_what_to_rename(tmp_path, make_png):
    make_png(tmp_path / "x.png")
    source = table(tmp_path, "path,label,subject,age\nx.png,a,P1,61\n")
    with pytest.raises(IngestError, match=r"Rename the column 'subject' to patient_id if"):
        ingest(source, IngestConfig())
    manifest = ingest(source, IngestConfig(patients_unknown=True))
    assert [(f.code, f.message) for f in manifest.findings] == [
        ("id-column", "'subject' is not read as an id; rename it if it is.")
    ]


def test_a_pattern_that_fits_some_paths_is_a_finding_where_patients_may_be_unknown(
    tmp_path, make_png
):
    for name in ("P1_a", "P2_a", "P3_a"):
        make_png(tmp_path / "a" / f"{name}.png")
    config = IngestConfig(patient_pattern="(P1)", patients_unknown=True)
    (finding,) = ingest(tmp_path, config).findings
    assert finding.code == "pattern"
    assert "none in 2 of 3 (first: 'a/P2_a.png')" in finding.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (IngestConfig(patient_pattern="(P1"), "expected a regular expression"),
        (IngestConfig(patient_pattern="P1"), "expected a group"),
        (IngestConfig(mask_values="kidney=2"), "liver=VALUE"),
        (IngestConfig(label_order="a,b,a"), r"none twice .*got \['a', 'b', 'a'\]"),
        (IngestConfig(label_order="a,"), "none empty"),
    ],
)
def test_settings_are_refused_before_the_source_is_looked_at(tmp_path, config, message):
    for read in (ingest, lambda path, config: ingest_files([path], config)):
        with pytest.raises(HeparError, match=message):
            read(tmp_path / "nowhere", config)


def test_a_pattern_or_an_order_that_cannot_fit_is_refused_before_any_pixel_is_read(
    tmp_path, make_png, monkeypatch
):
    make_png(tmp_path / "b" / "x.png")
    monkeypatch.setattr("hepar.ingest.cohort.look_at_all", None)
    with pytest.raises(HeparError, match="0 of 1 paths"):
        ingest(tmp_path, IngestConfig(patient_pattern="(Q)"))
    with pytest.raises(HeparError, match=r"label 'b': expected one of \['a', 'c'\]"):
        ingest(tmp_path, IngestConfig(patients_unknown=True, label_order="a,c"))


@pytest.mark.parametrize(
    ("text", "order", "message"),
    [
        (None, "", "expected a CSV table, got no file"),
        ("who,label\nP1,a\n", "", "expected a column patient_id, study_id or series_id"),
        ("patient_id,verdict\nP1,a\n", "", "Rename the one that holds it to 'label', or name it"),
        ("patient_id,label\nP1,a\nP1,b\n", "", "two that differ"),
        ("patient_id,label\nP1,b\n", "a,c", "label 'b': expected one of"),
    ],
)
def test_a_labels_table_that_cannot_serve_is_refused_before_any_pixel_is_read(
    tmp_path, make_png, monkeypatch, text, order, message
):
    make_png(tmp_path / "in" / "x.png")
    if text:
        (tmp_path / "labels.csv").write_text(text)
    monkeypatch.setattr("hepar.ingest.cohort.look_at_all", None)
    with pytest.raises(HeparError, match=message):
        ingest(
            tmp_path / "in",
            IngestConfig(labels_csv=str(tmp_path / "labels.csv"), label_order=order),
        )


@pytest.mark.parametrize("text", [b"", b"no picture"])
def test_a_label_folder_without_one_readable_picture_is_named(tmp_path, make_png, text):
    make_png(tmp_path / "normal" / "x.png")
    (tmp_path / "normal" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    for name in ("1.png", "2.jpg"):
        (tmp_path / "benign").mkdir(exist_ok=True)
        (tmp_path / "benign" / name).write_bytes(text)
    manifest = ingest(tmp_path, IngestConfig(patients_unknown=True))
    (lost,) = [f for f in manifest.findings if f.code == "label-lost"]
    assert "labelled 'benign', got none of 2 (first: benign/1.png) (2 " in lost.message
    assert "cut.png" not in lost.message
    assert len(manifest.findings) == 4


@pytest.mark.parametrize("blur", [1, 5])
@pytest.mark.parametrize("lesion", [8, 30])
def test_masks_saved_as_jpeg_or_smoothed_are_refused_with_the_way_out(
    tmp_path, make_png, blur, lesion
):
    mask = np.zeros((64, 64), np.uint8)
    mask[8:50, 8:50] = 127
    mask[12 : 12 + lesion, 12 : 12 + lesion] = 255
    make_png(tmp_path / "x.png", np.zeros((64, 64), np.uint8))
    make_png(tmp_path / "m.jpg", cv2.GaussianBlur(mask, (blur, blur), 2))
    path = table(tmp_path, "path,label,patient_id,mask\nx.png,a,P,m.jpg\n")
    way = r"masks \(1 files, first m.jpg\): .* save them as PNG .*liver=127,lesion=25[45] if"
    with pytest.raises(IngestError, match=way):
        ingest(path, IngestConfig())


def test_a_ramp_with_a_level_between_is_no_binary_mask():
    ramp = dict.fromkeys(range(256), 1) | {0: 900, 127: 400, 255: 3000}
    with pytest.raises(IngestError, match="liver=127,lesion=255 if that is what these mean"):
        infer_mask_values([ramp])


def test_a_sample_whose_only_mask_is_damaged_is_refused_by_name(tmp_path, make_png):
    for name in "xy":
        make_png(tmp_path / f"{name}.png")
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    text = "path,label,patient_id,mask\nx.png,a,P,m.png\ny.png,a,Q,\n"
    manifest = ingest(table(tmp_path, text), IngestConfig())
    assert [s.path for s in manifest.samples] == ["y.png"]
    assert {(f.code, f.where) for f in manifest.findings} == {
        ("corrupt", "m.png"),
        ("mask", "x.png"),
    }


def test_a_label_of_a_labels_table_is_named_where_all_its_files_are_refused(tmp_path, make_dicom):
    make_dicom(tmp_path / "in" / "1")
    for i in range(2):
        make_dicom(tmp_path / "in" / f"mr{i}", PatientID=f"Q{i}", Modality="MR")
    labels = tmp_path / "labels.csv"
    labels.write_text("patient_id,label\nP1,cyst\nQ0,benign\nQ1,benign\n")
    manifest = ingest(tmp_path / "in", IngestConfig(labels_csv=str(labels)))
    (lost,) = [f for f in manifest.findings if f.code == "label-lost"]
    assert "labelled 'benign', got none of 2 (first: patient_id Q0) (2 modality)" in lost.message


def test_a_label_none_of_whose_masks_fit_is_named(tmp_path, make_png):
    for name in "xy":
        make_png(tmp_path / f"{name}.png")
    make_png(tmp_path / "small.png", np.ones((4, 4), np.uint8))
    source = table(tmp_path, "path,label,patient_id,mask\nx.png,a,P,\ny.png,b,P,small.png\n")
    (lost,) = [f for f in ingest(source, IngestConfig()).findings if f.code == "label-lost"]
    assert "labelled 'b', got none of 1 (first: y.png) (1 mask)" in lost.message


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\x85", "\u2028"])
@pytest.mark.parametrize("column", ["label", "patient_id", "study_id", "series_id", "note", "file"])
def test_every_artefact_keeps_one_row_a_line_whatever_a_table_holds(
    tmp_path, make_png, sign, column
):
    odd = f"a{sign}b"
    row = {name: odd if name == column else "P" for name in ("label", "patient_id", "study_id")}
    row |= {"series_id": odd if column == "series_id" else "", "note": ""}
    row["note"] = odd if column == "note" else "plain"
    path = f"x{sign}.png" if column == "file" else "x.png"
    make_png(tmp_path / path)
    make_png(tmp_path / "y.png")
    cells = ",".join(f'"{cell}"' for cell in (path, *row.values()))
    text = f"path,{','.join(row)}\n{cells}\ny.png,P,P2,,,\n"
    (tmp_path / "index.csv").write_bytes(text.encode())
    manifest = ingest(tmp_path, IngestConfig())
    write_manifest(tmp_path / "out" / "manifest.csv", manifest, stamp("test"))
    lines = (tmp_path / "out" / "manifest.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(manifest) == (3 if column == "note" else 2)
    odd_ones = [f for f in manifest.findings if f.code == "control-character"]
    assert [f.severity for f in odd_ones] == ["warning" if column == "note" else "refused"]
    assert all(sign not in f.where + f.message for f in manifest.findings)


def test_a_file_name_that_is_no_text_is_refused_and_the_manifest_can_be_written(tmp_path, make_png):
    data = make_png(tmp_path / "a" / "x.png").read_bytes()
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(data)
    manifest = ingest(tmp_path, IngestConfig(patients_unknown=True))
    assert [s.path for s in manifest.samples] == ["a/x.png"]
    write_manifest(tmp_path / "manifest.csv", manifest, stamp("test"))
    assert [f.where for f in manifest.findings] == [r"a/caf\udce9.png"]


def test_a_column_name_of_two_lines_is_refused(tmp_path):
    with pytest.raises(IngestError, match=r"column names without control characters, got 'a\\nb'"):
        ingest(table(tmp_path, 'path,label,"a\nb"\nx.png,a,1\n'), IngestConfig())
