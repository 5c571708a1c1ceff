"""Stained tiles: what is said of them is in them, and laboratories differ in colour alone."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from hepar.errors import PhantomError
from hepar.phantom import FINDINGS, TileConfig, make_tiles, write_tiles
from hepar.phantom.tissue import draw_tissue

SMALL = TileConfig(patients=8, tiles=2, size=96, seed=5)


def tissue(*shown, seed=0):
    return draw_tissue(np.random.default_rng(seed), 192, shown, 0.3)


def table(folder):
    with (folder / "index.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    write_tiles(folder, SMALL)
    return folder


def test_a_patient_does_not_depend_on_the_others():
    alone = make_tiles(SMALL, 3)
    among_many = make_tiles(dataclasses.replace(SMALL, patients=40), 3)
    for one, other in zip(alone, among_many, strict=True):
        assert (one.slide_id, one.shown) == (other.slide_id, other.shown)
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_half_of_the_patients_have_each_finding_and_every_slide_of_theirs_shows_it(written):
    rows = table(written)
    assert len(rows) == 8 * 2 * 2
    for finding in FINDINGS:
        has = {row["patient_id"] for row in rows if row[finding] == "1"}
        assert len(has) == 4
        slides = {row["slide_id"] for row in rows if row["patient_id"] in has}
        assert slides == {row["slide_id"] for row in rows if row[finding] == "1"}


@pytest.mark.parametrize("seed", range(3))
def test_each_finding_changes_the_tissue_as_it_should(seed):
    plain = tissue(seed=seed)
    empty = (plain.eosin < 0.08).mean()
    dark = (plain.haematoxylin > 1.25).mean()
    assert (tissue("steatosis", seed=seed).eosin < 0.08).mean() > empty + 0.03
    assert (tissue("inflammation", seed=seed).haematoxylin > 1.25).mean() > dark + 0.01
    pale = (tissue("ballooning", seed=seed).eosin < 0.3).mean()
    assert pale > (plain.eosin < 0.3).mean() + 0.02
    collagen = (np.abs(tissue("fibrosis", seed=seed).haematoxylin - 0.24) < 0.04).mean()
    assert collagen > (np.abs(plain.haematoxylin - 0.24) < 0.04).mean() + 0.03


def test_laboratories_have_their_own_colours_and_one_is_held_out(written):
    rows = table(written)
    assert {row["laboratory"] for row in rows if row["partition"] == "test"} == {"C"}
    assert {row["laboratory"] for row in rows if row["partition"] == "train"} == {"A", "B"}
    means = {
        letter: np.mean([t.pixels.mean((0, 1)) for n in own for t in make_tiles(SMALL, n)], axis=0)
        for letter, own in {"A": (1, 4, 7), "B": (2, 5, 8), "C": (3, 6)}.items()
    }
    gaps = [np.abs(means[a] - means[b]).max() for a, b in ("AB", "BC", "AC")]
    assert min(gaps) > 5  # of 255


def test_a_cohort_is_kept_and_another_one_refused(written):
    before = (written / "index.csv").stat().st_mtime_ns
    write_tiles(written, SMALL)
    assert (written / "index.csv").stat().st_mtime_ns == before
    with pytest.raises(PhantomError, match="expected no cohort or this one, got another"):
        write_tiles(written, dataclasses.replace(SMALL, seed=6))


@pytest.mark.parametrize("wrong", [{"patients": 3}, {"size": 8}, {"laboratories": 10}])
def test_a_cohort_that_cannot_be_is_refused(wrong):
    with pytest.raises(PhantomError, match=rf"{next(iter(wrong))}: expected a whole number from"):
        TileConfig(**wrong)
    with pytest.raises(PhantomError, match=r"difficulty: expected 0 \(easy\) to 1"):
        TileConfig(difficulty=2)
