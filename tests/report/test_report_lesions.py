"""The section on lesions found one by one, with pictures and, of older runs, without."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hepar.provenance import stamp, write_artefact
from hepar.report import write_report

ROW = {
    "least_mm": 0.0,
    "by": "patient",
    "false": 1.0,
    "n_lesions": 3,
    "sensitivity": 0.67,
    "low": None,
    "high": None,
}
PATIENT = {"patient_id": "P1", "lesions": [{"diameter_mm": 12.0, "score": 0.8}], "candidates": []}
PICTURE = {
    "file": "figures/lesions/000001.png",
    "patient_id": "<P1>",
    "sample_id": "a.png",
    "n_lesions": 1,
    "n_found": 0,
    "n_false": 2,
}


@pytest.fixture
def section(make_run, parse_page, tmp_path):
    """Return the page's section for what `lesions.json` holds besides."""

    def show(**more):
        run = make_run(tmp_path, ("normal", "tumour"), [f"P{i}" for i in range(30)])
        (run / "figures" / "lesions").mkdir(parents=True)
        cv2.imwrite(str(run / PICTURE["file"]), np.zeros((8, 8), np.uint8))
        content = {
            "likely": 0.4,
            "outlined": False,
            "n_patients": 1,
            "n_series": 1,
            "agreement": None,
            "rows": [{**ROW, "threshold": 0.7}],
            "patients": [PATIENT],
            **more,
        }
        write_artefact(run / "lesions.json", "lesions", content, stamp("test"))
        text = write_report(run).read_text(encoding="utf-8")
        parse_page(run / "report.html")
        return text[text.index('<section id="lesions">') : text.index('<section id="method">')]

    return show


def test_pictures_say_what_is_found_missed_and_false(section):
    text = section(least=0.7, pictures=[PICTURE])
    assert "<bdi>&lt;P1&gt;</bdi>: 0 of 1 lesion marked" in text
    assert '<span class="alarm">2 false places</span>' in text
    assert text.count("data:image/png;base64,") == 1
    assert "from 0.70 on" in text
    assert "mean over 1 patient left out" in text


def test_a_run_without_pictures_has_its_table(section):
    text = section()
    assert "all (3)" in text
    assert "Slices of them" not in text


def test_false_places_a_series_have_a_line_of_their_own(section):
    agreement = {
        name: {"value": value, "low": None, "high": None, "n_patients": 1}
        for name, value in (("dice", 0.62), ("volume_error", 0.31))
    }
    rows = [
        {**ROW, "threshold": 0.7},
        {**ROW, "by": "series", "sensitivity": 1.0, "low": 0.8, "high": 1.0, "threshold": 0.3},
    ]
    text = section(n_series=4, rows=rows, agreement=agreement)
    assert "or over their 4 series" in text
    assert "all (3), false a patient" in text
    assert "all (3), false a series</th><td>1.00 (0.80\u20131.00)</td>" in text
    assert "Dice coefficient of 0.62 and miss their volume by 31 %" in text
