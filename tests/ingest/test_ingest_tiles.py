"""Stained tiles are read in colour where that is asked for, and findings are 0, 1 or unknown."""

from __future__ import annotations

import csv
import shutil

import cv2
import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.errors import IngestError
from hepar.ingest import findings_of, ingest, ingest_files, read_slices

TILES = IngestConfig(pixels="rgb", findings="all")
COLUMNS = ("path", "patient_id", "slide_id", "fibrosis", "steatosis", "laboratory")


@pytest.fixture
def tiles(tmp_path):
    """Return a function that writes four tiles of two patients, with a table changed as asked."""

    def write(changes=(), columns=COLUMNS):
        rows = [
            ["a.png", "P1", "S1", "0", "1", "A"],
            ["b.png", "P1", "S2", "1", "0", "A"],
            ["c.png", "P2", "S3", "0", "", "B"],
            ["d.png", "P2", "S3", "1", "1", "B"],
        ]
        for row, column, value in changes:
            rows[row][COLUMNS.index(column)] = value
        rng = np.random.default_rng(0)
        for row in rows:
            pixels = rng.integers(0, 255, (16, 20, 3), np.uint8)
            cv2.imwrite(str(tmp_path / row[0]), pixels)
        with (tmp_path / "index.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([columns, *rows])
        return tmp_path

    return write


def test_a_tile_keeps_its_colours_and_its_slide(tiles):
    folder = tiles()
    manifest = ingest(folder, TILES)
    assert {sample.kind for sample in manifest.samples} == {"rgb"}
    assert [s.series_id for s in manifest.samples] == ["S1", "S2", "S3", "S3"]
    assert [f.code for f in manifest.findings] == []
    (image,) = read_slices(manifest, manifest.samples[:1])
    assert image.kind == "rgb"
    np.testing.assert_array_equal(image.pixels, cv2.imread(str(folder / "a.png"))[..., ::-1])


def test_colours_are_never_guessed(tiles):
    manifest = ingest_files([tiles()], IngestConfig())
    assert {sample.kind for sample in manifest.samples} == {"picture"}
    assert {f.code for f in manifest.findings} == {"colour"}


def test_grey_pictures_and_ct_are_no_tiles(tiles, tmp_path, make_png):
    folder = tiles()
    make_png(folder / "a.png")
    manifest = ingest(folder, TILES)
    (finding,) = [f for f in manifest.findings if f.severity == "refused"]
    assert (finding.where, finding.code) == ("a.png", "not-rgb")
    assert "expected an RGB tile of a stained slide (PNG, JPEG or TIFF), got a grey" in (
        finding.message
    )
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.move(folder / "a.png", alone / "a.png")
    with pytest.raises(IngestError, match=r"usable images, got none \(1 not-rgb\)\. First"):
        ingest_files([alone], TILES)


def test_all_findings_are_the_columns_of_0_and_1(tiles):
    manifest = ingest(tiles(), TILES)
    assert findings_of(manifest.samples, TILES) == ("fibrosis", "steatosis")
    one = IngestConfig(pixels="rgb", findings="steatosis")
    assert findings_of(ingest(tiles(), one).samples, one) == ("steatosis",)
    assert [s.extra.get("steatosis") for s in manifest.samples] == ["1", "0", None, "1"]


@pytest.mark.parametrize("findings", ["all", "fibrosis,steatosis"])
def test_a_finding_that_is_neither_0_nor_1_is_named_with_its_line(tiles, findings):
    folder = tiles([(1, "fibrosis", "2")])
    config = IngestConfig(pixels="rgb", findings=findings)
    with pytest.raises(IngestError, match="fibrosis: expected 1, 0 or nothing in line 3, got '2'"):
        ingest(folder, config)


def test_a_slide_of_two_patients_is_refused(tiles):
    folder = tiles([(1, "slide_id", "S3")])
    with pytest.raises(IngestError, match=r"slide S3: expected one patient, got P1 and P2 \(line"):
        ingest(folder, TILES)


def test_a_table_without_findings_is_refused(tiles):
    values = [(i, c, "x") for i in range(4) for c in ("fibrosis", "steatosis")]
    with pytest.raises(IngestError, match="a column of 0 and 1 for each finding, got path"):
        ingest(tiles(values), TILES)
    named = IngestConfig(pixels="rgb", findings="fibrosys")
    with pytest.raises(IngestError, match=r"a column 'fibrosys' of 0 and 1, .*Did you mean 'fibr"):
        ingest(tiles(), named)
    with pytest.raises(
        IngestError, match=r"ingest\.findings: expected names of columns, comma-sep"
    ):
        ingest(tiles(), IngestConfig(findings="a,,b"))


def test_findings_may_come_from_a_table_of_patients(tiles):
    folder = tiles()
    (folder / "index.csv").unlink()
    (folder / "who.csv").write_text("patient_id,fibrosis\nP1,0\nP2,1\n")
    for name, patient in (("a", "P1"), ("b", "P1"), ("c", "P2"), ("d", "P2")):
        (folder / f"{name}.png").rename(folder / f"{patient}_{name}.png")
    config = IngestConfig(
        pixels="rgb", findings="all", patient_pattern=r"(P\d)_", labels_csv=str(folder / "who.csv")
    )
    manifest = ingest(folder, config)
    assert [s.extra["fibrosis"] for s in manifest.samples] == ["0", "0", "1", "1"]
