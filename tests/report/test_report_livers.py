"""The section on who is in the study says who outlined the livers, and how well."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from hepar.data import read_manifest, write_manifest
from hepar.main_job import _segmenter
from hepar.provenance import stamp
from hepar.report import SECTIONS, read_inputs, write_report

LESION = {"name": "lesion", "steps": [{"step": "lesion_input", "size": 64, "mm": 1.5, "reach": 6}]}
DICE = {"value": 0.934, "low": 0.924, "high": 0.941}
FEW = {"value": 0.945, "low": None, "high": None}
SOURCES = [{"n_patients": 4, "dice": FEW}, {"n_patients": 83, "dice": DICE}]


@pytest.fixture
def said(make_run, tmp_path):
    """Return what the section says of a run with a recipe, masks for some and a segmenter."""

    def say(recipe=None, masked=60, model="", segmenter=()):
        run = make_run(tmp_path / "run", ("normal", "tumour"), [f"P{i}" for i in range(30)])
        manifest = read_manifest(run / "manifest.csv")
        samples = tuple(
            dataclasses.replace(s, mask="m.png" if i < masked else "")
            for i, s in enumerate(manifest.samples)
        )
        values = {"liver": 1}
        manifest = dataclasses.replace(manifest, samples=samples, mask_values=values)
        write_manifest(run / "manifest.csv", manifest, stamp("test"))
        for name, change in (("recipe", recipe or {}), ("run", {"segmenter": list(segmenter)})):
            document = json.loads((run / f"{name}.json").read_text()) | change
            if name == "run":
                document["config"]["segment"]["model"] = model
            (run / f"{name}.json").write_text(json.dumps(document))
        inputs = read_inputs(run)
        write_report(run)
        return " ".join(SECTIONS["cohort"](inputs).data["livers"])

    (tmp_path / "run").mkdir()
    return say


def test_a_recipe_without_mask_is_of_nobodys_outline(said):
    assert said() == "Liver: outlined by nobody. The network sees whole slices and no mask."


def test_drawn_livers_say_that_new_ones_are_guessed(said, tmp_path):
    told = said(LESION)
    assert told.startswith(
        "Liver: drawn by the source's authors in all 60 slices, of patients left"
    )
    assert "guessed by a rule" in told
    page = (tmp_path / "run" / "report.html").read_text()
    section = page[page.index('id="cohort"') : page.index("Where each went")]
    assert "guessed by a rule" in section


def test_a_segmenter_is_named_with_its_dice_on_patients_it_never_saw(said):
    told = said(LESION, masked=40, model="seg", segmenter=SOURCES)
    assert "drawn by the source's authors in 40 of 60 slices, outlined by a segmenter" in told
    assert "its mistakes count in every number" in told
    assert told.endswith(
        "0.945 (4 patients, too few for an interval); 0.934 (0.924 to 0.941, 83 patients)."
    )


def test_a_segmenter_that_was_not_measured_is_said_to_be_unknown(said):
    assert said(LESION, model="seg").endswith("How good its outlines are is not known here.")


def test_the_measurements_lie_in_the_folder_or_beside_the_segmenter(tmp_path):
    content = {"kind": "segmentation", "schema_version": 2, "provenance": {}, "sources": SOURCES}
    (tmp_path / "segmenter").mkdir()
    (tmp_path / "segmenter" / "segmenter.json").write_text("{}")
    (tmp_path / "segmentation.json").write_text(json.dumps(content))
    assert _segmenter(str(tmp_path)) == SOURCES
    assert _segmenter(str(tmp_path / "segmenter")) == SOURCES
    shutil.move(tmp_path / "segmenter", tmp_path / "alone" / "segmenter")
    assert _segmenter(str(tmp_path / "alone" / "segmenter")) == []
    assert _segmenter("") == []


def test_the_pretrained_segmenter_is_not_said_to_be_blind_to_anybody(said):
    told = said(LESION, model="liver-unet")
    assert "liver-unet, which may have seen them if they are LiTS's" in told
    assert "never saw them" not in told
