"""What the page says of heat maps follows from the numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hepar.provenance import stamp, write_artefact
from hepar.report import write_report, write_series_page


def mean(value, half=None):
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"value": value, "low": low, "high": high, "n_patients": 20, "n_samples": 60}


def aim(label, gain, half):
    names = ("energy", "hit", "energy_untrained", "hit_untrained")
    return {
        "label": label,
        "region": "liver",
        "n_patients": 20,
        "n_slices": 60,
        "chance": mean(0.1),
        **{name: mean(0.1 + gain, half) for name in names},
        "energy_gain": mean(gain, half),
        "hit_gain": mean(gain, half),
    }


def page(make_run, folder, localisation, checks=None, **more):
    run = make_run(folder, ("normal", "benign", "malignant"), [f"P{i}" for i in range(12)])
    content = {
        "method": "grad-cam",
        "scale": 8.5,
        "maps": [],
        "n_looked": 60,
        "localisation": localisation,
        "checks": checks or {"not_made": "explain.checked is 0"},
        **more,
    }
    write_artefact(run / "explanations.json", "explanations", content, stamp("test"))
    return write_report(run)


@pytest.mark.parametrize(
    ("records", "said", "alarm"),
    [
        ([], "No slice looked at has a lesion mask", False),
        ([("benign", 0.1, 0.05), ("malignant", 0.1, 0.05)], "more than chance would", False),
        ([("benign", 0.0, 0.05), ("malignant", -0.1, 0.05)], "These maps do not localise", True),
        ([("benign", 0.1, 0.05), ("malignant", 0.02, 0.05)], "Maps of malignant do not", True),
        ([("malignant", -0.05, None)], "These maps do not localise better than chance", True),
        ([("malignant", 0.2, None)], "30 % of the evidence for malignant lies in lesions", False),
    ],
)
def test_the_verdict_follows_from_the_intervals(
    make_run, parse_page, tmp_path, records, said, alarm
):
    path = page(make_run, tmp_path, [aim(*record) for record in records])
    text = path.read_text()
    assert said in text
    assert (f'<p class="alarm">{said}' in text) == alarm
    assert "maps" in parse_page(path).ids


def test_the_text_says_what_full_colour_is(make_run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    cells = page(make_run, tmp_path / "a", []).read_text()
    assert "full colour is 8.5" in cells
    assert "its cells are coarse" in cells
    pixels = page(make_run, tmp_path / "b", [], method="likelihood", scale=1.0).read_text()
    assert "Method: likelihood. Each pixel of the liver shows how likely" in pixels
    assert "coarse" not in pixels


def test_why_maps_were_not_checked_is_said(make_run, tmp_path):
    assert (
        "not checked by changing images: explain.checked is 0"
        in page(make_run, tmp_path, []).read_text()
    )


def test_the_page_of_a_long_series_shows_some_and_says_how_many_more(tmp_path, hostile):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((4, 4), np.uint8))
    one = {"predicted": "", "probabilities": {}, "file": "pictures/a.png", "largest": 0.1}
    patient = {
        "patient_id": str(hostile),
        "label": "",
        "possible": [],
        "reason": "not sure",
        "refused": False,
        "probabilities": {str(hostile): 0.5},
        "map_label": str(hostile),
        "slices": [{**one, "sample_id": str(i), "empty": True, "similar": []} for i in range(100)],
    }
    content = {
        "method": "grad-cam",
        "scale": 1.0,
        "absolute": True,
        "verdict": "",
        "warns": False,
        "patients": [patient],
        "findings": [
            {"code": "a", "message": "outlined by the segmenter", "severity": "note"},
            {"code": "b", "message": "other pixels", "severity": "warning"},
        ],
    }
    write_artefact(tmp_path / "explanations.json", "series", content, stamp("test"))
    text = write_series_page(tmp_path).read_text()
    assert text.count('src="pictures/a.png"') == 60
    assert '<p class="note">outlined by the segmenter</p>' in text
    assert '<p class="warning" role="alert">other pixels</p>' in text
    assert "40 more slices lie in the folder" in text
    assert "<script>" not in text
