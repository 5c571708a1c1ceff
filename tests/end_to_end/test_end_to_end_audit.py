"""The audit as a user calls it."""

from __future__ import annotations

import json
import shutil

import pytest

from hepar.phantom import PhantomConfig, write_cohort


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A phantom cohort with two slices copied from other patients."""
    folder = tmp_path_factory.mktemp("copied")
    config = PhantomConfig(patients=9, slices=3, size=128, duplicates=2)
    write_cohort(folder, config, ("png",))
    return folder / "png"


def test_a_clean_cohort_passes_a_strict_audit(hepar, cohort, tmp_path):
    done = hepar("audit", cohort / "png", "--out", tmp_path / "a", "--strict")
    assert "no copies across patients" in done.stdout
    assert (tmp_path / "a" / "audit.json").is_file()
    assert (tmp_path / "a" / "figures" / "links.png").is_file()


def test_copies_fail_a_strict_audit_and_are_named(hepar, copied, tmp_path):
    done = hepar("audit", copied, "--out", tmp_path / "a", "--strict", check=False)
    assert done.returncode == 1
    assert "leak: 2 pairs across patients show the same pixels" in done.stdout
    found = json.loads(hepar("audit", copied, "--out", tmp_path / "a", "--json").stdout)
    assert found["unit"] == "patient"
    assert found["findings"][0]["n"] == 2


def test_copies_across_a_run_s_folds_are_on_its_first_page(hepar, copied, tmp_path):
    fast = ("--set", "recipe.size=96", "--set", "controls.run=false", "--set", "explain.run=false")
    hepar("run", copied, "--out", tmp_path / "run", *fast, "--folds", 3)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert '<section id="audit">' in page
    first = page[: page.index("</header>")]
    assert "copies stand in two partitions or folds" in first
    again = json.loads(hepar("audit", tmp_path / "run", "--out", tmp_path / "b", "--json").stdout)
    assert again["findings"][0]["code"] == "exact-across-patients"


def test_a_split_with_an_audit_keeps_groups_together(hepar, cohort, tmp_path):
    for label in ("benign", "malignant", "normal"):
        shutil.copytree(cohort / "png" / label, tmp_path / "bare" / label)
    table = tmp_path / "manifest.csv"
    hepar("ingest", tmp_path / "bare", "--patients-unknown", "--out", table)
    done = hepar("split", table, "--out", tmp_path / "s.json", "--folds", 2, "--audit")
    assert "joined into 12 groups" in done.stderr
    split = json.loads((tmp_path / "s.json").read_text())
    assert split["unit"] == "group"
    assert len(split["assignments"]) == 12
