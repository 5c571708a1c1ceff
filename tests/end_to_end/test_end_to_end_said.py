"""What single stages say: each thing once, and what to call next."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def small(hepar, tmp_path_factory):
    """A cohort of three patients, and what making it said."""
    folder = tmp_path_factory.mktemp("two words") / "small"
    return folder, hepar("phantom", "--out", folder, "--patients", 3, "--slices", 2).stdout


def test_a_phantom_cohort_names_the_folder_to_call_with(small):
    folder, said = small
    lines = [line.removeprefix("next  ") for line in said.splitlines() if line.startswith("next")]
    commands = [shlex.split(line) for line in lines]
    assert [command[1] for command in commands] == ["run", "run", "segment"]
    named = [Path(word) for command in commands for word in command if word.startswith(str(folder))]
    assert len(named) == 4
    assert all(path.exists() for path in named)
    assert all(path != folder for path in named)


def test_ingest_says_a_finding_once(hepar, small, tmp_path):
    folder, _ = small
    (folder / "dicom" / "note.txt").write_text("a note")
    table = ("--labels", folder / "labels.csv")
    done = hepar("ingest", folder / "dicom", *table, "--out", tmp_path / "m.csv")
    assert (done.stdout + done.stderr).count("note.txt") == 1
    assert "findings  1 set-aside; all in " in done.stdout
    asked = hepar("-v", "ingest", folder / "dicom", *table, "--out", tmp_path / "m.csv")
    assert asked.stderr.count("note.txt") == 1
