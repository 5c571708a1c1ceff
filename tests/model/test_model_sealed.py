"""A folder that is written anew appears complete or not at all."""

from __future__ import annotations

import pytest

from hepar.errors import BundleError
from hepar.model.sealed import fresh_folder


def test_a_folder_appears_filled_and_leaves_nothing_beside_it(tmp_path):
    with fresh_folder(tmp_path / "made" / "bundle", "bundle.json") as room:
        (room / "bundle.json").write_text("new")
        assert not (tmp_path / "made" / "bundle").exists()
    assert (tmp_path / "made" / "bundle" / "bundle.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["bundle"]


def test_an_old_one_is_replaced_whole_and_kept_where_the_new_one_fails(tmp_path):
    old = tmp_path / "bundle"
    old.mkdir()
    (old / "bundle.json").write_text("old")
    (old / "more").write_text("old")

    def fail():
        with fresh_folder(old, "bundle.json") as room:
            (room / "bundle.json").write_text("half")
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        fail()
    assert (old / "bundle.json").read_text() == "old"
    with fresh_folder(old, "bundle.json") as room:
        (room / "bundle.json").write_text("new")
    assert [path.name for path in old.iterdir()] == ["bundle.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_other_files_are_not_written_over(tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(BundleError, match="expected a new folder or an old segmenter to replace"):
        fresh_folder(tmp_path, "segmenter.json").__enter__()
    assert (tmp_path / "notes").read_text() == "mine"
