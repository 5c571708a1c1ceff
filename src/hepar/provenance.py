"""Who made this file: hashes, versions, seed, command; and the atomic write every room uses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from hepar.errors import DataError

__all__ = [
    "SCHEMA_VERSION",
    "atomic_writer",
    "canonical_json",
    "command_line",
    "digest",
    "package_version",
    "read_artefact",
    "sha256_file",
    "stamp",
    "write_artefact",
    "write_atomic",
]

SCHEMA_VERSION = 2


def package_version() -> str:
    """Return the installed version of hepar, or "unknown" when it runs from a bare source tree."""
    try:
        return metadata.version("hepar")
    except metadata.PackageNotFoundError:
        return "unknown"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: equal values give equal text.

    Example:
        >>> canonical_json({"b": 1, "a": (2, 3)})
        '{"a":[2,3],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(*values: object) -> str:
    """Return the SHA-256 of JSON-able values as 64 hex digits; it does not depend on key order."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its place only when the block succeeds.

    The bytes are flushed to the disk before the rename, so a killed or failing run leaves either
    the old file or the new one, never half of one.

    Args:
        path: the file to write; its folder is made if missing.

    Yields:
        A binary stream.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file atomically; text is UTF-8 with the line ends it has."""
    with atomic_writer(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


def command_line() -> str:
    """Return the command that runs, as a user types it: no path of the program, quoted."""
    name = Path(sys.argv[0]).name
    return shlex.join(["hepar" if name == "__main__.py" else name, *sys.argv[1:]])


def stamp(
    command: str, *, seed: int | None = None, inputs: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the provenance record that every artefact carries.

    Args:
        command: the command line or call that makes the artefact.
        seed: the seed of every random choice in it, if any.
        inputs: name of an input -> its SHA-256.

    Returns:
        package, version, python, command, seed, inputs and created_utc (ISO 8601, seconds).
    """
    return {
        "package": "hepar",
        "version": package_version(),
        "python": platform.python_version(),
        "command": command,
        "seed": seed,
        "inputs": dict(inputs or {}),
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write_artefact(
    path: Path, kind: str, content: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write a JSON artefact: its kind, schema version, provenance, then the content's own keys."""
    document = {
        "kind": kind,
        "schema_version": SCHEMA_VERSION,
        "provenance": dict(provenance),
        **content,
    }
    write_atomic(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_artefact(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON artefact of a kind, and refuse anything else by name.

    Raises:
        DataError: the file is missing, is not JSON, is of another kind or schema version.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: expected a {kind} file, got none. Run the stage before."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a JSON {kind} file, got {error}.") from error
    got = document.get("kind") if isinstance(document, dict) else type(document).__name__
    if got != kind:
        raise DataError(f"{path}: expected a file of kind {kind!r}, got {got!r}.")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: expected schema version {SCHEMA_VERSION}, got "
            f"{document.get('schema_version')!r}, of another version of hepar. Make it anew."
        )
    return dict(document)
