"""The only download in hepar: a network's weights, from the model hub into the hub's own cache."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any

from hepar.backbone.catalog import BACKBONES
from hepar.backbone.weights import snapshots
from hepar.errors import BackboneError
from hepar.progress import track
from hepar.provenance import sha256_file, write_atomic

__all__ = ["fetch_weights"]

_HUB = "https://huggingface.co"
_PIECE = 1 << 20
_MOST_BYTES = 2 << 30


def fetch_weights(name: str) -> Path:
    """Download a network's weights, once; a broken transfer is taken up where it stopped.

    The endpoint is HF_ENDPOINT where set, and HF_HUB_OFFLINE=1 forbids it, as in the hub's own
    tools, which find the file too.

    Args:
        name: of a registered backbone.

    Returns:
        The safetensors file in the hub cache.

    Raises:
        BackboneError: offline, not reachable, not there, too large, or not what the hub announced.
    """
    spec = BACKBONES.get(name)
    if not spec.hub_id:
        raise BackboneError(
            f"weights of {name}: there are none; it is trained from scratch. Use --freeze none."
        )
    folder = snapshots(spec)
    for path in sorted(folder.glob("*/model.safetensors")):
        return path
    way_out = f"Or copy {spec.timm_name}.safetensors into a folder and set HEPAR_WEIGHTS to it."
    if os.environ.get("HF_HUB_OFFLINE", "") not in {"", "0"}:
        raise BackboneError(f"weights of {name}: HF_HUB_OFFLINE forbids a download. {way_out}")
    endpoint = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
    url = f"{endpoint}/{spec.hub_id}/resolve/main/model.safetensors"
    part = folder / "model.safetensors.part"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        revision, expected = _download(url, part)
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise BackboneError(f"weights of {name}: {url}: {reason}. {way_out}") from error
    got = sha256_file(part)
    if expected and got != expected:
        part.unlink()
        raise BackboneError(
            f"weights of {name}: expected SHA-256 {expected[:12]}... as the hub announced, got "
            f"{got[:12]}... The transfer was damaged; run the command again."
        )
    path = folder / revision / "model.safetensors"
    path.parent.mkdir(exist_ok=True)
    part.replace(path)
    write_atomic(folder.parent / "refs" / "main", revision)  # the hub's own tools look here first
    return path


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps what the hub itself said before it pointed to its storage."""

    def __init__(self) -> None:
        self.announced: Message | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Keep the first answer's headers and go on."""
        self.announced = self.announced or headers
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, part: Path) -> tuple[str, str]:
    """Bring `part` to its full length; return the revision and the announced SHA-256, if any."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    redirects = _Redirects()
    try:
        opener = urllib.request.build_opener(redirects)
        with opener.open(request, timeout=60) as response:
            have = have if response.status == 206 else 0
            length = int(response.headers.get("Content-Length") or 0)
            if not 0 < length + have <= _MOST_BYTES:
                raise ValueError(f"expected 1 byte to 2 GiB, got {length + have} announced")
            with part.open("ab" if have else "wb") as stream:
                for piece in track(_pieces(response), "download", total=-(-length // _PIECE)):
                    stream.write(piece)
                size = stream.tell()
            if size != length + have:
                raise ValueError(f"the transfer broke off at {size:,} of {length + have:,} bytes")
            return _announced(redirects.announced or response.headers)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send, or the file has changed
            part.unlink()
            return _download(url, part)
        raise


def _pieces(stream: IO[bytes] | HTTPResponse) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece


def _announced(headers: Message) -> tuple[str, str]:
    tag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").strip('W/"')
    revision = headers.get("X-Repo-Commit") or "main"
    if not re.fullmatch(r"[0-9a-zA-Z]{1,64}", revision):
        raise ValueError(f"expected a revision of letters and digits, got {revision!r}")
    return revision, tag if re.fullmatch(r"[0-9a-f]{64}", tag) else ""
