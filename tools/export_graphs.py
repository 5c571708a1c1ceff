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

import numpy as np
import onnx
import timm
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from hepar.backbone.catalog import BACKBONES, BackboneSpec
from hepar.backbone.graph import GRAPHS
from lesion_networks import DarkestPoint, LesionFinder
from segmentation_networks import LiverUnet

OPSET = 18


class Logits(nn.Module):
    """A segmenter that answers a logit a pixel."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (n, 1, h / 2, w / 2) of images (n, 3, h, w)."""
        return self.network(image)


class MapsAndFeatures(nn.Module):
    """A network that answers its last feature maps and their mean over the picture or volume."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return maps (n, c, ...) and features (n, c) of images (n, 3, h, w) or (n, 1, d, h, w).

        A lesion finder answers what it knows of each pixel, too: it is trained on that; and how
        likely each is a lesion.
        """
        if isinstance(self.network, LesionFinder):
            pixels = self.network.pixels(image)
            likely = self.network.likely(image, pixels)
            maps = self.network.maps(image, pixels)
            return maps, maps.mean((2, 3)), pixels, likely
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


def with_joined_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every concatenation of constants written as one constant."""
    known: dict[str, onnx.NodeProto] = {}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Concat" and all(name in known for name in node.input):
            parts = [onnx.numpy_helper.to_array(known[n].attribute[0].t) for n in node.input]
            joined = onnx.numpy_helper.from_array(np.concatenate(parts))
            nodes = [other for other in nodes if not set(other.output) & set(node.input)]
            node = onnx.helper.make_node("Constant", [], list(node.output), value=joined)
        if node.op_type == "Constant":
            known[node.output[0]] = node
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def strip(model: onnx.ModelProto, same: set[str]) -> onnx.ModelProto:
    """Return the model with state-dict names, numbered values, and none of the weights."""
    graph = model.graph
    weights = {tensor.name: tensor.name.removeprefix("network.") for tensor in graph.initializer}
    kept = {"image", *(output.name for output in graph.output)}
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
    outputs = [
        "maps",
        "features",
        *(["pixels", "likely"] if isinstance(network, LesionFinder) else []),
    ]
    image = torch.zeros(2, *spec.input_shape(max(96, spec.min_size)))
    return write_graph(network, MapsAndFeatures(network), outputs, image)


def export_segmenter() -> bytes:
    """Return the ONNX file of the liver segmenter, its weights left out."""
    network = LiverUnet()
    return write_graph(network, Logits(network), ["logits"], torch.zeros(2, 3, 96, 96))


CELLS = ("planes", "rows", "columns")
AXES = {
    "features": (),
    "pixels": ("height", "width"),
    "likely": ("height", "width"),
}
"""Names of an output's free axes after the second; other outputs have those of cells."""


def write_graph(network: nn.Module, asked: nn.Module, outputs: list[str], image: Tensor) -> bytes:
    """Return the ONNX file of a network.

    Args:
        network: whose arrays are left out.
        asked: holds it as `network`, and gives the outputs.
        outputs: their names.
        image: (n, c, h, w) or (n, c, d, h, w) that it is traced with.
    """
    same = replace_same_padding(network)
    with torch.no_grad():  # the exporter merges arrays of equal content into one
        for number, array in enumerate([*network.parameters(), *network.buffers()]):
            array.fill_(number)
    stream = io.BytesIO()
    places = dict(enumerate(("depth", "height", "width")[5 - image.ndim :], start=2))
    axes = {
        name: {0: "n", **dict(enumerate(AXES.get(name, CELLS[5 - image.ndim :]), 2))}
        for name in outputs
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            asked.eval(),
            (image,),
            stream,
            dynamo=False,  # the newer exporter takes minutes and wraps every operator
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fuse BatchNorm away
            input_names=["image"],
            output_names=outputs,
            dynamic_axes={"image": {0: "n", **places}, **axes},
        )
    model = strip(with_joined_constants(onnx.load_from_string(stream.getvalue())), same)
    return model.SerializeToString(deterministic=True)


def graphs_of(spec: BackboneSpec) -> dict[str, Mapping[str, str]]:
    """Return graph name -> create_kwargs of every way a network can be made."""
    ways = [spec.create_kwargs, *spec.variants.values()]
    return {spec.graph_name(way): way for way in ways}


def write(folder: Path, name: str, content: bytes) -> None:
    """Write a graph and say how large it is."""
    (folder / f"{name}.onnx").write_bytes(content)
    sys.stdout.write(f"{name}.onnx  {len(content):,} bytes\n")


def main() -> int:
    """Write the graphs that are asked for, or all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="backbones; none for all")
    parser.add_argument("--to", type=Path, default=GRAPHS, help="folder to write to")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or [*BACKBONES, "liver_unet"]:
        if name == "liver_unet":
            write(arguments.to, name, export_segmenter())
            continue
        spec = BACKBONES.get(name)
        for graph, create_kwargs in graphs_of(spec).items():
            write(arguments.to, graph, export(spec, create_kwargs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
