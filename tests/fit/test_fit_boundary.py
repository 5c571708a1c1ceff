"""The frozen part's output on disk: complete, resumable, and never in the way."""

from __future__ import annotations

import errno
import logging

import numpy as np
import pytest

from hepar.backbone import BACKBONES
from hepar.config import BackboneConfig, FinetuneConfig
from hepar.errors import ConfigError
from hepar.model import InputReader

pytestmark = pytest.mark.torch
pytest.importorskip("onnx")


@pytest.fixture
def values(pictures, part_of, tmp_path):
    from hepar.fit.boundary import boundary_values
    from hepar.fit.cut import cut_graph

    def make(cache="on", arrays=None, gb=8.0):
        part = part_of()
        reader = InputReader(pictures, part.recipe, views=2)
        cut = cut_graph(part.graph, BACKBONES.get("efficientnet_lite0").frozen_prefixes("early"))
        configs = (BackboneConfig(batch=8), FinetuneConfig(cache=cache, cache_gb=gb))
        return boundary_values(cut, arrays or part.weights, reader, configs, "key", tmp_path)

    return make


PAIRS = [(0, 0), (0, 1), (7, 1), (23, 0)]


def test_cached_values_are_fresh_ones_to_half_precision(values, tmp_path):
    fresh, cached = values("off")(PAIRS), values("on")(PAIRS)
    (file,) = tmp_path.glob("*.f16")
    assert file.stat().st_size == 24 * 2 * int(np.prod(fresh.shape[1:])) * 2
    np.testing.assert_allclose(cached, fresh, rtol=2e-3, atol=1e-3)
    assert not np.array_equal(fresh[0], fresh[1])


def test_a_cache_cut_short_anywhere_is_completed_to_the_same_bytes(values, tmp_path):
    values()
    (file,) = tmp_path.glob("*.f16")
    whole = file.read_bytes()
    for at in (0, 1, len(whole) // 3, len(whole) - 1):
        file.write_bytes(whole[:at])
        values()
        assert file.read_bytes() == whole


def test_a_full_disk_costs_the_cache_and_nothing_else(values, tmp_path, monkeypatch, caplog):
    from hepar.fit import boundary

    def full(_values):
        raise OSError(errno.ENOSPC, "No space left on device")

    expected = values("off")(PAIRS)
    monkeypatch.setattr(boundary, "_halved", full)
    with caplog.at_level(logging.WARNING, "hepar"):
        got = values()(PAIRS)
    assert "No space left on device; the frozen part runs every epoch" in caplog.text
    assert not list(tmp_path.glob("*.f16"))
    np.testing.assert_array_equal(got, expected)


def test_values_too_large_for_half_precision_are_not_cached(values, part_of, tmp_path, caplog):
    arrays = dict(part_of().weights)
    arrays["blocks.5.3.bn3.weight"] = arrays["blocks.5.3.bn3.weight"] * np.float32(1e6)
    with caplog.at_level(logging.WARNING, "hepar"):
        got = values(arrays=arrays)(PAIRS)
    assert "too large for float16" in caplog.text
    assert np.abs(got).max() > 65504
    assert not list(tmp_path.glob("*.f16"))


def test_auto_keeps_to_its_limit_and_other_words_are_refused(values, tmp_path):
    values("auto", gb=1e-6)
    assert not list(tmp_path.glob("*.f16"))
    with pytest.raises(ConfigError, match=r"finetune\.cache: expected auto, on or off, got 'yes'"):
        values("yes")
