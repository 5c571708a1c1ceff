"""Pages in a real browser: nothing missing, nothing from outside, nothing too wide."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from hepar.evaluate import read_predictions
from hepar.provenance import stamp, write_artefact, write_atomic
from hepar.report import write_comparison, write_report, write_series_page

PICTURE = np.arange(64, dtype=np.uint8).reshape(8, 8)


def mean(value):
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def with_maps(run):
    """Add a picture with its map and similar slices, and what maps are worth, to a run."""
    for name in ("a", "b", "c"):
        write_atomic(run / "figures" / f"{name}.png", cv2.imencode(".png", PICTURE)[1].tobytes())
    sample = read_predictions(run / "predictions.csv")
    shown = {
        "file": "figures/a.png",
        "sample_id": str(sample.sample_id[0]),
        "patient_id": str(sample.patient_id[0]),
        "reference": str(sample.reference[0]),
        "predicted": str(sample.predicted[0]),
        "probability": 0.9,
    }
    write_atomic(run / "figures" / "samples.json", json.dumps([shown]))
    near = {"file": "figures/c.png", "patient_id": "P9", "label": "normal"}
    names = ("chance", "energy", "hit", "energy_gain", "hit_gain", "energy_untrained")
    aim = {"label": "benign", "region": "liver", "n_patients": 20, "n_slices": 60}
    checks = {n: mean(0.5) for n in ("deletion_gain", "insertion_gain", "randomised", "shifted")}
    content = {
        "method": "grad-cam",
        "scale": 8.5,
        "n_looked": 60,
        "maps": [
            {
                "sample_id": shown["sample_id"],
                "file": "figures/b.png",
                "largest": 3.0,
                "similar": [near] * 3,
            }
        ],
        "localisation": [aim | {n: mean(0.2) for n in (*names, "hit_untrained")}],
        "checks": checks | {"n_slices": 12},
    }
    write_artefact(run / "explanations.json", "explanations", content, stamp("test"))
    return run


def series(folder):
    """Write the page of one new patient."""
    write_atomic(folder / "a.png", cv2.imencode(".png", PICTURE)[1].tobytes())
    one = {"sample_id": "a", "predicted": "normal", "probabilities": {"normal": 0.9}}
    like = [{"training_patient": i, "label": "benign", "likeness": 0.5} for i in range(3)]
    one |= {"file": "a.png", "largest": 0.1, "empty": True, "similar": like}
    patient = {"patient_id": "P1", "label": "normal", "possible": ["normal"], "reason": ""}
    patient |= {"refused": False, "probabilities": {"normal": 0.9}, "map_label": "normal"}
    content = {"method": "grad-cam", "scale": 1.0, "absolute": True, "findings": []}
    content |= {"verdict": "These maps do not localise.", "warns": True}
    content["patients"] = [patient | {"slices": [one] * 30}]
    write_artefact(folder / "explanations.json", "series", content, stamp("test"))
    return write_series_page(folder)


@pytest.fixture
def page(request, make_run, comparison, write_content, tmp_path):
    """The page that a test names, of made-up numbers."""
    if request.param == "comparison":
        return write_comparison(write_content(tmp_path, comparison))
    if request.param == "series":
        return series(tmp_path)
    labels, patients = ("normal", "benign", "malignant"), [f"P{i}" for i in range(12)]
    return write_report(with_maps(make_run(tmp_path, labels, patients)))


@pytest.mark.parametrize("page", ["report", "comparison", "series"], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_finds_no_fault(page, tmp_path, find_faults, scheme):
    faults, n_images = find_faults(page, tmp_path, scheme)
    assert faults == {}
    assert (n_images > 0) == (page.name != "comparison.html")


def test_the_probe_sees_what_is_wrong(tmp_path, find_faults):
    """Each fault that the test above looks for, planted once."""
    (tmp_path / "bad.html").write_text(
        "<!doctype html><body style='background:#fff'><h1>a</h1><h3>b</h3>"
        "<svg></svg>"
        "<table><tr><th>x</th></tr></table><p style='color:#ddd'>faint</p>"
        "<div style='width:3000px'>wide</div><img alt='x' src='http://127.0.0.1:9/x.png'>"
        "<details><div style='height:9000px'>long</div></details>"
        "<img src='nowhere.png' loading='lazy'><script>console.error('oh')</script>"
    )
    faults, n_images = find_faults(tmp_path / "bad.html", tmp_path)
    assert n_images == 2
    assert any("oh" in line for line in faults.pop("console"))
    assert faults["360 px"] == {
        "scroll": 3000 + 8,
        "broken": 2,
        "silent": 2,
        "bare": 1,
        "unscoped": 1,
        "skipped": 1,
        "faint": ["P"],
        "outside": ["http://127.0.0.1:9/x.png"],
    }
    dark, _ = find_faults(tmp_path / "bad.html", tmp_path, "dark")
    assert dark["360 px"]["paper"] == 1
