"""Folders of files that belong together: a JSON that names them all, sealed by hashes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hepar.errors import BundleError, DataError
from hepar.provenance import digest, read_artefact, sha256_file

__all__ = ["SHARED", "check_files", "fresh_folder", "place_of", "read_sealed", "seal"]

SHARED = "shared"
"""Folder beside bundles, of files that several of them hold, each called by its SHA-256."""

_COPY = "Copy the bundle again from where it was made."


@contextmanager
def fresh_folder(folder: Path, document: str) -> Iterator[Path]:
    """Yield an empty folder that, once filled, takes the place of another; or nothing changes.

    Args:
        folder: new or empty, or one that holds `document` and is replaced.
        document: file that tells what the folder is, such as "bundle.json".

    Raises:
        BundleError: the folder holds other files.
    """
    kind = document.removesuffix(".json")
    if folder.exists() and not (folder / document).exists() and any(folder.iterdir()):
        raise BundleError(
            f"{folder}: expected a new folder or an old {kind} to replace, got other files. "
            "Choose another folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        room = Path(name) / kind
        room.mkdir()
        yield room
        if folder.exists():
            folder.replace(Path(name) / "old")
        room.replace(folder)


def seal(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a document's content, its own seal apart."""
    unsealed = {"seal", "kind", "schema_version"}
    return digest({key: value for key, value in document.items() if key not in unsealed})


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """Return a sealed document.

    Raises:
        BundleError: it is missing, of another kind, or altered since it was written.
    """
    try:
        document = read_artefact(path, kind)
    except DataError as error:
        raise BundleError(str(error)) from error
    if document.get("seal") != seal(document):
        raise BundleError(f"{path}: expected the file as written, got one altered since. {_COPY}")
    return document


def place_of(folder: Path, file: str, sha256: str) -> Path:
    """Return where a bundle's file lies: in its folder, or once for several beside it."""
    own, shared = folder / file, folder.parent / SHARED / sha256
    return shared if shared.is_file() and not own.exists() else own


def check_files(folder: Path, hashes: Mapping[str, str], more: Iterable[str]) -> None:
    """Refuse a folder that does not hold exactly the files that it should.

    Args:
        folder: of the bundle; files may lie in `SHARED` beside it.
        hashes: file -> SHA-256.
        more: files that are sealed otherwise.

    Raises:
        BundleError: a file is missing, added, altered or cut short.
    """
    places = {file: place_of(folder, file, sha256) for file, sha256 in hashes.items()}
    elsewhere = [file for file, place in places.items() if place.parent != folder]
    found = sorted([*(path.name for path in folder.iterdir()), *elsewhere])
    expected = sorted([*hashes, *more])
    if found != expected:
        raise BundleError(
            f"{folder}: expected the files {expected}, got {found}. {_COPY} One finding of several "
            f"needs the folder {SHARED!r} beside it."
        )
    for file, sha256 in hashes.items():
        if sha256_file(places[file]) != sha256:
            raise BundleError(
                f"{places[file]}: expected SHA-256 {sha256[:12]}..., got another; the file was "
                f"altered or cut short. {_COPY}"
            )
