"""Features do not depend on workers, threads, order, batch, or where a run was killed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hepar.backbone import Network, extract_features, find_weights
from hepar.errors import BackboneError

N = 21
KEYS = [f"{i:064x}" for i in range(N)]


@pytest.fixture(scope="module")
def network():
    return Network.from_weights(find_weights("efficientnet_lite0"))


def image(i: int) -> np.ndarray:
    return np.random.default_rng(i).normal(size=(3, 64, 64)).astype(np.float32)


def load(positions):
    return [image(i) for i in positions]


@pytest.fixture(scope="module")
def reference(network):
    return np.concatenate([network.features(image(i)[None]) for i in range(N)])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("batch", [1, 4, 32])
def test_batch_and_workers_change_no_bit(network, reference, workers, batch):
    rows = extract_features(network, "k", KEYS, load, batch=batch, workers=workers)
    np.testing.assert_array_equal(rows, reference)


def test_threads_change_no_bit(reference):
    one = Network.from_weights(find_weights("efficientnet_lite0"), threads=1)
    np.testing.assert_array_equal(extract_features(one, "k", KEYS, load), reference)


def test_order_changes_no_bit(network, reference, tmp_path):
    order = np.random.default_rng(0).permutation(N)
    rows = extract_features(
        network,
        "k",
        [KEYS[i] for i in order],
        lambda positions: [image(order[i]) for i in positions],
        cache=tmp_path,
    )
    np.testing.assert_array_equal(rows, reference[order])


def test_what_is_cached_is_not_computed_again(network, reference, tmp_path):
    extract_features(network, "k", KEYS[:13], load, cache=tmp_path)
    seen: list[int] = []

    def watched(positions):
        seen.extend(positions)
        return load(positions)

    rows = extract_features(network, "k", KEYS, watched, cache=tmp_path)
    assert sorted(seen) == list(range(13, N))
    np.testing.assert_array_equal(rows, reference)


def test_another_key_shares_nothing(network, tmp_path):
    extract_features(network, "k", KEYS[:2], load, cache=tmp_path)
    with pytest.raises(ZeroDivisionError):
        extract_features(network, "other", KEYS[:2], lambda _: 1 / 0, cache=tmp_path)


def test_a_damaged_chunk_is_computed_again(network, reference, tmp_path):
    extract_features(network, "k", KEYS, load, cache=tmp_path)
    (chunk,) = tmp_path.rglob("*.npz")
    chunk.write_bytes(chunk.read_bytes()[:-200])
    rows = extract_features(network, "k", KEYS, load, cache=tmp_path)
    np.testing.assert_array_equal(rows, reference)


def test_a_run_that_breaks_keeps_whole_chunks_only(network, reference, tmp_path, monkeypatch):
    monkeypatch.setattr("hepar.backbone.features._ROWS_A_CHUNK", 4)

    def breaks(positions):
        if 12 in positions:
            raise RuntimeError("power cut")
        return load(positions)

    with pytest.raises(RuntimeError, match="power cut"):
        extract_features(network, "k", KEYS, breaks, cache=tmp_path, batch=4, workers=1)
    assert len(list(tmp_path.rglob("*.npz"))) in {2, 3}
    assert not list(tmp_path.rglob("*.tmp"))
    rows = extract_features(network, "k", KEYS, load, cache=tmp_path)
    np.testing.assert_array_equal(rows, reference)


def test_a_run_that_breaks_keeps_the_rows_before_the_break(network, tmp_path):
    def breaks(positions):
        if 12 in positions:
            raise RuntimeError("power cut")
        return load(positions)

    with pytest.raises(RuntimeError, match="power cut"):
        extract_features(network, "k", KEYS, breaks, cache=tmp_path, batch=4, workers=1)
    extract_features(network, "k", KEYS[:12], lambda _: 1 / 0, cache=tmp_path)


def test_few_parts_wait_in_memory(network):
    lock, loaded, used = threading.Lock(), [0], [0]
    most = [0]

    def counting(positions):
        with lock:
            loaded[0] += 1
            most[0] = max(most[0], loaded[0] - used[0])
        return load(positions)

    class Counted:
        def features(self, images):
            with lock:
                used[0] += 1
            return network.features(images)

    extract_features(Counted(), "k", KEYS, counting, batch=1, workers=2)
    assert most[0] <= 4


def test_no_batch_is_refused(network):
    with pytest.raises(BackboneError, match=r"backbone.batch: expected 1 image or more, got 0"):
        extract_features(network, "k", KEYS, load, batch=0)
