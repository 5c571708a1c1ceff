"""The page of findings leads with the worst, and says what could not be computed."""

from __future__ import annotations

import csv

import pytest

from hepar.errors import DataError
from hepar.provenance import stamp, write_artefact
from hepar.report import write_findings


def metric(value, low=None, high=None, undefined=None):
    return {"value": value, "low": low, "high": high, "undefined": undefined, "no_interval": None}


def finding(name, balanced):
    others = dict.fromkeys(("auroc", "sensitivity", "specificity"), metric(0.9, 0.8, 0.95))
    counts = {"n_patients": 24, "n_patients_with": 12, "n_samples": 96, "n_samples_with": 36}
    metrics = {"balanced_accuracy": balanced, **others}
    return {"name": name, "folder": f"findings/{name}", "metrics": metrics, **counts}


@pytest.fixture
def folder(tmp_path):
    """Three findings, one of them without a number, one with a name that is markup."""
    content = {
        "unit": "patient",
        "level": "patient",
        "partition": "out-of-fold",
        "interval": {"level": 0.95, "resamples": 2000},
        "warnings": ["rare could not be fitted: too few."],
        "recipe": "histology",
        "backbone": {"name": "efficientnet_b2", "is_random": True, "input_size": 260},
        "together": [
            {"finding": a, "fibrosis": 12, "<b>fat</b>": 5, "iron": 1}
            for a in ("fibrosis", "<b>fat</b>", "iron")
        ],
        "findings": [
            finding("fibrosis", metric(0.91, 0.8, 0.97)),
            finding("<b>fat</b>", metric(0.75, 0.6, 0.86)),
            finding("iron", metric(0.8, 0.7, 0.9)),
        ],
        "config": {"split": {"folds": 5}},
    }
    own = tmp_path / "findings" / "fibrosis"
    own.mkdir(parents=True)
    (own / "report.html").write_text("")
    write_artefact(tmp_path / "findings.json", "findings", content, stamp("hepar run", seed=0))
    return tmp_path


def test_the_page_leads_with_the_worst_finding(folder, parse_page):
    page = parse_page(write_findings(folder))
    text = " ".join(page.text.split())
    assert (
        "Least sure of 3 findings: <b>fat</b>, balanced accuracy of patients 0.750 (95 % interval "
        "0.600 to 0.860) on 24 patients left out in turn."
    ) in text
    assert "12 of 24" in text
    assert "rare could not be fitted: too few." in text
    assert "random weights: a control" in text
    assert "hepar run" in text
    assert {"findings", "together", "provenance", "reading"} <= set(page.ids)
    source = (folder / "findings.html").read_text(encoding="utf-8")
    assert 'href="findings/fibrosis/report.html"' in source
    assert "findings/iron/report.html" not in source  # it is not there


def test_the_table_has_a_row_a_finding_and_metric(folder):
    write_findings(folder)
    with (folder / "findings.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 4
    assert rows[0]["finding"] == "fibrosis"
    assert (rows[0]["metric"], rows[0]["value"]) == ("balanced_accuracy", "0.91")
    assert (rows[0]["n_patients_with"], rows[0]["partition"]) == ("12", "out-of-fold")


def test_without_its_file_there_is_no_page(tmp_path):
    with pytest.raises(DataError, match=r"findings\.json"):
        write_findings(tmp_path)
