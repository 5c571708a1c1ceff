"""Every registered backbone through the same checks, and against timm or MONAI in torch."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from hepar.backbone import BACKBONES, Network, find_weights
from hepar.backbone.graph import parameters, read_graph
from hepar.errors import BackboneError

NAMES = list(BACKBONES)
TOOLS = Path(__file__).resolve().parents[2] / "tools"


def images(name: str, side: int, n: int = 2) -> np.ndarray:
    shape = BACKBONES.get(name).input_shape(side)
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def over_places(maps: np.ndarray) -> np.ndarray:
    return maps.mean(axis=tuple(range(2, maps.ndim)))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def network(name):
    return Network.from_weights(find_weights(name, "random"))


def test_maps_and_features_have_the_catalogs_shape(name, network):
    spec = BACKBONES.get(name)
    maps, features = network.maps_and_features(images(name, spec.input_size, 1))
    assert maps.shape == (1, *spec.maps_shape)
    assert features.shape == (1, spec.feature_dim)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features, over_places(maps), rtol=1e-4, atol=1e-6)


def test_an_image_is_answered_alike_in_any_company(name, network):
    batch = images(name, BACKBONES.get(name).min_size + 32, 3)
    together = network.features(batch)
    np.testing.assert_array_equal(network.features(batch[1:2]), together[1:2])
    np.testing.assert_array_equal(network.features(batch), together)


def test_freeze_boundaries_cover_every_parameter_once(name):
    spec = BACKBONES.get(name)
    stages = list(spec.freeze_boundaries.values())
    for parameter in parameters(read_graph(name)):
        owners = [stage for stage in stages if parameter.startswith(stage)]
        assert len(owners) == 1, parameter
    for stage in stages:
        assert any(parameter.startswith(stage) for parameter in parameters(read_graph(name)))


def test_the_catalogs_parameter_count_is_the_graphs(name):
    shapes = parameters(read_graph(name))
    count = sum(
        np.prod(shape, dtype=int)
        for key, shape in shapes.items()
        if not key.endswith(("running_mean", "running_var"))
    )
    assert BACKBONES.get(name).params_millions == pytest.approx(count / 1e6, abs=0.006)


def export_tool():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.util.spec_from_file_location("export_graphs", TOOLS / "export_graphs.py")
        tool = importlib.util.module_from_spec(found)
        found.loader.exec_module(tool)
    return tool


def timm_network(name, kwargs=None):
    """Return timm's network (or our own) without classifier, and torch."""
    torch = pytest.importorskip("torch")
    if BACKBONES.get(name).depth:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip("monai")
    return torch, export_tool().make_network(BACKBONES.get(name), kwargs).eval()


@pytest.mark.torch
def test_the_catalogs_gflops_are_what_torch_counts(name):
    """Counted on tensors without numbers, at the network's own size; 2 per multiply-add."""
    torch, network = timm_network(name)
    from torch.utils.flop_counter import FlopCounterMode

    spec = BACKBONES.get(name)
    image = torch.empty(1, *spec.input_shape(spec.input_size), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.to("meta").forward_features(image)
    assert spec.gflops == pytest.approx(counter.get_total_flops() / 1e9, rel=0.02)


def parity(weights, name, side, kwargs=None):
    torch, reference = timm_network(name, kwargs)
    state = {k: torch.from_numpy(v.astype(np.float32)) for k, v in weights.arrays.items()}
    result = reference.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)
    batch = images(name, side)
    with torch.inference_mode():
        expected = reference.forward_features(torch.from_numpy(batch)).numpy()
    maps, features = Network.from_weights(weights).maps_and_features(batch)
    for ours, theirs in ((maps, expected), (features, over_places(expected))):
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-4


@pytest.mark.torch
def test_random_weights_give_what_timm_or_monai_gives(name):
    side = 139 if name == "inception_v3" else 96
    parity(find_weights(name, "random"), name, side)


@pytest.mark.torch
@pytest.mark.real_ct
@pytest.mark.parametrize("side", [224, 225, 161])
@pytest.mark.parametrize(
    ("name", "file", "kwargs"),
    [
        ("efficientnet_lite0", "tf_efficientnet_lite0", None),
        ("mobilenetv2", "mobilenetv2_100", {"pad_type": "same"}),
        ("vgg16", "vgg16", None),
    ],
)
def test_real_weights_give_what_timm_gives(real_ct, name, file, kwargs, side):
    path = real_ct.parent / "weights" / f"{file}.safetensors"
    parity(find_weights(name, str(path)), name, side, kwargs)


@pytest.mark.torch
def test_a_whole_timm_checkpoint_loads(name, tmp_path):
    """As timm's hub has it: with classifier, auxiliary head and BatchNorm's counters."""
    torch, _ = timm_network(name)
    if not BACKBONES.get(name).timm_name:
        pytest.skip("a network of our own has no checkpoint")
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model(BACKBONES.get(name).timm_name, num_classes=10)
    state = {k: v.contiguous() for k, v in whole.state_dict().items()}
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
        tmp_path / "m.safetensors",
    )
    weights = find_weights(name, str(tmp_path / "m.safetensors"))
    assert set(weights.arrays) == set(parameters(read_graph(name)))
    assert torch.is_tensor(next(iter(state.values())))


@pytest.mark.torch
def test_a_whole_checkpoint_of_monai_loads_and_answers_as_it_does(name, tmp_path):
    """As MONAI saves it: with classifier and BatchNorm's counters."""
    torch, network = timm_network(name)
    if not BACKBONES.get(name).depth:
        pytest.skip("a network of pictures")
    from safetensors.torch import save_file

    for number, value in enumerate(network.state_dict().values()):
        if value.is_floating_point() and value.ndim == 1:
            value += 0.01 * (number % 7)
    classifier = BACKBONES.get(name).ignored[0]
    state = {k: v.contiguous().clone() for k, v in network.state_dict().items()}
    state[f"{classifier}out.weight"] = torch.zeros(2, 8)
    save_file(state, tmp_path / "m.safetensors")
    weights = find_weights(name, str(tmp_path / "m.safetensors"))
    assert not weights.is_random
    parity(weights, name, 96)
    state.pop(next(iter(state)))
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(BackboneError, match=f"expected MONAI's names of {name}, got .* missing"):
        find_weights(name, str(tmp_path / "less.safetensors"))


@pytest.mark.torch
@pytest.mark.slow
def test_the_committed_graphs_are_what_the_tool_exports(name):
    pytest.importorskip("torch")
    tool = export_tool()
    spec = BACKBONES.get(name)
    for graph, kwargs in tool.graphs_of(spec).items():
        assert tool.export(spec, kwargs) == read_graph(graph)


@pytest.mark.torch
def test_the_segmenters_graph_is_what_the_tool_exports():
    pytest.importorskip("torch")
    assert export_tool().export_segmenter() == read_graph("liver_unet")


@pytest.mark.torch
def test_the_segmenter_is_trained_and_run_as_one_network():
    torch = pytest.importorskip("torch")
    from hepar.backbone import untrained_arrays
    from hepar.fit.cut import cut_graph
    from hepar.fit.differentiable import Tail

    graph = read_graph("liver_unet")
    arrays = untrained_arrays(graph)
    tail = Tail(cut_graph(graph, ()), arrays, output="logits")
    batch = images("efficientnet_lite0", 96)
    with torch.inference_mode():
        trained = tail(torch.from_numpy(batch), training=False).numpy()
    run = Network(graph, arrays).value("logits", batch)
    np.testing.assert_allclose(trained, run, rtol=1e-3, atol=1e-3 * np.abs(run).max())
