"""Maps in closed form against the reference package, on real layers."""

from __future__ import annotations

import numpy as np
import pytest

from hepar.data import LabelSet
from hepar.explain.cam import METHODS, grad_cam
from hepar.model import DenseHead, LinearHead

LABELS = LabelSet(("normal", "benign", "malignant"))
D, H, W = 6, 5, 4


def linear():
    rng = np.random.default_rng(1)
    return LinearHead(
        LABELS,
        rng.normal(size=D),
        rng.uniform(0.5, 2, D),
        rng.normal(size=(3, D)),
        rng.normal(size=3),
        1.0,
    )


def dense():
    rng = np.random.default_rng(2)
    shapes = [(8, D), (3, 8)]
    layers = [(rng.normal(size=s), rng.normal(size=s[0])) for s in shapes]
    return DenseHead(LABELS, tuple((w.astype("f4"), b.astype("f4")) for w, b in layers))


def reference(head, method, image, label):
    """Return the package's map before it scales it, of a network that ends in our head."""
    torch = pytest.importorskip("torch")
    cam = pytest.importorskip("pytorch_grad_cam")

    class Centred(torch.nn.Module):
        def forward(self, scores):
            return scores - scores.mean(dim=1, keepdim=True)

    class Standard(torch.nn.Module):
        def forward(self, maps):
            mean, scale = (torch.tensor(a, dtype=torch.float32) for a in (head.mean, head.scale))
            return (maps - mean[:, None, None]) / scale[:, None, None]

    standard = isinstance(head, LinearHead)
    layers = [(head.weight, head.bias)] if standard else head.layers
    tail = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    for number, (weight, bias) in enumerate(layers):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data = torch.tensor(np.asarray(weight), dtype=torch.float32)
        layer.bias.data = torch.tensor(np.asarray(bias), dtype=torch.float32)
        tail += [torch.nn.ReLU(), layer] if number else [layer]
    torch.manual_seed(0)
    stem = torch.nn.Sequential(torch.nn.Conv2d(3, D, 3), torch.nn.Sigmoid())
    target = Standard() if standard else torch.nn.Identity()
    network = torch.nn.Sequential(stem, target, *tail, Centred()).eval()
    kind = {"grad-cam": cam.GradCAM, "hirescam": cam.HiResCAM, "grad-cam++": cam.GradCAMPlusPlus}
    layer = stem if method == "grad-cam++" else target
    tensor = torch.tensor(image)
    with kind[method](model=network, target_layers=[layer]) as made:
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        made(tensor, [ClassifierOutputTarget(label)])
        stored = made.activations_and_grads
        found = made.get_cam_image(
            tensor,
            layer,
            None,
            stored.activations[0].cpu().numpy(),
            stored.gradients[0].cpu().numpy(),
            eigen_smooth=False,
        )
    with torch.no_grad():
        maps = stem(tensor).numpy()
    return found[0], maps[0]


@pytest.mark.torch
@pytest.mark.parametrize("head", [linear(), dense()])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", [0, 2])
def test_maps_are_those_of_the_reference_package(head, method, label):
    image = np.random.default_rng(3).normal(size=(1, 3, H + 2, W + 2)).astype(np.float32)
    expected, maps = reference(head, method, image, label)
    slope = head.slope(maps.mean(axis=(1, 2))[None].astype(np.float64))
    found = METHODS.get(method)(maps, slope.gradient[0], slope.zero[0])[label]
    assert found.shape == (H, W)
    if method != "grad-cam++":
        found = found / (H * W)  # our cells are in log-odds: their mean is the score
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


def test_the_mean_over_the_cells_is_the_score_of_a_linear_head_but_for_a_constant():
    head, rng = linear(), np.random.default_rng(4)
    rest = []
    for _ in range(3):
        maps = rng.normal(size=(D, H, W)).astype(np.float32)
        pooled = maps.mean(axis=(1, 2))[None].astype(np.float64)
        slope = head.slope(pooled)
        cells = grad_cam(maps, slope.gradient[0], slope.zero[0])
        logs = np.log(head.probabilities(pooled))[0]
        rest.append(logs - logs.mean() - cells.mean(axis=(1, 2)))
    np.testing.assert_allclose(rest, np.repeat(rest[:1], 3, axis=0), atol=1e-5)
