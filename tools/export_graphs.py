"""Make `src/hepar/backbone/graphs/NAME.onnx` from timm and MONAI: architectures without weights.

Run as `python tools/export_graphs.py [NAME ...]`; it needs the extra [train], MONAI for networks
of volumes, and no network access.
Nothing is folded, fused or optimised, so every array keeps its state-dict name and any checkpoint
of the architecture can be bound to it; ONNX Runtime folds BatchNorm itself when it opens a session.
The same versions of torch and timm give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import onnx
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from hepar.backbone.catalog import BACKBONES, BackboneSpec
from hepar.backbone.graph import GRAPHS
from lesion_networks import DarkestPoint, LesionFinder

OPSET = 18


class MapsAndFeatures(nn.Module):
    """A network that answers its last feature maps and their mean over the picture or volume."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return maps (n, c, ...) and features (n, c) of images (n, 3, h, w) or (n, 1, d, h, w).

        A lesion finder answers what it knows of each pixel, too: it is trained on that.
        """
        if isinstance(self.network, LesionFinder):
            pixels = self.network.pixels(image)
            maps = self.network.maps(image, pixels)
            return maps, maps.mean((2, 3)), pixels
        maps = self.network.forward_features(image)
        pool = nn.functional.adaptive_avg_pool3d if maps.ndim == 5 else _pool_pictures
        return maps, pool(maps, 1).flatten(1)


_pool_pictures = nn.functional.adaptive_avg_pool2d


class SmallCnn(nn.Module):
    """The baseline that is trained from scratch: four times convolution, norm, ReLU, pooling."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 256)) -> None:
        super().__init__()
        self.depth = len(widths)
        for number, (before, width) in enumerate(pairwise((3, *widths)), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(before, width, 3, padding=1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))

    def forward_features(self, image: Tensor) -> Tensor:
        """Return maps (n, 256, h / 16, w / 16) of images (n, 3, h, w)."""
        for number in range(1, self.depth + 1):
            image = self.get_submodule(f"conv{number}")(image)
            image = nn.functional.relu(self.get_submodule(f"bn{number}")(image))
            image = nn.functional.max_pool2d(image, 2)
        return image


def densenet_3d() -> nn.Module:
    """Return MONAI's DenseNet121 for one channel of voxels, without its classifier."""
    from monai.networks.nets import DenseNet121

    network = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)
    del network.class_layers
    network.forward_features = lambda image: nn.functional.relu(network.features(image))
    return network


def resnet_3d(depth: int) -> nn.Module:
    """Return MONAI's ResNet for one channel of voxels, of which the first layer takes every second.

    Args:
        depth: layers, 10 or 18.
    """
    from monai.networks import nets

    make = {10: nets.resnet10, 18: nets.resnet18}[depth]
    network = make(spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=False)

    def forward_features(image: Tensor) -> Tensor:
        image = network.maxpool(network.act(network.bn1(network.conv1(image))))
        for number in range(1, 5):
            image = network.get_submodule(f"layer{number}")(image)
        return image

    network.forward_features = forward_features
    return network


OWN: Mapping[str, Callable[[Mapping[str, str]], nn.Module]] = {
    "small_cnn": lambda _: SmallCnn(),
    "lesion_finder": lambda kwargs: LesionFinder(int(kwargs.get("labels", 1))),
    "darkest_point": lambda _: DarkestPoint(),
    "densenet121_3d": lambda _: densenet_3d(),
    "resnet10_3d": lambda _: resnet_3d(10),
    "resnet18_3d": lambda _: resnet_3d(18),
}


def make_network(spec: BackboneSpec, create_kwargs: Mapping[str, str] | None = None) -> nn.Module:
    """Return a network in torch, untrained and without its classifier."""
    kwargs = spec.create_kwargs if create_kwargs is None else create_kwargs
    if not spec.timm_name:
        return OWN[spec.name](kwargs)
    network = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **kwargs)
    if spec.timm_name.startswith("vgg"):
        network.pre_logits = nn.Identity()
    return network


def replace_same_padding(network: nn.Module) -> set[str]:
    """Swap every convolution with TensorFlow's SAME padding for a plain one; return their names.

    The padding depends on the picture's size; traced, it would be a dozen nodes each. ONNX has an
    attribute for it, which `strip` sets.
    """
    names = {name for name, module in network.named_modules() if isinstance(module, Conv2dSame)}
    for name in names:
        conv = network.get_submodule(name)
        plain = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            padding=conv.kernel_size[0] // 2,
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, plain)
    return names


def strip(model: onnx.ModelProto, same: set[str]) -> onnx.ModelProto:
    """Return the model with state-dict names, numbered values, and none of the weights."""
    graph = model.graph
    weights = {tensor.name: tensor.name.removeprefix("network.") for tensor in graph.initializer}
    kept = {"image", "maps", "features", "pixels"}
    renamed: dict[str, str] = {"": ""}

    def rename(value: str) -> str:
        if value in kept:
            return value
        return renamed.setdefault(value, weights.get(value) or f"v{len(renamed)}")

    for number, node in enumerate(graph.node):
        kernel = weights.get(node.input[1], "") if node.op_type == "Conv" else ""
        if kernel.removesuffix(".weight") in same:
            attributes = [item for item in node.attribute if item.name != "pads"]
            del node.attribute[:]
            attributes.append(onnx.helper.make_attribute("auto_pad", "SAME_UPPER"))
            node.attribute.extend(sorted(attributes, key=lambda item: item.name))
        node.input[:] = map(rename, node.input)
        node.output[:] = map(rename, node.output)
        node.name = f"n{number}"
        node.doc_string = ""
        del node.metadata_props[:]
    placeholders = []
    for tensor in graph.initializer:
        empty = onnx.TensorProto(
            name=weights[tensor.name], data_type=tensor.data_type, dims=tensor.dims
        )
        empty.data_location = onnx.TensorProto.EXTERNAL
        empty.external_data.add(key="location", value="weights")
        placeholders.append(empty)
    del graph.initializer[:], graph.value_info[:], model.metadata_props[:]
    graph.initializer.extend(placeholders)
    graph.name = "backbone"
    model.producer_name = model.producer_version = model.doc_string = graph.doc_string = ""
    return model


def export(spec: BackboneSpec, create_kwargs: Mapping[str, str]) -> bytes:
    """Return the ONNX file of an architecture, its weights left out.

    Args:
        spec: which network.
        create_kwargs: of `timm.create_model`.
    """
    network = make_network(spec, create_kwargs)
    outputs = ["maps", "features", *(["pixels"] if isinstance(network, LesionFinder) else [])]
    same = replace_same_padding(network)
    with torch.no_grad():  # the exporter merges arrays of equal content into one
        for number, array in enumerate([*network.parameters(), *network.buffers()]):
            array.fill_(number)
    stream = io.BytesIO()
    image = torch.zeros(2, *spec.input_shape(max(96, spec.min_size)))
    places = dict(enumerate(("depth", "height", "width")[5 - image.ndim :], start=2))
    cells = dict(enumerate(("planes", "rows", "columns")[5 - image.ndim :], start=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            MapsAndFeatures(network).eval(),
            (image,),
            stream,
            dynamo=False,  # the newer exporter takes minutes and wraps every operator
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fuse BatchNorm away
            input_names=["image"],
            output_names=outputs,
            dynamic_axes={
                "image": {0: "n", **places},
                "maps": {0: "n", **cells},
                "features": {0: "n"},
                **({"pixels": {0: "n", 2: "height", 3: "width"}} if "pixels" in outputs else {}),
            },
        )
    model = strip(onnx.load_from_string(stream.getvalue()), same)
    return model.SerializeToString(deterministic=True)


def graphs_of(spec: BackboneSpec) -> dict[str, Mapping[str, str]]:
    """Return graph name -> create_kwargs of every way a network can be made."""
    ways = [spec.create_kwargs, *spec.variants.values()]
    return {spec.graph_name(way): way for way in ways}


def main() -> int:
    """Write the graphs that are asked for, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="backbones; none for all")
    parser.add_argument("--to", type=Path, default=GRAPHS, help="folder to write to")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or BACKBONES:
        spec = BACKBONES.get(name)
        for graph, create_kwargs in graphs_of(spec).items():
            content = export(spec, create_kwargs)
            (arguments.to / f"{graph}.onnx").write_bytes(content)
            sys.stdout.write(f"{graph}.onnx  {len(content):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
