from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepar.audit import find_links, join, near_pairs


def moved(image, turn=0.0, zoom=1.0, shift=(0.0, 0.0)):
    n = len(image)
    matrix = cv2.getRotationMatrix2D((n / 2, n / 2), turn, zoom)
    matrix[:, 2] += np.multiply(shift, n)
    return cv2.warpAffine(image, matrix, (n, n))


def noisy(image):
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


COPIES = {
    "re-encoded": lambda i: cv2.imdecode(cv2.imencode(".jpg", i, [1, 40])[1], 0),
    "resized": lambda i: cv2.resize(i, (64, 64), interpolation=cv2.INTER_AREA),
    "brightened": lambda i: np.clip(i * 1.2 + 10, 0, 255).astype(np.uint8),
    "gamma": lambda i: (255 * (i / 255.0) ** 0.7).astype(np.uint8),
    "noisy": noisy,
    "shifted": lambda i: moved(i, shift=(0.05, -0.04)),
    "turned": lambda i: moved(i, turn=8),
    "zoomed": lambda i: moved(i, zoom=1.1),
    "augmented": lambda i: np.clip(moved(i, 6, 1.05, (0.03, -0.02)) * 1.1, 0, 255).astype(np.uint8),
    "mirrored": lambda i: np.ascontiguousarray(i[:, ::-1]),
    "upside down": lambda i: np.ascontiguousarray(i[::-1]),
}


@pytest.fixture(scope="module")
def bodies(body):
    """Twenty different patients."""
    return [body(seed) for seed in range(20)]


def planted(bodies, copy, looks_of):
    """Looks of twenty patients and a copy of patient 7, whose features are near the original's."""
    features = np.eye(21, 64, dtype=np.float32)
    features[20, 7] = 2.0
    return looks_of([*bodies, copy], features)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_under_another_patient_is_found(bodies, looks_of, kind):
    looks = planted(bodies, COPIES[kind](bodies[7]), looks_of)
    links = find_links(looks, np.arange(21))
    assert [(link.a, link.b, link.kind) for link in links] == [(7, 20, "copy")]
    mirrored = {"mirrored": "left-right", "upside down": "upside down"}
    assert links[0].mirrored == mirrored.get(kind, "")


def test_different_patients_are_not_linked(bodies, looks_of):
    assert find_links(looks_of(bodies), np.arange(20)) == ()
    assert find_links(looks_of(bodies)) == ()


def test_equal_pixels_are_exact_copies_and_those_of_one_patient_are_nobodys_business(
    bodies, looks_of
):
    looks = looks_of([*bodies, bodies[3]])
    (link,) = find_links(looks, np.arange(21))
    assert (link.a, link.b, link.kind, link.similarity) == (3, 20, "exact", 1.0)
    same = np.arange(21)
    same[20] = 3
    assert find_links(looks, same) == ()


def test_neighbours_are_told_where_patients_are_unknown_and_join_a_patients_slices(body, looks_of):
    images = [body(seed, z) for seed in range(4) for z in range(5)]
    links = find_links(looks_of(images))
    group = join(20, [(link.a, link.b) for link in links])
    for patient in range(4):
        own = set(group[5 * patient : 5 * patient + 5].tolist())
        others = set(np.delete(group, np.s_[5 * patient : 5 * patient + 5]).tolist())
        assert not own & others
    assert len(set(group.tolist())) <= 6
    known = np.repeat(np.arange(4), 5)
    assert find_links(looks_of(images), known) == ()


def test_slices_alike_by_features_alone_are_told_where_patients_are_unknown(bodies, looks_of):
    features = np.random.default_rng(1).normal(size=(20, 64))
    features[9] = features[4] * 1.1
    links = find_links(looks_of(bodies, features))
    assert [(link.a, link.b, link.kind) for link in links] == [(4, 9, "alike")]


def test_the_order_of_the_samples_does_not_matter(bodies, looks_of):
    looks = planted(bodies, COPIES["shifted"](bodies[7]), looks_of)
    order = np.random.default_rng(2).permutation(21)
    turned = type(looks)(
        tuple(looks.hashes[i] for i in order), looks.thumbnails[order], looks.features[order]
    )
    (link,) = find_links(turned, np.arange(21))
    assert {order[link.a], order[link.b]} == {7, 20}


def test_near_pairs_are_those_of_a_full_comparison():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 8)).astype(np.float32)
    units = rng.integers(0, 60, 300)
    a, b, cosine = near_pairs(rows, units, k=299, least=0.8)
    scaled = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    full = scaled @ scaled.T
    wanted = np.argwhere(np.triu((full >= 0.8) & (units[:, None] != units), 1))
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == set(map(tuple, wanted.tolist()))
    np.testing.assert_allclose(cosine, full[a, b], atol=1e-5)


@pytest.mark.slow
def test_planted_twins_are_found_among_many_rows():
    """Above 20,000 rows the search is approximate; twins this close are in one cell or the next."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(30_000, 32)).astype(np.float32)
    rows[20_000:20_500] = rows[:500] + rng.normal(0, 0.05, (500, 32))
    a, b, _ = near_pairs(rows, np.arange(30_000), k=3, least=0.95)
    found = {(i, j) for i, j in zip(a.tolist(), b.tolist(), strict=True) if j - i == 20_000}
    assert len(found) >= 490


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_groups_are_a_partition_that_holds_every_link(pairs):
    group = join(10, pairs)
    assert group.shape == (10,)
    assert all(group[a] == group[b] for a, b in pairs)
    assert sorted(set(group.tolist())) == list(range(group.max() + 1))
    alone = set(range(10)) - {i for pair in pairs for i in pair if pair[0] != pair[1]}
    assert all((group == group[i]).sum() == 1 for i in alone)


@pytest.mark.parametrize("sizes", [[1] * 60, [5] * 12, [40, 10, 10], [58, 1, 1]])
def test_the_nearest_outside_a_unit_are_found_whatever_its_size(sizes):
    rows = np.random.default_rng(len(sizes)).normal(size=(60, 6)).astype(np.float32)
    units = np.repeat(np.arange(len(sizes)), sizes)
    a, b, cosine = near_pairs(rows, units, k=3, least=-2.0)
    scaled = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = np.where(units[:, None] == units, -np.inf, scaled @ scaled.T)
    nearest = np.argsort(-likeness, axis=1)[:, :3]
    wanted = {
        tuple(sorted((i, int(j))))
        for i in range(60)
        for j in nearest[i]
        if np.isfinite(likeness[i, j])
    }
    assert set(zip(a.tolist(), b.tolist(), strict=True)) == wanted
    np.testing.assert_allclose(cosine, likeness[a, b], atol=1e-5)
