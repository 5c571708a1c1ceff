"""Series of a patient at odds are told, and many findings in few lines."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest

from hepar.config import IngestConfig
from hepar.data import Sample
from hepar.ingest import ingest
from hepar.ingest.odd_labels import odd_labels
from hepar.progress import LOG


def series(patient, name, labels, study=""):
    return [
        Sample(f"{patient}/{name}/{i}", patient, "x", label, study_id=study, series_id=name)
        for i, label in enumerate(labels)
    ]


OTHERS = [*series("B", "b1", ["benign"] * 3), *series("C", "c1", ["malignant"] * 3)]
ODD = [*series("A", "a1", ["benign"] * 3), *series("A", "a2", ["malignant"] * 2)]


def test_series_of_one_patient_with_different_labels_are_a_warning_in_one_line():
    (found,) = odd_labels([*OTHERS, *ODD])
    assert (found.code, found.where, found.severity) == ("series-at-odds", "A", "warning")
    assert "got 'benign' (series a1), 'malignant' (series a2) of A" in found.message
    assert "\n" not in found.message


def test_several_such_patients_are_one_finding():
    more = [*series("D", "d1", ["malignant"] * 2), *series("D", "d2", ["benign"] * 2)]
    (found,) = odd_labels([*ODD, *more])
    assert found.where == "2 patients"


def test_labels_of_slices_may_differ_between_series():
    mixed = series("B", "b2", ["benign", "malignant"])
    assert odd_labels([*OTHERS, *ODD, *mixed]) == []


def test_series_of_one_slice_say_nothing():
    assert odd_labels([*series("A", "a1", ["benign"]), *series("A", "a2", ["malignant"])]) == []


def test_one_label_in_every_series_is_as_it_should_be():
    assert odd_labels([*OTHERS, *series("B", "b2", ["benign"] * 2)]) == []


def test_what_differs_between_visits_is_a_note():
    visits = [*series("A", "a1", ["benign"] * 2, "s1"), *series("A", "a2", ["malignant"] * 2, "s2")]
    (found,) = odd_labels(visits)
    assert (found.code, found.severity) == ("visits-at-odds", "note")
    both = [*visits, *series("A", "a3", ["benign"] * 2, "s2")]
    assert [one.code for one in odd_labels(both)] == ["series-at-odds"]


@pytest.fixture
def mixed(tmp_path):
    """A folder of pictures by label, with five files that are none."""
    rng = np.random.default_rng(0)
    for i in range(8):
        folder = tmp_path / ("benign", "malignant")[i % 2] / f"P{i}"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), rng.integers(0, 256, (64, 64), dtype=np.uint8))
    for i in range(5):
        (tmp_path / "benign" / f"note{i}.txt").write_text("a note")
    return tmp_path


def test_many_findings_of_a_kind_are_one_line_and_all_of_them_for_those_who_ask(
    mixed, caplog, monkeypatch
):
    config = IngestConfig(patient_pattern=r"(P\d+)")
    monkeypatch.setattr(LOG, "propagate", True)
    with caplog.at_level(logging.DEBUG, "hepar"):
        manifest = ingest(mixed, config)
    assert len(manifest.findings) == 5
    (line,) = (one for one in caplog.records if one.levelno == logging.INFO)
    assert line.getMessage().startswith(
        "set-aside: 5 times not-an-image (benign/note0.txt, benign/note1.txt, benign/note2.txt, ..."
    )
    assert sum(one.levelno == logging.DEBUG for one in caplog.records) == 5
