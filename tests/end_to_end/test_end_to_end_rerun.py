"""A run is made again from its record, or what differs is named."""

from __future__ import annotations

import json
import shutil

import cv2
import pytest

FAST = [
    "--set", "recipe.size=64", "--set", "recipe.name=picture", "--set", "evaluate.resamples=200",
    "--set", "controls.run=false", "--set", "explain.run=false", "--set", "decide.gate=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished(cohort, hepar, tmp_path_factory):
    """A run on a copy of the pictures; tests copy it before they change it."""
    place = tmp_path_factory.mktemp("rerun")
    for name in ("png", "png_masks"):
        shutil.copytree(cohort / name, place / "data" / name)
    hepar("run", place / "data" / "png" / "index.csv", "--out", place / "run", *FAST)
    return place


@pytest.fixture
def place(finished, tmp_path):
    """A fresh copy of run and pictures, the record pointing at the copy."""
    shutil.copytree(finished, tmp_path / "copy")
    path = tmp_path / "copy" / "run" / "record.json"
    record = json.loads(path.read_text())
    record["source"] = str(tmp_path / "copy" / "data" / "png" / "index.csv")
    path.write_text(json.dumps(record))
    return tmp_path / "copy"


def test_the_command_is_kept_as_a_user_types_it(finished):
    assert json.loads((finished / "run" / "run.json").read_text())["command"].startswith(
        f"hepar run {finished}"
    )


def test_the_same_data_give_the_same_bytes(hepar, finished, tmp_path):
    done = hepar("reproduce", finished / "run", "--out", tmp_path / "again")
    assert done.stdout.strip().endswith("the same, byte for byte")
    assert "differs" not in done.stdout
    ours, theirs = (f / "predictions.csv" for f in (tmp_path / "again", finished / "run"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_changed_and_a_missing_picture_are_named(hepar, place):
    first, second, *_ = sorted((place / "data" / "png").rglob("P*.png"))
    cv2.imwrite(str(first), 255 - cv2.imread(str(first), 0))
    second.unlink()
    done = hepar("reproduce", place / "run", check=False)
    assert done.returncode == 1
    names = [f"{path.relative_to(place / 'data' / 'png').as_posix()}" for path in (first, second)]
    changed, missing = (
        next(line for line in done.stdout.splitlines() if f" {word}" in line)
        for word in ("changed", "missing")
    )
    assert names[0] in changed
    assert names[1] in missing
    assert "slices have other probabilities" in done.stdout
    assert done.stdout.strip().endswith("not the same")


def test_another_package_version_is_named_even_where_nothing_changed(hepar, place):
    path = place / "run" / "record.json"
    record = json.loads(path.read_text())
    record["packages"]["numpy"] = "1.0.0"
    path.write_text(json.dumps(record))
    done = hepar("reproduce", place / "run")
    assert "differs: numpy was 1.0.0 and is" in done.stdout


def test_data_that_moved_are_asked_for_and_found(hepar, place, tmp_path):
    (place / "data").rename(tmp_path / "elsewhere")
    done = hepar("reproduce", place / "run", check=False)
    assert done.returncode == 2
    assert "Name where it is now with --source." in done.stderr
    moved = tmp_path / "elsewhere" / "png" / "index.csv"
    assert "byte for byte" in hepar("reproduce", place / "run", "--source", moved).stdout


def test_a_folder_that_is_no_run_is_one_line(hepar, tmp_path):
    done = hepar("reproduce", tmp_path, check=False)
    assert done.returncode == 2
    assert "expected a finished run of `hepar run`, got a folder without record.json" in done.stderr
