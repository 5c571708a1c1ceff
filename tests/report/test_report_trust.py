from __future__ import annotations

import re

import pytest

from hepar.config import DecideConfig, EvaluateConfig, HeadConfig
from hepar.data import read_manifest
from hepar.evaluate import measure_trust, read_predictions
from hepar.fit import fit_decision
from hepar.provenance import stamp, write_artefact
from hepar.report import read_inputs, write_report


@pytest.fixture
def trusted(make_run):
    """Write a run with `trust.json` and the bundle's decision."""

    def make(folder, n=60, test=0.0):
        folder.mkdir()
        make_run(folder, ("benign", "malignant"), [f"p{i:03d}" for i in range(n)], test=test)
        scores = read_predictions(folder / "predictions.csv")
        decide, config = DecideConfig(), EvaluateConfig(resamples=50)
        _, patients, decision = fit_decision(scores, HeadConfig(), decide)
        manifest = read_manifest(folder / "manifest.csv")
        found = measure_trust(patients, patients, manifest, decide, config)
        provenance = stamp("made up by a test")
        (folder / "bundle").mkdir(exist_ok=True)
        write_artefact(
            folder / "bundle" / "decision.json", "decision", decision.to_json(), provenance
        )
        write_artefact(folder / "trust.json", "trust", found, provenance)
        return folder

    return make


def test_calibration_and_decisions_are_shown_for_both_partitions(trusted, tmp_path):
    folder = trusted(tmp_path / "run", 120, 0.3)
    page = write_report(folder).read_text(encoding="utf-8")
    for text in ("Reliability diagram", "Decision curve", "Risk against coverage"):
        assert page.count(f'aria-label="{text}') == 2, text
    assert "Operating point for" in page
    negative = re.findall(r'class="range">-\d\.\d\d(.*?)-?\d', page)
    assert negative
    assert set(negative) == {" to "}


def test_few_patients_are_given_reasons_in_place_of_tables(trusted, tmp_path):
    page = write_report(trusted(tmp_path / "run", 6)).read_text(encoding="utf-8")
    assert "No sets of labels: " in page
    assert "90 % needs 9 patients of each label" in page
    assert "6 patients are too few, and a curve needs 10" in page
    assert "Decision curve" not in page
    assert "None" not in page


def test_a_run_without_these_files_has_a_report_without_these_sections(trusted, tmp_path):
    folder = trusted(tmp_path / "run")
    (folder / "trust.json").unlink()
    assert not read_inputs(folder).trust
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'id="decisions"' not in page
    assert 'id="metrics"' in page
