"""A bundle of findings holds what its bundles share once, and reads the older form, too."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from hepar.data import LabelSet
from hepar.errors import BundleError
from hepar.model import LinearHead, load_findings, read_bundle, write_bundle, write_findings_bundle
from hepar.provenance import read_artefact, sha256_file, stamp, write_artefact

NAMES = ("fibrosis", "steatosis")


@pytest.fixture
def bundles(small_bundle, tmp_path):
    """A bundle a finding: one network, a head each."""
    folders = {}
    for seed, name in enumerate(NAMES):
        labels = LabelSet((f"no_{name}", name))
        rng = np.random.default_rng(seed)
        head = LinearHead(
            labels, np.zeros(1280), np.ones(1280), rng.normal(size=(2, 1280)), np.zeros(2), 1.0
        )
        folders[name] = tmp_path / "findings" / name / "bundle"
        write_bundle(folders[name], replace(small_bundle, labels=labels, head=head))
    return folders


@pytest.fixture
def together(bundles, tmp_path):
    write_findings_bundle(tmp_path / "bundle", bundles, stamp("test"))
    return tmp_path / "bundle"


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_network_is_stored_once_and_each_finding_reads_as_before(bundles, together):
    weights = size(bundles["fibrosis"])
    assert size(together) < 1.1 * weights
    assert len(list((together / "shared").iterdir())) == 2  # graph and weights
    loaded = load_findings(together)
    for name, folder in bundles.items():
        alone, own = read_bundle(folder), loaded.predictors[name].bundle
        assert own.labels == alone.labels
        assert own.parts[0].graph == alone.parts[0].graph
        for key, array in alone.parts[0].weights.items():
            np.testing.assert_array_equal(own.parts[0].weights[key], array)
        assert read_bundle(together / name).labels == alone.labels


def test_a_shared_file_that_changed_is_missing_or_does_not_belong_is_noticed(together):
    (path, *_) = sorted((together / "shared").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="altered or cut short"):
        load_findings(together)
    path.unlink()
    with pytest.raises(BundleError, match="needs the folder 'shared' beside it"):
        load_findings(together)
    path.write_bytes(content)
    load_findings(together)
    (together / "shared" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"of these bundles alone, got 'notes\.txt'"):
        load_findings(together)


def test_one_findings_folder_alone_asks_for_what_it_shared(together, tmp_path):
    shutil.copytree(together / "fibrosis", tmp_path / "elsewhere" / "fibrosis")
    with pytest.raises(BundleError, match="needs the folder 'shared' beside it"):
        read_bundle(tmp_path / "elsewhere" / "fibrosis")


def test_the_older_form_with_a_copy_a_finding_is_read(bundles, tmp_path):
    entries = []
    for name, folder in bundles.items():
        shutil.copytree(folder, tmp_path / "old" / name)
        seal = sha256_file(folder / "bundle.json")
        entries.append({"finding": name, "folder": name, "bundle_sha256": seal})
    content = {"findings": entries}
    write_artefact(tmp_path / "old" / "findings.json", "findings_bundle", content, stamp("test"))
    assert tuple(load_findings(tmp_path / "old").predictors) == NAMES
    assert read_artefact(tmp_path / "old" / "findings.json", "findings_bundle")
